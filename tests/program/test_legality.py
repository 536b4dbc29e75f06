"""Every rule of the legality check, each by a program that breaks that rule only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.errors import IllegalProgram
from ternac.program.legality import check, shapes
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_program

BASE = random_program(np.random.default_rng(5), d=6, m=10, layers=1, vocab=7)
BASE256 = random_program(np.random.default_rng(1), d=4, m=4, layers=1, vocab=256)


def with_op(program: Program, at: str, **change: Any) -> Program:
    """The program with fields of the op at ``at`` replaced; ``attrs`` are merged, None removes one."""
    ops = []
    for op in program.ops:
        if op.out == at:
            attrs = {**op.attrs, **change.get("attrs", {})}
            attrs = {key: value for key, value in attrs.items() if value is not None}
            op = dataclasses.replace(op, **{**change, "attrs": attrs})
        ops.append(op)
    return dataclasses.replace(program, ops=tuple(ops))


def with_const(program: Program, name: str, array: np.ndarray) -> Program:
    return dataclasses.replace(program, consts={**program.consts, name: array})


def edit(name: str, change: Callable[[np.ndarray], Any]) -> Program:
    array = BASE.consts[name].copy()
    change(array)
    return with_const(BASE, name, array)


def op(out: str, **attrs: Any) -> Program:
    return with_op(BASE, out, attrs=attrs)


def ins(out: str, *names: str) -> Program:
    return with_op(BASE, out, ins=names)


def insert(new: Op) -> Program:
    """The program with an op before the last one."""
    return dataclasses.replace(BASE, ops=(*BASE.ops[:-1], new, BASE.ops[-1]))


def factor(entry: int) -> Program:
    """The program with a MUL whose second factor comes from a table that holds ``entry``."""
    new = (
        Op("TABLE", "t", ("n",), {"table": "small"}),
        Op("MUL", "p", ("t", "t"), {"shift": 0, "dtype": "i16"}),
    )
    grown = with_const(BASE, "small", np.array([entry] + [0] * 255, np.int16))
    return dataclasses.replace(grown, ops=(*BASE.ops, *new))


replace = dataclasses.replace
CASES = {
    "unknown kind": (
        with_op(BASE, "0.n1", kind="SOFTMAX"),
        r"op 1 \(SOFTMAX 0.n1\): op kind SOFTMAX is unknown",
    ),
    "unknown attribute": (op("0.n1", colour=3), "unknown attribute colour"),
    "missing attribute": (op("0.n1", pre=None), "attribute pre is missing"),
    "attribute type": (op("0.n1", pre="3"), r"pre is '3', outside 0\.\.15"),
    "boolean attribute": (op("0.n1", pre=True), "pre is True"),
    "norm pre": (op("0.n1", pre=16), r"pre is 16, outside 0\.\.15"),
    "norm post": (op("0.n1", post=-1), r"post is -1, outside 0\.\.31"),
    "norm exponent": (op("0.n1", post=24), r"post \+ E can exceed 31 with 6 elements"),
    "gather shift": (op("r.e", shift=9), r"shift is 9, outside 0\.\.8"),
    "requant shift": (op("0.f.pre", shift=32), r"shift is 32, outside 0\.\.31"),
    "requant dtype": (op("0.f.pre", dtype="i32"), "dtype is 'i32'"),
    "multiplier": (op("0.f.pre", multiplier=0), "multiplier is 0"),
    "missing constant": (op("0.f", table="nowhere"), "constant 'nowhere' does not exist"),
    "constant of another role": (op("0.f", table="rsqrt.0"), "rsqrt.0 is already used as norm"),
    "unused constant": (with_const(BASE, "more", np.zeros(256, np.int16)), "constant more: no op uses it"),
    "constant dtype": (with_const(BASE, "silu", np.zeros(256, np.int32)), "constant silu: dtype int32"),
    "table size": (with_const(BASE, "silu", np.zeros(255, np.int16)), "a table has 256 entries"),
    "matrix rank": (with_const(BASE, "0.Wf", np.zeros(36, np.int8)), "needs two sides"),
    "empty matrix": (with_const(BASE, "0.Wf", np.zeros((0, 6), np.int8)), r"two sides in 1\.\."),
    "long matrix": (with_const(BASE, "0.Wf", np.zeros((65536, 1), np.int8)), r"two sides in 1\.\.65535"),
    "no trit": (edit("0.Wf", lambda a: a.__setitem__((0, 0), 2)), "a weight is not in -1, 0, 1"),
    "no trit, negative": (edit("head", lambda a: a.__setitem__((0, 0), -2)), "constant head: a weight"),
    "columns": (
        with_const(BASE, "0.Wf", np.zeros((6, 5), np.int8)),
        "matrix 0.Wf has 5 columns, input has 6",
    ),
    "rows": (with_const(BASE, "0.Wf", np.zeros((5, 6), np.int8)), r"LERP 0.h.*unequal length"),
    "embedding rows": (with_const(BASE, "embed", np.zeros((8, 6), np.int8)), "8 rows, vocabulary is 7"),
    "lerp weight": (edit("sigmoid", lambda a: a.__setitem__(0, 256)), r"weight 0.f can be .*needs 0\.\.255"),
    "negative lerp weight": (edit("sigmoid", lambda a: a.__setitem__(0, -1)), "weight 0.f can be -1"),
    "wide factor": (ins("0.o", "0.g", "0.h"), r"second factor 0.h .*needs -256\.\.255"),
    "factor too low": (factor(-257), r"second factor t can be -257\.\.0, needs -256\.\.255"),
    "factor too high": (factor(256), r"second factor t can be 0\.\.256, needs -256\.\.255"),
    "factor is acc": (ins("0.o", "0.h", "0.f.acc"), "input 0.f.acc is acc, needs i8 or i16"),
    "table of i16": (ins("0.f", "r.e"), "input r.e is i16, needs i8"),
    "requant of i8": (ins("0.g", "0.n1"), "input 0.n1 is i8, needs acc or i16"),
    "norm of i8": (ins("n", "0.n1"), "input 0.n1 is i8, needs i16"),
    "product of i16": (ins("0.f.acc", "r.e"), "input r.e is i16, needs i8"),
    "input count": (ins("0.r1", "r.e"), "1 inputs, needs 2"),
    "gather with input": (ins("r.e", "0.n1"), "1 inputs, needs 0"),
    "later value": (ins("0.n1", "0.r1"), "input '0.r1' is not defined before it"),
    "itself": (ins("0.n1", "0.n1"), "not defined before it"),
    "unknown state loaded": (ins("0.h.prev", "memory"), "does not exist"),
    "unknown state stored": (with_op(BASE, "0.state", out="memory"), "there is no such state"),
    "store of i8": (ins("0.state", "0.n1"), "input 0.n1 is i8, needs i16"),
    "state length": (replace(BASE, states={"0.state": 5}), "unequal length"),
    "stored length": (insert(Op("STORE", "0.state", ("logits.y",))), "not defined before it"),
    "unused state": (replace(BASE, states={**BASE.states, "x": 3}), "state x: no op loads or stores it"),
    "state of zero words": (
        replace(BASE, states={"0.state": 0}),
        r"length of state 0.state is 0, outside 1\.\.",
    ),
    "state too long": (replace(BASE, states={"0.state": 65536}), "length of state 0.state is 65536"),
    "state named like a constant": (
        replace(BASE, states={**BASE.states, "head": 3}),
        "head: its name is already",
    ),
    "value twice": (with_op(BASE, "0.f.pre", out="0.n1"), "its name is already taken"),
    "value named like a constant": (with_op(BASE, "0.n1", out="head"), "its name is already taken"),
    "value named like a state": (with_op(BASE, "0.n1", out="0.state"), "its name is already taken"),
    "bad name": (with_op(BASE, "0.n1", out="a b"), r"'a b' is not a name"),
    "empty name": (with_op(BASE, "0.n1", out=""), "is not a name"),
    "long name": (with_op(BASE, "0.n1", out="a" * 97), "is not a name"),
    "bad program name": (replace(BASE, name="../x"), r"'\.\./x' is not a name"),
    "vocabulary": (replace(BASE, vocab=0), "vocab is 0"),
    "vocabulary of text": (replace(BASE, vocab="7"), r"vocab is '7', outside 1\.\.65535"),
    "logit scale": (replace(BASE, logit_scale_bits=32), "logit_scale_bits is 32"),
    "no ops": (replace(BASE, ops=()), "number of ops is 0"),
    "no logits": (replace(BASE, logits="nothing"), "logits: no op defines 'nothing'"),
    "logits type": (replace(BASE, logits="logits.acc"), r"logits.acc is acc\[7\], not i16\[7\]"),
    "tokenizer": (replace(BASE, meta={"tokenizer": "bpe"}), "tokenizer 'bpe' is not supported"),
    "tokenizer type": (replace(BASE, meta={"tokenizer": 3}), "tokenizer '3' is not supported"),
    "bytes need 256": (replace(BASE, meta={"tokenizer": "bytes"}), "needs a vocabulary of 256, not 7"),
    "tokenizer that is not there": (
        replace(BASE, meta={"tokenizer": "huggingface"}),
        "tokenizer 'huggingface' does not go with 0 bytes",
    ),
    "tokenizer that is not named": (replace(BASE, tokenizer=b"{}"), "'None' does not go with 2 bytes"),
    "bytes and a tokenizer": (
        replace(BASE256, meta={"tokenizer": "bytes"}, tokenizer=b"{}"),
        "'bytes' does not go with 2 bytes",
    ),
    "tokenizer too large": (
        replace(BASE, meta={"tokenizer": "huggingface"}, tokenizer=bytes((1 << 26) + 1)),
        "the tokenizer has 67108865 bytes, limit",
    ),
    "constant named like the tokenizer": (
        replace(
            BASE,
            meta={"tokenizer": "huggingface"},
            tokenizer=b"{}",
            consts={**BASE.consts, "tokenizer.json": BASE.consts["head"]},
        ),
        "constant tokenizer.json: the name is the tokenizer's",
    ),
    "meta with NaN": (replace(BASE, meta={"x": float("nan")}), "meta: 'nan' is not plain JSON data"),
    "meta with object": (replace(BASE, meta={"x": object()}), "is not plain JSON data"),
    "meta with a tuple": (replace(BASE, meta={"x": (1, 2)}), "is not plain JSON data"),
    "meta too large": (replace(BASE, meta={"x": "a" * (1 << 18)}), "meta has .* bytes, limit"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_the_reason(case: str) -> None:
    program, reason = CASES[case]
    with pytest.raises(IllegalProgram, match=reason):
        check(program)


def test_the_base_is_legal() -> None:
    check(BASE)
    check(factor(-256))
    check(factor(255))
    types = shapes(BASE)
    assert types["r.e"] == ("i16", 6)
    assert types["0.f.acc"] == ("acc", 6)
    assert types["0.z"] == ("i8", 10)
    assert types["logits"] == ("i16", 7)
    assert "0.state" not in types


def test_errors_name_index_and_op() -> None:
    with pytest.raises(IllegalProgram, match=r"^op 1 \(NORM 0\.n1\): pre is 99"):
        check(op("0.n1", pre=99))


def test_state_may_be_read_after_it_was_stored() -> None:
    later = dataclasses.replace(BASE, ops=(*BASE.ops, Op("LOAD", "again", ("0.state",))))
    assert shapes(later)["again"] == ("i16", 6)
