"""Spans and the range coder in C: the bits of `ternac.run.coding`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import ArchiveError, UsageError
from ternac.host.native.coder import NativeCoder, encode
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import load
from ternac.program.random import random_program
from ternac.run import coding
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.native.native_here import needs_native
from tests.run.test_coding import texts

pytestmark = needs_native
VECTORS = Path(__file__).parents[2] / "vectors" / "coding.json"


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text()))
def test_frozen_texts(case: dict[str, list[list[int]]]) -> None:
    ffi, lib = load()
    table = ffi.cast("uint16_t *", coding.EXP2.ctypes.data)
    span, bits = np.zeros(3, np.uint64), case["scale_bits"]
    decoder = ffi.new("tn_decoder *")
    held = bytes.fromhex(str(case["bytes"]))
    data = ffi.from_buffer("uint8_t[]", held)
    start = coding.RangeDecoder(held)
    decoder.code, decoder.range, decoder.at = start.code, start.range, start.at
    decoder.end, decoder.data = len(held), data
    for row, token, want in zip(case["logits"], case["tokens"], case["spans"], strict=True):
        logits = ffi.from_buffer("int16_t[]", np.array(row, np.int16))
        lib.tn_span_of(table, bits, logits, len(row), token, ffi.from_buffer("uint64_t[]", span))
        assert span.tolist() == want
        assert lib.tn_decode_one(table, bits, logits, len(row), decoder) == token
    assert encode(np.array(case["spans"], np.uint64)) == held


@settings(max_examples=100)
@given(texts())
def test_any_spans_give_the_same_bytes(text: list[tuple[int, int, int]]) -> None:
    spans = np.array(text, np.uint64).reshape(-1, 3)
    assert encode(spans) == coding.encode(spans)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-32768, 32767) | st.integers(-2, 2), min_size=1, max_size=300), st.integers(0, 31),
    st.integers(0, 299),
)  # fmt: skip
def test_any_logits_give_the_same_span(logits: list[int], bits: int, token: int) -> None:
    ffi, lib = load()
    data, span = np.array(logits, np.int16), np.zeros(3, np.uint64)
    token %= len(logits)
    lib.tn_span_of(
        ffi.cast("uint16_t *", coding.EXP2.ctypes.data), bits, ffi.from_buffer("int16_t[]", data), len(data),
        token, ffi.from_buffer("uint64_t[]", span),
    )  # fmt: skip
    assert span.tolist() == coding.spans(data[None], bits, [token])[0].tolist()


@pytest.mark.parametrize("threads", [1, 3])
def test_texts_are_coded_as_by_stepping_and_come_back(threads: int) -> None:
    from ternac.run.texts import ExecutorSessions, StepCoder

    rng = np.random.default_rng(3)
    program = random_program(rng, d=16, m=24, layers=2, vocab=40)
    texts = [rng.integers(0, 40, count) for count in (70, 1, 0, 300, 299, 2)]
    native, plain = NativeCoder(program, threads=threads), StepCoder(ExecutorSessions(NumpyExecutor(program)))
    coded = plain.encode(texts)
    assert native.encode(texts) == coded
    for coder in (native, plain):
        found = coder.decode([data for data, _ in coded], [len(text) for text in texts])
        assert [text.tolist() for text in found] == [text.tolist() for text in texts]
    native.close()


def test_a_text_is_read_in_parts_as_in_one() -> None:
    rng = np.random.default_rng(4)
    program = random_program(rng, d=16, m=24, layers=2, vocab=40)
    text, coder = rng.integers(0, 40, 90), NativeCoder(program, threads=1)
    whole = coder.begin().advance(text)
    parts = coder.begin()
    found = [parts.advance(part) for part in np.split(text, [1, 64])]
    assert np.concatenate(found).tolist() == whole.tolist()
    executor = NativeExecutor(program)
    with pytest.raises(UsageError, match="one length"):
        executor.feed_spans(executor.open(1), [1, 2], [0, 0], [1])


def test_bytes_of_no_text_are_refused_and_the_next_are_read() -> None:
    """All ones are the last token, which nothing predicts, and then more than any token's."""
    program = random_program(np.random.default_rng(5), d=16, m=24, layers=2, vocab=64)
    coder = NativeCoder(program, threads=1)
    good = coder.encode([np.arange(30)])[0].data
    with pytest.raises(ArchiveError, match="of no text"):
        coder.decode([b"\xff" * 400, good], [300, 30])
    assert coder.decode([good], [30])[0].tolist() == list(range(30))
