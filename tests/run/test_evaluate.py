"""The loss: each token predicted once, with the history that the page promises."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.program.random import random_program
from ternac.run import evaluate as ev
from ternac.run.numpy_executor import NumpyExecutor

PROGRAM = random_program(np.random.default_rng(2), d=10, m=16, layers=2, vocab=12)
EXECUTOR = NumpyExecutor(PROGRAM)


@given(st.integers(2, 5000), st.integers(1, 100), st.integers(0, 300))
def test_every_token_but_the_first_is_a_target_once(count: int, streams: int, context: int) -> None:
    parts = ev.cut(count, streams, context)
    covered = np.concatenate([np.arange(a, b) for a, b in zip(parts.first, parts.last, strict=True)])
    assert covered.tolist() == list(range(1, count))
    assert (parts.start == np.maximum(parts.first - 1 - context, 0)).all()
    sizes = parts.last - parts.first
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def slow_loss(tokens: np.ndarray, streams: int, context: int) -> float:
    """Each stream by itself, each prediction by the textbook."""
    parts, total = ev.cut(len(tokens), streams, context), 0.0
    for start, first, last in zip(parts.start, parts.first, parts.last, strict=True):
        state = EXECUTOR.open(1)
        for at in range(start, last - 1):
            logits = [int(v) / 2**PROGRAM.logit_scale_bits for v in EXECUTOR.step(state, [tokens[at]])[0]]
            if at + 1 >= first:
                top = max(logits)
                total += math.log(sum(math.exp(v - top) for v in logits)) - logits[tokens[at + 1]] + top
    return total / (len(tokens) - 1)


@pytest.mark.parametrize(
    ("count", "streams", "context"), [(2, 64, 256), (150, 1, 0), (301, 7, 16), (97, 96, 1)]
)
def test_loss_is_that_of_the_textbook(count: int, streams: int, context: int) -> None:
    tokens = np.random.default_rng(0).integers(0, 12, count)
    seen: list[int] = []
    loss = ev.evaluate(EXECUTOR, tokens, streams, context, seen.append)
    assert loss.tokens == count - 1 == seen[-1]
    assert loss.nats_per_token == pytest.approx(slow_loss(tokens, streams, context), rel=1e-12)
    assert loss.bits_per_byte == pytest.approx(loss.nats_per_token / math.log(2))


def test_enough_context_makes_the_streams_one_reader() -> None:
    tokens = np.random.default_rng(1).integers(0, 12, 120)
    one = ev.evaluate(EXECUTOR, tokens, streams=1)
    many = ev.evaluate(EXECUTOR, tokens, streams=1, context=120)
    assert one == many


def test_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="is empty"):
        ev.read_text(path)
    with pytest.raises(UsageError, match="cannot read .*none"):
        ev.read_text(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot read"):
        ev.read_text(tmp_path)
    with pytest.raises(UsageError, match="needs at least 2"):
        ev.evaluate(EXECUTOR, np.array([1]))
    with pytest.raises(UsageError, match="no tokenizer"):
        ev.encode(PROGRAM, b"abc")
    data = bytes(range(101))
    assert ev.split(data, "train") == data[:90]
    assert ev.split(data, "val") == data[90:]
