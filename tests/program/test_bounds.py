"""Bounds that legality proves, and the properties of kinds that executors go by, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ternac.errors import IllegalProgram
from ternac.program.legality import check, infer
from ternac.program.numerics import max_norm_exponent
from ternac.program.op_kind import Refused, Role
from ternac.program.ops import (
    KINDS,
    Op,
    memory_of,
    memory_written,
    op_function,
    state_read,
    state_written,
)
from ternac.program.program import Program
from ternac.program.random import random_program

D, M = 6, 10
BASE = random_program(np.random.default_rng(5), d=D, m=M, layers=1, vocab=7)


def with_op(at: str, **attrs: int) -> Program:
    ops = [dataclasses.replace(op, attrs={**op.attrs, **attrs}) if op.out == at else op for op in BASE.ops]
    return dataclasses.replace(BASE, ops=tuple(ops))


def test_a_product_lies_within_128_times_its_columns() -> None:
    values = infer(BASE)
    products = [op for op in BASE.ops if op.kind == "TMATVEC"]
    for op in products:
        columns = BASE.consts[op.text("weights")].shape[1]
        found = values[op.out]
        assert (found.dtype, found.low, found.high) == ("acc", -128 * columns, 128 * columns)
    assert {BASE.consts[op.text("weights")].shape[1] for op in products} == {D, M}


def test_a_table_lies_between_its_least_and_its_largest_entry() -> None:
    values = infer(BASE)
    tables = [op for op in BASE.ops if op.kind == "TABLE"]
    assert tables
    for op in tables:
        entries = BASE.consts[op.text("table")]
        assert (values[op.out].low, values[op.out].high) == (int(entries.min()), int(entries.max()))


def test_what_is_between_two_has_the_bounds_of_both() -> None:
    values = infer(BASE)
    lerp = next(op for op in BASE.ops if op.kind == "LERP")
    h, c, found = (values[name] for name in (*lerp.ins[:2], lerp.out))
    assert (found.low, found.high) == (min(h.low, c.low), max(h.high, c.high))


def test_a_norm_may_use_the_largest_shift_and_no_larger_one() -> None:
    largest = 31 - max_norm_exponent(D)
    norm = next(op.out for op in BASE.ops if op.kind == "NORM")
    check(with_op(norm, post=largest))
    with pytest.raises(IllegalProgram, match=rf"post \+ E can exceed 31 with {D} elements"):
        check(with_op(norm, post=largest + 1))


def test_the_result_before_saturation_is_asked_of_what_saturates() -> None:
    big = np.array([30000, -30000])
    cases = {
        "REQUANT": (Op("REQUANT", "y", ("x",), {"shift": 0, "dtype": "i8"}), (big,), [30000, -30000]),
        "ADD": (Op("ADD", "y", ("x", "x"), {"dtype": "i16"}), (big, big), [60000, -60000]),
        "MUL": (Op("MUL", "y", ("x", "x"), {"shift": 0, "dtype": "i16"}), (big, big), [900000000] * 2),
    }
    for kind, (op, ins, want) in cases.items():
        assert op_function(op, {}, saturated=False)(*ins).tolist() == want, kind
        low, high = (-128, 127) if op.attrs["dtype"] == "i8" else (-32768, 32767)
        assert op_function(op, {})(*ins).tolist() == np.clip(want, low, high).tolist(), kind


def test_integer_attributes_are_those_that_are_numbers() -> None:
    found = {name: [*KINDS[name].integers] for name in ("GATHER", "NORM", "TMATVEC", "REQUANT", "MUL", "ADD")}
    assert found == {
        "GATHER": ["shift"], "NORM": ["pre", "post"], "TMATVEC": [], "REQUANT": ["shift", "multiplier"],
        "MUL": ["shift"], "ADD": [],
    }  # fmt: skip


ELEMENTWISE = {
    "GATHER", "REQUANT", "TABLE", "MUL", "ADD", "LERP",
    "GATHER16", "SCALE", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND", "SUB", "TOKEN",
}  # fmt: skip


def test_elementwise_kinds_are_those_whose_elements_need_no_other() -> None:
    assert {kind.name for kind in KINDS.values() if kind.elementwise} == ELEMENTWISE


def test_a_role_with_a_greatest_first_side_names_it() -> None:
    few = Role("few", np.int8, (None, None), most=3)
    few.check("x", np.zeros((3, 70), np.int8))
    with pytest.raises(Refused, match=r"shape \(4, 2\), needs two sides in 1\.\.65535, the first in 1\.\.3$"):
        few.check("x", np.zeros((4, 2), np.int8))
    many = Role("many", np.int8, (None, None))
    with pytest.raises(Refused, match=r"shape \(0, 2\), needs two sides in 1\.\.65535$"):
        many.check("x", np.zeros((0, 2), np.int8))


def test_what_is_written_is_told_from_what_is_read() -> None:
    read = Op("MEM_READ", "y", ("w",), {"rows": "rows", "bits": 8, "shared": 0})
    update = Op("MEM_UPDATE", "", ("w", "x"), {"memory": "rows", "bits": 8, "keep": 1})
    assert (memory_of(read), memory_written(read)) == ("rows", None)
    assert (memory_of(update), memory_written(update)) == ("rows", "rows")
    load, store = Op("LOAD", "h", ("state",)), Op("STORE", "state", ("x",))
    assert (state_read(load), state_written(load)) == ("state", None)
    assert (state_read(store), state_written(store)) == (None, "state")
