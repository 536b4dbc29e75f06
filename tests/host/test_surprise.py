"""Surprise of lines: the same integers by every executor, thresholds, quantiles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.host.coder import open_coder
from ternac.host.native.library import why_missing
from ternac.run.coding import UNIT
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.surprise import BYTE_COST, Line, Surprise, Threshold, quantile
from tests.host.archives import plain_coder, program

LINES = [b"a line of text\n", b"another\n", b"\n", b"\xff\x00\n", b"no end"]


def test_a_line_costs_what_its_tokens_do_by_the_logits() -> None:
    """To a thousandth of a bit, by softmax in float64 over the text as one."""
    surprise, executor = Surprise(plain_coder()), NumpyExecutor(program())
    found = [surprise.read(line) for line in LINES]
    state, text = executor.open(1), b"".join(LINES)
    each = [8.0]
    for before, token in zip(text, text[1:], strict=False):
        logits = executor.step(state, [before])[0] * 2.0 ** -program().logit_scale_bits
        each.append(min(24.1, float(np.logaddexp.reduce(logits) - logits[token]) / math.log(2)))
    at = 0
    for line, one in zip(LINES, found, strict=True):
        want = each[at : at + len(line)]
        assert (one.bytes, one.tokens, one.readable) == (len(line), len(line), True)
        if max(want) < 20:  # rarer ones have the least frequency
            assert one.cost / UNIT == pytest.approx(sum(want), abs=0.02 * len(line))
            assert one.peak / UNIT == pytest.approx(max(want), abs=0.02)
        at += len(line)


@pytest.mark.parametrize("name", ["native", "gpu:cpu"])
def test_every_executor_gives_the_same_integers(name: str) -> None:
    if name == "native" and why_missing():
        pytest.skip(why_missing())
    if name != "native":
        pytest.importorskip("torch")
    one, other = Surprise(plain_coder()), Surprise(open_coder(name, program()))
    assert [one.read(line) for line in LINES] == [other.read(line) for line in LINES]


def test_bytes_in_no_token_cost_eight_bits_and_change_nothing() -> None:
    from tests.host.test_compress import with_tokenizer

    small = with_tokenizer(program_of_words())
    one, other = Surprise(plain_coder(small)), Surprise(plain_coder(small))
    first = one.read(b"the fox\n")
    bad = one.read(b"\xff\xff\n")
    assert bad == Line(3, 0, 3 * BYTE_COST, BYTE_COST, False)
    assert other.read(b"the fox\n") == first
    assert one.read(b"the dog\n") == other.read(b"the dog\n")


def program_of_words():  # type: ignore[no-untyped-def]
    from ternac.program.random import random_program

    return random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=64)


@pytest.mark.parametrize(("part", "want"), [(1e-9, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.95, 10), (1.0, 10)])
def test_a_quantile_is_one_of_the_values(part: float, want: int) -> None:
    values = [3, 1, 2, 10, 4, 5, 9, 8, 7, 6]
    found = quantile(values, part)
    assert found == want
    assert sum(value <= found for value in values) >= part * len(values) - 1e-6


def test_no_quantile() -> None:
    for values, part in (([], 0.5), ([1], 0.0), ([1], 1.1)):
        with pytest.raises(UsageError, match="no quantile"):
            quantile(values, part)


def test_a_threshold_is_of_its_program(tmp_path: Path) -> None:
    made = Threshold("peak", 5 * UNIT, "ab" * 32, 0.99, 700)
    made.save(tmp_path / "t.json")
    assert Threshold.load(tmp_path / "t.json", "ab" * 32) == made
    with pytest.raises(UsageError, match="was made with the program abab"):
        Threshold.load(tmp_path / "t.json", "cd" * 32)
    line = Line(10, 10, 900 * UNIT, 5 * UNIT, True)
    assert not made.exceeded(line)
    assert Threshold("bits", 5 * UNIT).exceeded(line)
    assert line.measure("rate") == 90 * UNIT
    for text in ("{}", "[]", '{"measure": "bits"}', "x"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UsageError):
            Threshold.load(tmp_path / "bad.json", "ab" * 32)
