"""Layout of trits and embedding bytes in an engine's memory blocks, both ways."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry
from ternac.program.trit_code import DECODE, pack_code5

Words = npt.NDArray[np.uint32]


def weight_blocks(trits: npt.NDArray[np.int8], geometry: Geometry) -> Words:
    """Pack ``trits[word, column, lane]`` into ``[weight_blocks, word]``.

    A stage's trits of a word are in the order ``q * columns + column`` (lane ``q * chain + stage``). They
    make `Geometry.stage_bits` bits: with code ``two_bit`` trit ``t`` is bit ``2t`` = nonzero and ``2t + 1`` =
    negative; with ``five``, trits ``5i`` to ``5i + 4`` are byte i in the code of
    `ternac.program.trit_code`, the last byte padded with zero trits. These bits are cut into blocks of
    ``weight_block_bits``, the last one padded with zeros. So a block serves the same activations in all
    columns, which keeps both close to it.
    """
    g = geometry
    depth = trits.shape[0]
    by_stage = (
        trits.reshape(depth, g.columns, g.chains, g.chain)
        .transpose(3, 0, 2, 1)
        .reshape(g.chain, depth, g.columns * g.chains)
    )
    bits = np.zeros((g.chain, depth, g.weight_blocks_per_stage * g.weight_block_bits), np.uint32)
    used = g.stage_bits
    if g.weight_code == "two_bit":
        bits[..., 0:used:2] = by_stage != 0
        bits[..., 1:used:2] = by_stage < 0
    else:
        padded = np.zeros((g.chain, depth, used // 8 * 5), np.int8)
        padded[..., : by_stage.shape[2]] = by_stage
        codes = pack_code5(padded).reshape(g.chain, depth, used // 8)
        bits[..., :used] = np.unpackbits(codes, axis=2, bitorder="little")
    groups = bits.reshape(g.chain, depth, g.weight_blocks_per_stage, g.weight_block_bits)
    words = (groups << np.arange(g.weight_block_bits, dtype=np.uint32)).sum(-1, dtype=np.uint32)
    return words.transpose(0, 2, 1).reshape(g.weight_blocks, depth)


def weight_trits(blocks: Words, geometry: Geometry) -> npt.NDArray[np.int8]:
    """Return ``trits[word, column, lane]``, the inverse of `weight_blocks`; any bits have a meaning."""
    g = geometry
    depth = blocks.shape[1]
    bits = blocks[..., None] >> np.arange(g.weight_block_bits, dtype=np.uint32) & 1
    per_stage = g.weight_blocks_per_stage
    stages = bits.reshape(g.chain, per_stage, depth, g.weight_block_bits).transpose(0, 2, 1, 3)
    whole = stages.reshape(g.chain, depth, per_stage * g.weight_block_bits)
    flat = whole[..., : g.stage_bits].astype(np.uint8)
    if g.weight_code == "two_bit":
        trits = flat[..., 0::2].astype(np.int8) * (1 - 2 * flat[..., 1::2].astype(np.int8))
    else:
        codes = np.packbits(flat, axis=2, bitorder="little")
        trits = DECODE[codes].reshape(g.chain, depth, g.stage_bits // 8 * 5)[..., : g.columns * g.chains]
    by_lane = trits.reshape(g.chain, depth, g.chains, g.columns).transpose(1, 3, 2, 0)
    return by_lane.reshape(depth, g.columns, g.lanes)


def stream_blocks(trits: npt.NDArray[np.int8], geometry: Geometry) -> Words:
    """Pack ``trits[word, column, lane]`` for a geometry that streams, into ``[blocks, word of 16 bits]``.

    A weight word's bytes hold five trits each in the code of `ternac.program.trit_code`: those of stage 0,
    then those of stage 1; a stage's trits in the order of `weight_blocks`. The words are cut into blocks of
    64 Ki.
    """
    g = geometry
    depth = trits.shape[0]
    by_stage = trits.reshape(depth, g.columns, g.chains, g.chain).transpose(0, 3, 2, 1)
    flat = pack_code5(by_stage).view("<u2").astype(np.uint32)
    if len(flat) <= 1 << 16:
        return flat[None]
    blocks = np.zeros((-(-len(flat) >> 16), 1 << 16), np.uint32)
    blocks.reshape(-1)[: len(flat)] = flat
    return blocks


def stream_trits(blocks: Words, geometry: Geometry) -> npt.NDArray[np.int8]:
    """Return the inverse of `stream_blocks`, with zero words at the end if the last block is not full."""
    g = geometry
    flat = blocks.reshape(-1).astype("<u2")
    codes = flat[: len(flat) // g.stream_words * g.stream_words].view(np.uint8)
    trits = DECODE[codes].reshape(-1, g.chain, g.chains, g.columns)
    return trits.transpose(0, 3, 2, 1).reshape(-1, g.columns, g.lanes)


def embed_blocks(table: npt.NDArray[np.int8], geometry: Geometry, stride: int) -> Words:
    """Pack an embedding ``[V, d]`` into ``[blocks, V * stride]``; token ``t`` starts at ``t * stride``."""
    g = geometry
    tokens, d = table.shape
    full = np.zeros((tokens, stride * g.columns), np.int8)
    full[:, :d] = table
    per_column = full.reshape(tokens * stride, g.columns).view(np.uint8).astype(np.uint32)
    group = g.embed_block_bits // 8
    parts = per_column.reshape(-1, g.columns // group, group) << (8 * np.arange(group, dtype=np.uint32))
    return parts.sum(-1, dtype=np.uint32).T.copy()


def to_slots(vector: npt.NDArray[np.int32], geometry: Geometry, parts: int = 1) -> Words:
    """Return a vector as bank words ``[columns, slots]`` of 16 bits, padded with zeros.

    Each of its equal ``parts`` begins at a slot.
    """
    g, length = geometry, len(vector) // parts
    full = np.zeros((parts, g.slots(length) * g.columns), np.int32)
    full[:, :length] = vector.reshape(parts, length)
    return (full.reshape(-1, g.columns).T & 0xFFFF).astype(np.uint32)


def from_slots(words: npt.NDArray[np.uint32], length: int, parts: int = 1) -> npt.NDArray[np.int32]:
    """Return ``length`` elements of bank words ``[columns, slots]``, sign-extended from 16 bits; the inverse
    of `to_slots`.
    """
    flat = words.T.reshape(parts, -1)[:, : length // parts].reshape(-1)
    return flat.astype(np.uint16).view(np.int16).astype(np.int32)


def row_blocks(rows: npt.NDArray[np.int8], geometry: Geometry, step: int) -> Words:
    """Return rows ``[R, D]`` as words of row RAM ``[columns, R << step]``; row r begins at ``r << step``."""
    g = geometry
    count, width = rows.shape
    full = np.zeros((count, g.columns << step), np.int8)
    full[:, :width] = rows
    words = full.view(np.uint8).reshape(count << step, g.columns)
    return words.T.astype(np.uint32)


def row_values(words: Words, width: int, geometry: Geometry, step: int) -> npt.NDArray[np.int8]:
    """Return the rows ``[R, width]`` in words ``[columns, R << step]``: the inverse of `row_blocks`."""
    flat = words.T.astype(np.uint8).view(np.int8)
    return flat.reshape(-1, geometry.columns << step)[:, :width].copy()


def row_step(width: int, geometry: Geometry) -> int:
    """Return log2 of the row words that a row of ``width`` elements takes: a power of two of slots."""
    return (geometry.slots(width) - 1).bit_length()
