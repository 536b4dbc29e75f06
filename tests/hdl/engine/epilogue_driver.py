"""A delay line that drives an epilogue with a record of its own for every element."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.engine.epilogue import (
    B_OFFSET,
    C_OFFSET,
    SQUARE_OFFSET,
    Y_OFFSET,
    AddendCode,
    AddSelect,
    EpilogueStages,
    MulSelect,
    check_tables,
)


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
        super().__init__(
            {
                "valid": In(1),
                "shift1": In(5),
                "narrow1": In(1),
                "table_en": In(1),
                "table_sel": In(range(max(tables, 2))),
                "sub": In(1),
                "mul": In(MulSelect),
                "const": In(signed(9)),
                "add": In(AddSelect),
                "shift2": In(5),
                "narrow2": In(1),
                "first": In(1),
                "last": In(1),
                "stages": Out(EpilogueStages(tables)),
                "y_valid": Out(1),
                "square_done": Out(1),
            }
        )

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
