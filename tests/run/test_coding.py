"""The rule of frequencies, costs and the range coder against the frozen vectors and against themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import ArchiveError
from ternac.run.coding import (
    UNIT,
    RangeDecoder,
    RangeEncoder,
    costs,
    encode,
    frequencies,
    spans,
    uniform,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "coding.json"
CASES: list[dict[str, Any]] = json.loads(VECTORS.read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['logits'][0])}-{case['scale_bits']}")
def test_frozen_texts_are_coded_as_they_were(case: dict[str, Any]) -> None:
    found = spans(case["logits"], case["scale_bits"], case["tokens"])
    assert found.tolist() == case["spans"]
    assert costs(found).tolist() == case["costs"]
    assert encode(found).hex() == case["bytes"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{len(case['logits'][0])}-{case['scale_bits']}")
def test_frozen_bytes_are_read_as_they_were(case: dict[str, Any]) -> None:
    decoder = RangeDecoder(bytes.fromhex(case["bytes"]))
    for row, token in zip(case["logits"], case["tokens"], strict=True):
        assert decoder.token(frequencies(row, case["scale_bits"]).cumsum()) == token


def test_a_changed_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from ternac.run import coding

    table = coding.EXP2.copy()
    table[54] += 1
    monkeypatch.setattr(coding, "EXP2", table)
    found = [spans(case["logits"], case["scale_bits"], case["tokens"]).tolist() for case in CASES]
    assert found != [case["spans"] for case in CASES]


@st.composite
def texts(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Spans of every shape: of all, of nearly nothing, at either end."""
    found = []
    for _ in range(draw(st.integers(0, 60))):
        total = draw(st.integers(1, 1 << 40) | st.integers(1, 300))
        size = draw(st.integers(1, total) | st.just(total) | st.just(1))
        start = draw(st.integers(0, total - size) | st.just(0) | st.just(total - size))
        found.append((start, size, total))
    return found


@settings(max_examples=200)
@given(texts())
def test_any_spans_come_back_in_hardly_more_than_they_cost(text: list[tuple[int, int, int]]) -> None:
    coder = RangeEncoder()
    for span in text:
        coder.put(*span)
    data = coder.finish()
    decoder = RangeDecoder(data)
    for start, size, total in text:
        assert start <= decoder.position(total) < start + size
        decoder.take(start, size, total)
    ideal = sum(math.log2(total) - math.log2(size) for _, size, total in text)
    assert 8 * len(data) <= ideal + len(text) * 2**-7 + 16


@settings(max_examples=100)
@given(st.lists(st.integers(1, 1 << 40), min_size=1, max_size=50))
def test_costs_are_logarithms_rounded_to_less_than_two_units(sizes: list[int]) -> None:
    total = 1 << 40
    found = costs(np.array([[0, size, total] for size in sizes], np.uint64))
    for size, cost in zip(sizes, found.tolist(), strict=True):
        assert 0 <= cost - UNIT * (40 - math.log2(size)) < 2.5


def test_a_token_that_nothing_predicts_costs_the_same_as_any() -> None:
    assert costs(uniform([0, 5, 255], 256)).tolist() == [8 * UNIT] * 3


def test_bytes_of_no_text_are_refused() -> None:
    """All ones stand above the last token of a total that does not divide the range."""
    with pytest.raises(ArchiveError, match="of no text"):
        RangeDecoder(b"\xff" * 7).position((1 << 39) + 3)
