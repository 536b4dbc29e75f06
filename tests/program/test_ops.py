"""A kind is declared once: what follows from a declaration, shown by a kind that only this test declares."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.errors import IllegalProgram, UnsupportedOp
from ternac.program import ops as table
from ternac.program.file import dumps, loads
from ternac.program.legality import check, infer
from ternac.program.ops import KINDS
from ternac.run import profile
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.real import RealExecutor
from ternac.run.sequence import SequenceExecutor
from tests.program.toy import LEAK, TALLY, leaky_program, tallying_program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "program.md"


def test_the_page_shows_the_table() -> None:
    shown = PAGE.read_text().partition("<!-- ops -->\n")[2].partition("\n<!-- /ops -->")[0]
    assert shown == table.op_table()


def test_every_function_takes_what_is_declared() -> None:
    """A kind whose NumPy meaning lacks a declared attribute or input would fail on its first token."""
    for kind in KINDS.values():
        assert (kind.numpy is None) == (bool(kind.state) or kind.structure), kind.name
        if kind.numpy is not None:
            names = list(inspect.signature(kind.numpy).parameters)
            inputs = len(kind.inputs) + kind.reads_token
            assert set(names[inputs:]) == {*kind.attrs, *(["dtype"] if kind.saturates else [])}, kind.name


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "LEAK", LEAK)
    monkeypatch.setitem(KINDS, "TALLY", TALLY)


def test_a_kind_that_is_not_declared_is_unknown() -> None:
    with pytest.raises(IllegalProgram, match="op kind LEAK is unknown"):
        check(leaky_program())


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_legality() -> None:
    values = infer(leaky_program())
    assert (values["kept"].dtype, values["kept"].length) == ("i16", 6)
    with pytest.raises(IllegalProgram, match=r"op 2 \(LEAK kept\): shift is 16, outside 1\.\.15"):
        check(leaky_program(shift=16))
    with pytest.raises(IllegalProgram, match="unknown attribute colour"):
        check(leaky_program(colour=1))
    with pytest.raises(IllegalProgram, match="constant 'nowhere' does not exist"):
        check(leaky_program(offset="nowhere"))
    wide = dataclasses.replace(leaky_program(), consts={**leaky_program().consts, "o": np.zeros(6, np.int32)})
    with pytest.raises(IllegalProgram, match="constant o: dtype int32, offset needs int16"):
        check(wide)


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_files() -> None:
    assert loads(dumps(leaky_program())).hash == leaky_program().hash


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_the_numpy_executors() -> None:
    step, whole, real = (make(leaky_program()) for make in (NumpyExecutor, SequenceExecutor, RealExecutor))
    tokens = np.random.default_rng(2).integers(0, 6, (3, 20))
    state, twin, third = step.open(3), whole.open(3), real.open(3)
    one_by_one = [step.step(state, tokens[:, t]) for t in range(20)]
    assert np.array_equal(np.stack(one_by_one, axis=1), whole.run(twin, tokens))
    assert np.array_equal(one_by_one, [real.step(third, tokens[:, t]) for t in range(20)])
    assert np.array_equal(state, twin)
    assert np.array_equal(state, third)


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_the_profile() -> None:
    executor, observer = NumpyExecutor(leaky_program()), profile.Observer(leaky_program())
    state, seen = executor.open(4), 0
    for _ in range(12):
        trace: dict[str, Any] = {}
        executor.step(state, [0, 1, 2, 3], trace)
        observer.see(trace)
        x = trace["new"].astype(np.int64)
        seen += int(np.count_nonzero(np.abs(x - (x >> 1) + 20000 + 0.5) > 32768))
    found = {value.name: value for value in observer.values()}
    assert seen > 0
    assert found["logits"].saturated == seen / (12 * 4 * 6)
    assert found["kept"].kind == "LEAK"


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_the_page() -> None:
    row = "| LEAK | x i8 or i16 | `offset`, `shift` 1..15 (default 4), `dtype` i8 or i16 | dtype[n] |"
    assert row in table.op_table()


@pytest.mark.usefixtures("declared")
def test_an_executor_without_a_kernel_names_it() -> None:
    known = [name for name in KINDS if name != "LEAK"]
    with pytest.raises(UnsupportedOp, match=r"op 2 \(LEAK kept\): this executor has no kernel for LEAK"):
        table.refuse_unknown(leaky_program().ops, known, "this executor")


@pytest.mark.usefixtures("declared")
def test_a_kind_may_change_a_state_in_place_and_leave_out_an_input() -> None:
    program = loads(dumps(tallying_program()))
    assert infer(program)["before"].length == 3
    executor = NumpyExecutor(program)
    state, rows = executor.open(2), program.consts["E"].astype(int)
    sums, tokens = np.zeros((2, 5), int), [[0, 1], [4, 4], [2, 0]]
    for ids in tokens:
        trace: dict[str, Any] = {}
        executor.step(state, ids, trace)
        assert np.array_equal(trace["before"], sums[:, [1, 1, 1]])
        sums = (sums + rows[ids]) % 1000
        assert np.array_equal(state[:, :5], sums)


@pytest.mark.usefixtures("declared")
def test_states_that_are_changed_in_place_are_a_recurrence() -> None:
    program = tallying_program()
    one, many, tokens = (
        NumpyExecutor(program),
        SequenceExecutor(program),
        np.array([[0, 4, 4, 1], [1, 2, 3, 3]]),
    )
    state, twin = one.open(2), many.open(2)
    assert np.array_equal(np.stack([one.step(state, ids) for ids in tokens.T], 1), many.run(twin, tokens))
    assert np.array_equal(state, twin)


@pytest.mark.usefixtures("declared")
def test_misuse_of_states_and_inputs_is_named() -> None:
    with pytest.raises(IllegalProgram, match=r"op 3 \(TALLY before\): state 'nowhere' does not exist"):
        check(tallying_program(sums="nowhere"))
    ops = list(tallying_program().ops)
    ops[3] = dataclasses.replace(ops[3], ins=("x", "places", "places"))
    with pytest.raises(IllegalProgram, match="3 inputs, needs 1 to 2"):
        check(dataclasses.replace(tallying_program(), ops=tuple(ops)))
    with pytest.raises(UnsupportedOp, match=r"op 3 \(TALLY before\): TALLY has no rule in real numbers"):
        RealExecutor(tallying_program())
