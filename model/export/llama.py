"""GGUF files for llama.cpp with as many ternary weights as an MMfreeLM of the same size, to measure both.

A layer of llama's architecture has four matrices of d x d and three of d x m, as a layer of MMfreeLM has,
and both have an output layer of vocab x d: the ternary weights that a token reads are as many. The trits are
random.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.mmfree import Shape

BLOCK = 256
HEAD = 64
"""Channels of an attention head."""
CONTEXT = 512


def write_llama(shape: Shape, path: Path, seed: int = 1) -> int:
    """Write a GGUF file of llama's architecture; returns the trits that a token reads.

    Raises UsageError if the widths are no multiples of a block.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    d, m, vocab = shape.d, shape.m, shape.vocab
    if d % BLOCK or m % BLOCK:
        raise UsageError(f"rows of {d} and {m} are no multiples of the {BLOCK} weights of a TQ2_0 block")
    rng = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(d)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(m)
    writer.add_head_count(d // HEAD)
    writer.add_head_count_kv(d // HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")
    trits = 0

    def ternary(name: str, rows: int, columns: int, reads: bool = True) -> None:
        nonlocal trits
        trits += rows * columns * reads
        data = tq2_0(rng, rows, columns)
        writer.add_tensor(name, data, raw_shape=data.shape, raw_dtype=GGMLQuantizationType.TQ2_0)

    ternary("token_embd.weight", vocab, d, reads=False)  # one row a token
    writer.add_tensor("output_norm.weight", np.ones(d, np.float32))
    ternary("output.weight", vocab, d)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", np.ones(d, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            ternary(f"{block}{name}.weight", d, d)
        ternary(f"{block}ffn_gate.weight", m, d)
        ternary(f"{block}ffn_up.weight", m, d)
        ternary(f"{block}ffn_down.weight", d, m)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return trits


def tq2_0(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Random blocks, uint8 [rows, bytes]: 64 bytes of four codes 0..2, then a scale of 16 bits."""
    codes = np.arange(81)
    legal = sum((codes // 3**j % 3) << 2 * j for j in range(4)).astype(np.uint8)
    blocks = np.empty((rows * columns // BLOCK, BLOCK // 4 + 2), np.uint8)
    blocks[:, :-2] = legal[rng.integers(0, 81, (len(blocks), BLOCK // 4), np.uint8)]
    blocks[:, -2:] = np.frombuffer(np.float16((2 / 3 * columns) ** -0.5).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)
