"""Folding constant zeros into carry cells keeps what the cells compute."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ternac.hdl.netlist.carries import fold_constant_pins

PINS = "ABCD"


def half(table: str, pins: dict[str, int], carry: int) -> tuple[int, int]:
    """Sum and carry out of half a CCU2C: propagate is the table's entry, generate its entry at C = D = 0."""
    entries = table[::-1]
    propagate = int(entries[sum(pins[p] << i for i, p in enumerate(PINS))])
    generate = int(entries[pins["A"] | pins["B"] << 1])
    return propagate ^ carry, carry if propagate else generate


@given(st.integers(0, 0xFFFF), st.sets(st.sampled_from(PINS)), st.sampled_from("01"))
def test_every_zero_pin_is_tied_high_and_nothing_changes(table: int, zeros: set[str], which: str) -> None:
    before = f"{table:016b}"
    connections: dict[str, list[int | str]] = {p + h: [7] for p in PINS for h in "01"}
    connections |= {p + which: ["0"] for p in zeros}
    parameters = {"INIT0": before, "INIT1": before}
    cell: dict[str, Any] = {"type": "CCU2C", "parameters": parameters, "connections": connections}
    design = {"modules": {"top": {"cells": {"carry": cell}}}}
    assert fold_constant_pins(design) == len(zeros)
    assert {p for p in PINS if cell["connections"][p + which] == ["1"]} == zeros
    other = "10"[int(which)]
    assert cell["parameters"][f"INIT{other}"] == before
    after = cell["parameters"][f"INIT{which}"]
    for *values, carry in itertools.product((0, 1), repeat=5):
        given_pins = dict(zip(PINS, values, strict=True))
        low = given_pins | dict.fromkeys(zeros, 0)
        high = given_pins | dict.fromkeys(zeros, 1)
        assert half(before, low, carry) == half(after, high, carry)


def test_other_cells_are_left_alone() -> None:
    lut = {"type": "LUT4", "parameters": {"INIT": "0" * 16}, "connections": {"A": ["0"]}}
    assert fold_constant_pins({"modules": {"top": {"cells": {"lut": lut}}}}) == 0
    assert lut["connections"] == {"A": ["0"]}
