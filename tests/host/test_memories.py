"""Programs with memories on everything that is not NumPy: run, or refused by name, never computed wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import preset
from ternac.errors import UnsupportedOp
from ternac.host.executors import open_executor, why_missing
from ternac.program.ops import MEMORY_KINDS, Op
from ternac.program.program import Program
from ternac.program.random import random_program
from tests.program.memory_toy import loop_program, memory_program

PLAIN = random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=9)


def with_kind(kind: str) -> Program:
    """A program that uses that kind of op and no other of memories."""
    last = len(PLAIN.ops)
    op, extra = {
        "WINNERS": (Op(kind, "x", ("r.e",), {"groups": 2}), {}),
        "SUB": (Op(kind, "x", ("r.e", "r.e"), {"dtype": "i8"}), {}),
        "MEM_READ": (
            Op(kind, "x", ("n",), {"rows": "rows", "bits": 2, "shared": 1}),
            {"rows": np.ones((4, 3), np.int8)},
        ),
        "TOKEN": (Op(kind, "x"), {}),
        "LOOP": (Op(kind, "x", (), {"first": last - 1, "length": 1, "times": 2, "most": 2, "levels": 0}), {}),
    }[kind]
    fields = {name: getattr(PLAIN, name) for name in ("states", "logits", "logit_scale_bits", "meta")}
    return Program("one", 9, (*PLAIN.ops, op), {**PLAIN.consts, **extra}, **fields)


PROGRAMS = {kind: with_kind(kind) for kind in MEMORY_KINDS if kind not in ("MASK", "MEM_UPDATE")}
PROGRAMS |= {"MEM_UPDATE": memory_program(), "LOOP of rows": loop_program()}


def lacking(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(why_missing(name)), reason=f"{name}: {why_missing(name)}")


REFUSING: list[object] = [
    pytest.param(lambda p: open_executor("native", p), id="native", marks=lacking("native")),
    pytest.param(lambda p: open_executor("gpu:cpu", p), id="gpu", marks=lacking("torch")),
    pytest.param(lambda p: open_executor("torch", p, path=Path("none")), id="torch"),
    pytest.param(lambda p: open_executor("isa", p, geometry=preset("tiny")), id="isa"),
    pytest.param(lambda p: compile_program(p, preset("tiny"), fill=False), id="compiler"),
]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("make", REFUSING)
def test_what_has_no_kernel_refuses_by_name(make: Callable[[Program], object], name: str) -> None:
    with pytest.raises(UnsupportedOp, match=r"op \d+ \(\w+ [\w.]+\): .* has no kernel for"):
        make(PROGRAMS[name])


def test_the_plain_program_is_refused_by_none() -> None:
    """The refusals above are of the op that was added."""
    open_executor("isa", PLAIN, geometry=preset("tiny"))
    compile_program(PLAIN, preset("tiny"), fill=False)


@lacking("torch")
def test_qonnx_export_refuses_by_name() -> None:
    pytest.importorskip("onnx")
    from ternac.model.export.qonnx import to_onnx

    for program in PROGRAMS.values():
        with pytest.raises(UnsupportedOp, match="QONNX export has no kernel for"):
            to_onnx(program)
