"""Sequences against the token-by-token executor: logits, every value, the state, over cuts of the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sequence import SequenceExecutor


@pytest.mark.parametrize("make", [random_program, random_mmfree, random_memory_program])
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_numpy(make: Callable[..., Program], seed: int) -> None:
    rng = np.random.default_rng(seed)
    agree(make(rng), rng)


def agree(program: Program, rng: np.random.Generator) -> None:
    one, many = NumpyExecutor(program), SequenceExecutor(program)
    tokens = rng.integers(0, program.vocab, (3, 7))
    state, other = one.open(3), many.open(3)
    want: dict[str, list[Any]] = {}
    for t in range(7):
        trace: dict[str, Any] = {}
        one.step(state, tokens[:, t], trace)
        for name, values in trace.items():
            want.setdefault(name, []).append(values)
    seen: dict[str, list[Any]] = {name: [] for name in want}
    logits = [
        many.run(other, part, lambda name, values: seen[name].append(values))
        for part in (tokens[:, :4], tokens[:, 4:5], tokens[:, 5:])
    ]
    for name, series in want.items():
        assert np.array_equal(np.stack(series, axis=1), np.concatenate(seen[name], axis=1)), name
    assert np.array_equal(np.concatenate(logits, axis=1), np.stack(want[program.logits], axis=1))
    assert np.array_equal(state, other)


def test_a_state_may_be_used_in_any_order() -> None:
    program = random_mmfree(np.random.default_rng(2), d=4, m=4, layers=1, vocab=5)
    again = (Op("LOAD", "more", ("0.state",)), Op("ADD", "twice", ("more", "more"), {"dtype": "i16"}))
    back = (
        Op("STORE", "0.state", ("twice",)),
        Op("LOAD", "idle.v", ("idle",)),
        Op("STORE", "late", ("more",)),
    )
    states = {**program.states, "idle": 3, "late": 4}
    program = dataclasses.replace(program, ops=(*program.ops, *again, *back), states=states)
    agree(program, np.random.default_rng(3))


def test_refuses_bad_tokens() -> None:
    program = random_mmfree(np.random.default_rng(2), d=4, m=4, layers=1, vocab=5)
    executor = SequenceExecutor(program)
    with pytest.raises(UsageError, match=r"not in 0\.\.4"):
        executor.run(executor.open(1), np.array([[5]]))
    with pytest.raises(UsageError, match="not integers"):
        executor.run(executor.open(2), np.array([[1]]))
