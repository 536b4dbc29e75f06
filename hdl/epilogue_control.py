"""The control of the epilogues: one delay line that all columns share."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "B_OFFSET", "C_OFFSET", "SQUARE_OFFSET", "Y_OFFSET", "AddSelect", "AddendCode", "EpilogueControl",
    "EpilogueRecord", "EpilogueStages", "MulSelect", "check_tables",
]

#: Cycle in which each operand is presented and each result appears; v0 and the control record are at cycle 0.
C_OFFSET = 4
B_OFFSET = 5
SQUARE_OFFSET = 10
Y_OFFSET = 13


class AddendCode(enum.IntEnum):
    """``EpilogueStages.addend``: where the column takes the addend from; it holds v2 or its complement."""

    ZERO = 0
    B = 1
    V2 = 2
    NOT_V2 = 3


class MulSelect(enum.Enum):
    """The second factor: the record's ``const`` (1, or the norm's mantissa), ``c``, or v1 (square)."""

    CONST = 0
    C = 1
    SQUARE = 2


class AddSelect(enum.Enum):
    """What is added before the last saturation."""

    ZERO = 0
    V2 = 1
    B = 2


@dataclass(frozen=True, kw_only=True)
class EpilogueRecord:
    """One control record, as ``EpilogueControl`` takes it and ``Epilogue.model`` reads it."""

    shift1: int = 0
    narrow1: bool = False
    table_en: bool = False
    table_sel: int = 0
    sub: bool = False
    mul: MulSelect = MulSelect.CONST
    const: int = 1
    add: AddSelect = AddSelect.ZERO
    shift2: int = 0
    narrow2: bool = False


def check_tables(tables: int) -> None:
    """Raise ValueError unless ``tables`` is 1..16."""
    if not 1 <= tables <= 16:
        raise ValueError(f"tables must be 1..16, not {tables}")


class EpilogueStages(wiring.Signature):
    """Control signals from ``EpilogueControl`` (Out) to the columns, each in the cycle of its use."""

    def __init__(self, tables: int) -> None:
        self.tables = tables
        super().__init__({
            "coarse1": Out(2), "fine1": Out(3), "narrow1": Out(1),                    # cycles 0, 1, 3
            "table_sel": Out(range(max(tables, 2))), "table_en": Out(1),              # cycles 3, 5
            "mul": Out(MulSelect), "const": Out(signed(9)),                           # cycle C_OFFSET
            "sub": Out(1), "addend": Out(2),                                     # cycle B_OFFSET
            "square_en": Out(1), "square_first": Out(1), "square_last": Out(1),       # SQUARE_OFFSET - 1
            "coarse2": Out(2), "fine2": Out(3), "narrow2": Out(1),                    # cycles 9, 10, 12
        })

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpilogueStages) and other.tables == self.tables

    def __hash__(self) -> int:
        return hash(self.tables)


class EpilogueControl(wiring.Component):
    """Delay line of the control record; one for all columns.

    The record comes with v0 (cycle 0); ``valid`` low makes it a bubble. Records of different kinds may
    follow each other in any order, one per cycle.

        shift1   5  first right shift             narrow1  1  v1 saturates to 8 bits (else 16)
        table_en 1  v2 = TABLE[table_sel][v1]     sub      1  u = b - v2 (else v2)
        mul         second factor                 const    9  signed, the factor when mul = CONST
        shift2   5  second right shift            narrow2  1  y saturates to 8 bits (else 16)
        add         addend                        first, last  delimit a run of mul = SQUARE

    ``y_valid``: the columns' ``y`` belongs to a valid record that is no SQUARE (cycle ``Y_OFFSET``).
    ``square_done``: pulse in which the columns' ``square_sum`` is complete (cycle ``SQUARE_OFFSET`` of the
    record with ``last``); the sum then holds until the next ``first``.
    """

    def __init__(self, tables: int) -> None:
        check_tables(tables)
        self.tables = tables
        super().__init__({
            "valid": In(1),
            "shift1": In(5), "narrow1": In(1),
            "table_en": In(1), "table_sel": In(range(max(tables, 2))),
            "sub": In(1), "mul": In(MulSelect), "const": In(signed(9)), "add": In(AddSelect),
            "shift2": In(5), "narrow2": In(1),
            "first": In(1), "last": In(1),
            "stages": Out(EpilogueStages(tables)),
            "y_valid": Out(1), "square_done": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        def later(source: Any, cycles: int, name: str) -> Value:
            value = Value.cast(source)
            for cycle in range(1, cycles + 1):
                delayed = Signal(value.shape(), name=f"{name}_{cycle}")
                m.d.sync += delayed.eq(value)
                value = delayed
            return value

        square = Value.cast(self.mul) == MulSelect.SQUARE
        addend = Signal(2)
        with m.Switch(self.add):
            with m.Case(AddSelect.V2):
                m.d.comb += addend.eq(Mux(self.sub, AddendCode.NOT_V2, AddendCode.V2))
            with m.Case(AddSelect.B):
                m.d.comb += addend.eq(AddendCode.B)
        s = self.stages
        for target, source, cycle in (
            (s.coarse1, self.shift1[3:], 0),
            (s.fine1, self.shift1[:3], 1),
            (s.narrow1, self.narrow1, 3),
            (s.table_sel, self.table_sel, 3),
            (s.mul, self.mul, C_OFFSET),
            (s.const, self.const, C_OFFSET),
            (s.table_en, self.table_en, B_OFFSET),
            (s.sub, self.sub, B_OFFSET),
            (s.addend, addend, B_OFFSET),
            (s.square_en, self.valid & square, SQUARE_OFFSET - 1),
            (s.square_first, self.first, SQUARE_OFFSET - 1),
            (s.square_last, self.last, SQUARE_OFFSET - 1),
            (s.coarse2, self.shift2[3:], Y_OFFSET - 4),
            (s.fine2, self.shift2[:3], Y_OFFSET - 3),
            (s.narrow2, self.narrow2, Y_OFFSET - 1),
            (self.y_valid, self.valid & ~square, Y_OFFSET),
        ):
            name = "y_valid" if target is self.y_valid else Value.cast(target).name.removeprefix("stages__")
            m.d.comb += Value.cast(target).eq(later(source, cycle, name))
        m.d.sync += self.square_done.eq(s.square_en & s.square_last)
        return m
