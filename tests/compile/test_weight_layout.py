"""Trits in weight blocks: there and back in both codes, and where the bits are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.compile.layout import weight_blocks, weight_trits
from ternac.compile.machine import Machine
from ternac.errors import DoesNotFit
from ternac.program.random import random_program
from ternac.program.trit_code import DECODE
from ternac.run.numpy_executor import NumpyExecutor


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    columns, chain = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    lanes = int(np.lcm(columns, chain)) * draw(st.integers(1, 3))
    return replace(
        PRESETS["tiny"], name="drawn", columns=columns, lanes=lanes, chain=chain, weight_depth=512,
        weight_block_bits=draw(st.integers(7, 18)), weight_code=draw(st.sampled_from(("two_bit", "five"))),
    )  # fmt: skip


@given(geometries(), st.integers(0, 5), st.integers(0, 1 << 32))
def test_round_trip(geometry: Geometry, depth: int, seed: int) -> None:
    g = geometry
    trits = np.random.default_rng(seed).integers(-1, 2, (depth, g.columns, g.lanes)).astype(np.int8)
    blocks = weight_blocks(trits, g)
    assert blocks.shape == (g.weight_blocks, depth)
    assert not (blocks >> g.weight_block_bits).any()
    assert np.array_equal(weight_trits(blocks, g), trits)


def test_every_byte_means_what_the_code_says() -> None:
    """Also those that packing never makes."""
    g = replace(PRESETS["tiny"], columns=1, lanes=5, chain=1, weight_block_bits=8, weight_code="five")
    trits = weight_trits(np.arange(256, dtype=np.uint32)[None], g)
    assert np.array_equal(trits[:, 0], DECODE)


def test_bytes_lie_across_blocks() -> None:
    """280 trits of a stage are 56 bytes are 25 blocks of 18 bits, of which two bits are left."""
    g = PRESETS["ulx3s-85f-dense"]
    assert (g.stage_bits, g.weight_blocks_per_stage) == (448, 25)
    trits = np.zeros((1, g.columns, g.lanes), np.int8)
    # stage 1, trits 10..14 = byte 2, chain 1: bits 16..23, the last two of block 0 and six of block 1
    trits[0, 0:5, 6] = -1
    blocks = weight_blocks(trits, g)
    first = g.weight_blocks_per_stage
    byte = int(blocks[first, 0]) >> 16 | int(blocks[first + 1, 0]) << 2
    assert DECODE[byte].tolist() == [-1] * 5
    assert np.count_nonzero(blocks) == 2


def test_the_hash_of_a_geometry_without_the_code_is_what_it_was() -> None:
    """Shipped bitstreams report these."""
    assert PRESETS["ulx3s-85f"].hash.hex() == "202254e1d53e465e"
    assert PRESETS["icebreaker"].hash.hex() == "1612d31a14901681"
    assert PRESETS["ulx3s-85f-sdram"].hash.hex() == "38d5d926c699fd4d"
    assert replace(PRESETS["tiny"], weight_code="five").hash != PRESETS["tiny"].hash


def test_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown weight_code 'four'"):
        replace(PRESETS["tiny"], weight_code="four")
    with pytest.raises(ValueError, match="streamed weights are five trits a byte"):
        replace(PRESETS["ulx3s-85f-sdram"], weight_code="two_bit")


def test_pairs_stay_within_a_stage() -> None:
    """53 blocks of a stage become 54, so that no block RAM serves two stages."""
    wide = replace(PRESETS["ulx3s-85f"], weight_code="five", lanes=204, chain=4, fold=3)
    assert -(-wide.stage_bits // wide.weight_block_bits) % 2
    assert wide.weight_blocks_per_stage % 2 == 0


def test_a_larger_model_fits_fewer_block_rams() -> None:
    """1,329,440 trits: more than the two-bit presets hold; the compiled image runs it like NumPy."""
    program = random_program(np.random.default_rng(1), 140, 840, 3, 256)
    dense = PRESETS["ulx3s-85f-dense"]
    assert program.trits == 1_329_440 > PRESETS["ulx3s-85f"].weight_capacity == 1_179_648
    assert dense.weight_capacity == 1_433_600
    assert dense.weight_blocks == 125
    assert PRESETS["ulx3s-85f"].weight_blocks == 2 * 128  # two to a block RAM
    with pytest.raises(DoesNotFit, match="weight words"):
        compile_program(program, PRESETS["ulx3s-85f"])
    machine, executor = Machine(compile_program(program, dense)), NumpyExecutor(program)
    state = executor.open()
    for token in (3, 200, 7):
        logits = executor.step(state, np.array([token]))[0]
        assert np.array_equal(machine.step(token), logits)
