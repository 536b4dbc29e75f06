"""First divergence: what is named, and in which order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ternac.errors import Mismatch
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.compare import first_divergence, scalar_divergence
from ternac.run.numpy_executor import NumpyExecutor
from tests.program.memory_toy import memory_program

PROGRAM: Program = random_program(np.random.default_rng(4), d=7, m=9, layers=2, vocab=5)


def _step() -> tuple[dict[str, Any], dict[str, Any]]:
    executor = NumpyExecutor(PROGRAM)
    state = executor.open()
    trace: dict[str, Any] = {}
    executor.step(state, np.array([3]), trace)
    return trace, {name: words.copy() for name, words in executor.state_dict(state).items()}


def test_equal() -> None:
    trace, states = _step()
    again, states_again = _step()
    assert first_divergence(PROGRAM, 0, trace, again, states=states, got_states=states_again) is None
    some = {name: value[0] for name, value in list(again.items())[::3]}
    assert first_divergence(PROGRAM, 0, trace, some) is None


def test_names_the_first_op_and_element() -> None:
    trace, states = _step()
    bad, bad_states = _step()
    bad["1.g"][0, 2] += 1
    bad["1.g"][0, 5] -= 3
    bad["1.n2"][0, 0] += 1
    bad_states["1.state"][0, 0] += 1
    shuffled = dict(reversed(bad.items()))
    found = first_divergence(PROGRAM, 12, trace, shuffled, states=states, got_states=bad_states)
    assert found is not None
    index = next(i for i, op in enumerate(PROGRAM.ops) if op.out == "1.g")
    expected = int(trace["1.g"][0, 2])
    assert str(found) == (
        f"first divergence at token 12, layer 1, value '1.g' (op {index} REQUANT), element 2: "
        f"numpy has {expected}, rtl has {expected + 1} (2 of 7 elements differ)"
    )
    assert found.to_json()["layer"] == "1" and found.to_json()["element"] == 2
    with pytest.raises(Mismatch, match="token 12, layer 1, value '1.g'"):
        raise found.error()


def test_states_and_logits() -> None:
    trace, states = _step()
    bad, bad_states = _step()
    bad_states["0.state"][0, 6] ^= 1
    found = first_divergence(
        PROGRAM, 0, trace, bad, states=states, got_states=bad_states, executors=("a", "b")
    )
    assert found is not None and (found.kind, found.name, found.element) == ("state", "0.state", 6)
    assert "STORE" in found.op and "a has" in str(found)
    bad[PROGRAM.logits][0, 1] += 1
    found = first_divergence(PROGRAM, 0, trace, bad)
    assert found is not None and found.kind == "logits"


def test_refuses_what_cannot_be_compared() -> None:
    trace, states = _step()
    with pytest.raises(ValueError, match="vectors of 7 and of 3 elements"):
        first_divergence(PROGRAM, 0, trace, {"0.c": np.zeros(3)})
    with pytest.raises(KeyError, match="states differ in name"):
        first_divergence(PROGRAM, 0, trace, trace, states=states, got_states={})


def test_scalar() -> None:
    assert scalar_divergence(1, "next token", 5, 5) is None
    found = scalar_divergence(1, "next token", 5, 6)
    assert found is not None and "token 1, next token" in str(found)


def test_a_row_that_differs_is_found_at_the_update_that_wrote_it() -> None:
    program = memory_program()
    executor = NumpyExecutor(program)
    state, trace = executor.open(), {}
    executor.step(state, np.array([3]), trace)
    states = {name: words.copy() for name, words in executor.state_dict(state).items()}
    bad = {name: words.copy() for name, words in states.items()}
    bad["M"][0, 8, 1] ^= 1
    found = first_divergence(program, 0, trace, trace, states=states, got_states=bad)
    assert found is not None
    assert (found.kind, found.name, found.op, found.element) == ("state", "M", "op 11 MEM_UPDATE", 8 * 6 + 1)
    assert first_divergence(program, 0, trace, trace, states=states, got_states=states) is None
