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
from ternac.program.numerics import saturate
from ternac.program.ops import KINDS, Constant, Dtype, Input, Integer, Op, OpKind, Role
from ternac.program.program import Program
from ternac.run import profile
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.real import RealExecutor
from ternac.run.sequence import SequenceExecutor

PAGE = Path(__file__).resolve().parents[2] / "docs" / "program.md"


def test_the_page_shows_the_table() -> None:
    shown = PAGE.read_text().partition("<!-- ops -->\n")[2].partition("\n<!-- /ops -->")[0]
    assert shown == table.op_table()


def test_every_function_takes_what_is_declared() -> None:
    """A kind whose NumPy meaning lacks a declared attribute or input would fail on its first token."""
    for kind in KINDS.values():
        assert (kind.numpy is None) == bool(kind.state), kind.name
        if kind.numpy is not None:
            names = list(inspect.signature(kind.numpy).parameters)
            inputs = len(kind.inputs) + kind.reads_token
            assert set(names[inputs:]) == {*kind.attrs, *(["dtype"] if kind.saturates else [])}, kind.name


def leak(x: Any, offset: Any, shift: int, dtype: str | None) -> Any:
    """LEAK: x - x * 2**-shift + offset, saturated."""
    x = np.asarray(x, np.int64)
    raw = x - (x >> shift) + offset
    return raw if dtype is None else saturate(raw, dtype).astype(np.int32)


LEAK = OpKind(
    "LEAK",
    "Forgets a part of a vector and adds a constant.",
    inputs=(Input("x", ("i8", "i16")),),
    attrs={
        "offset": Constant(Role("offset", np.int16, (None,), widened=np.int64)),
        "shift": Integer(1, 15, default=4),
        "dtype": Dtype(),
    },
    result="dtype[n]",
    numpy=leak,
    saturates=True,
)


def program(**attrs: Any) -> Program:
    """Token to a state that leaks; logits are the state."""
    rng = np.random.default_rng(1)
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 0}),
        Op("LOAD", "old", ("s",)),
        Op("LEAK", "kept", ("old",), {"offset": "o", "dtype": "i16", **attrs}),
        Op("ADD", "new", ("kept", "r"), {"dtype": "i16"}),
        Op("STORE", "s", ("new",)),
        Op("LEAK", "logits", ("new",), {"offset": "o", "shift": 1, "dtype": "i16"}),
    )
    consts = {
        "E": rng.integers(-128, 128, (6, 6)).astype(np.int8),
        "o": np.full(6, 20000, np.int16),
    }
    return Program("toy", 6, ops, consts, {"s": 6}, "logits", 4)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "LEAK", LEAK)


def test_a_kind_that_is_not_declared_is_unknown() -> None:
    with pytest.raises(IllegalProgram, match="op kind LEAK is unknown"):
        check(program())


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_legality() -> None:
    values = infer(program())
    assert (values["kept"].dtype, values["kept"].length) == ("i16", 6)
    with pytest.raises(IllegalProgram, match=r"op 2 \(LEAK kept\): shift is 16, outside 1\.\.15"):
        check(program(shift=16))
    with pytest.raises(IllegalProgram, match="unknown attribute colour"):
        check(program(colour=1))
    with pytest.raises(IllegalProgram, match="constant 'nowhere' does not exist"):
        check(program(offset="nowhere"))
    wide = dataclasses.replace(program(), consts={**program().consts, "o": np.zeros(6, np.int32)})
    with pytest.raises(IllegalProgram, match="constant o: dtype int32, offset needs int16"):
        check(wide)


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_files() -> None:
    assert loads(dumps(program())).hash == program().hash


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_the_numpy_executors() -> None:
    step, whole, real = (make(program()) for make in (NumpyExecutor, SequenceExecutor, RealExecutor))
    tokens = np.random.default_rng(2).integers(0, 6, (3, 20))
    state, twin, third = step.open(3), whole.open(3), real.open(3)
    one_by_one = [step.step(state, tokens[:, t]) for t in range(20)]
    assert np.array_equal(np.stack(one_by_one, axis=1), whole.run(twin, tokens))
    assert np.array_equal(one_by_one, [real.step(third, tokens[:, t]) for t in range(20)])
    assert np.array_equal(state, twin)
    assert np.array_equal(state, third)


@pytest.mark.usefixtures("declared")
def test_a_declaration_is_enough_for_the_profile() -> None:
    executor, observer = NumpyExecutor(program()), profile.Observer(program())
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
        table.refuse_unknown(program().ops, known, "this executor")
