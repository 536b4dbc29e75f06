"""One column's pipeline from accumulator to result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.carry import Gate, add
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.hdl.cells.requant import Requant
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.epilogue_stages import (
    B_OFFSET,
    C_OFFSET,
    SQUARE_OFFSET,
    Y_OFFSET,
    AddendCode,
    AddSelect,
    EpilogueRecord,
    EpilogueStages,
    MulSelect,
    check_tables,
)

__all__ = [
    "B_OFFSET",
    "C_OFFSET",
    "SQUARE_OFFSET",
    "Y_OFFSET",
    "AddSelect",
    "Epilogue",
    "EpilogueRecord",
    "EpilogueStages",
    "MulSelect",
]


class Epilogue(wiring.Component):
    """One column's pipeline, one element per cycle, no stalls.

        v1 = sat8|sat16(rshift_round(v0, shift1))             v0 at cycle 0
        v2 = TABLE[table_sel][v1 + 128] if table_en else v1   (table_en needs narrow1)
        u  = b - v2 if sub else v2                            b at cycle B_OFFSET, 17 bit
        w  = const | c | v1                                   c at cycle C_OFFSET, 9 bit; SQUARE: narrow1
        y  = sat8|sat16(rshift_round(u * w, shift2) + (0 | v2 | b))     y at cycle Y_OFFSET

    ``square_sum`` (``square_bits``, unsigned) sums the low 15 bits of u * w of the SQUARE records from
    ``first`` to ``last``, complete at cycle SQUARE_OFFSET of the last; the last one is left out where
    ``drop_last`` is high (a column that the vector's last slot does not reach). ``drop_last`` is held while a
    SQUARE run is in flight. Without ``squares`` there is neither sum nor SQUARE.

    The table memory (tables * 256 words of 16 bits, entry of code v1 at ``table * 256 + v1 + 128``) is
    inside; its write port is ``table_wr_*``. ``table_ram`` is its ``BlockRam``, block number ``column``.
    """

    LATENCY = Y_OFFSET

    def __init__(
        self,
        tables: int,
        *,
        square_bits: int = 32,
        squares: bool = True,
        column: int = 0,
        tech: Technology = Technology.PORTABLE,
        table_init: Sequence[int] = (),
    ) -> None:
        check_tables(tables)
        if not 15 <= square_bits <= 32:
            raise ValueError(f"square_bits must be 15..32, not {square_bits}")
        self.tables, self.square_bits, self.squares, self.tech = tables, square_bits, squares, tech
        self.table_ram = BlockRam(16, tables * 256, tech=tech, memory="table", block=column, init=table_init)
        super().__init__(
            {
                "v0": In(signed(20)),
                "b": In(signed(16)),
                "c": In(signed(9)),
                "stages": In(EpilogueStages(tables)),
                "drop_last": In(1),
                "table_wr_en": In(1),
                "table_wr_addr": In(range(tables * 256)),
                "table_wr_data": In(16),
                "y": Out(signed(16)),
                "square_sum": Out(square_bits),
            }
        )

    def model(self, record: EpilogueRecord, v0: int, b: int, c: int, table: Sequence[int]) -> tuple[int, int]:
        """``(y, u * w)`` of one element; ``table`` holds the signed entries of all tables."""

        def requant(x: int, shift: int, narrow: bool, addend: int = 0) -> int:
            low, high = (-128, 127) if narrow else (-32768, 32767)
            return max(low, min(high, (x + (1 << shift >> 1) >> shift) + addend))

        v1 = requant(v0, record.shift1, record.narrow1)
        v2 = table[record.table_sel * 256 + v1 + 128] if record.table_en else v1
        u = b - v2 if record.sub else v2
        w = {MulSelect.CONST: record.const, MulSelect.C: c, MulSelect.SQUARE: v1}[record.mul]
        addend = {AddSelect.ZERO: 0, AddSelect.V2: v2, AddSelect.B: b}[record.add]
        return requant(u * w, record.shift2, record.narrow2, addend), u * w

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = self.stages
        m.submodules.requant1 = requant1 = Requant(20)
        m.submodules.table = table = self.table_ram
        m.submodules.multiply = multiply = ShiftAddMultiplier(17, 9, tech=self.tech)
        m.submodules.requant2 = requant2 = Requant(26, addend=True)

        # Cycles 0 to 4: v0 to v1. The table is addressed from the value that becomes v1.
        m.d.comb += [
            requant1.x.eq(self.v0),
            requant1.coarse.eq(s.coarse1),
            requant1.fine.eq(s.fine1),
            requant1.narrow.eq(s.narrow1),
            table.rd_addr.eq(Cat(requant1.early[:7], ~requant1.early[7], s.table_sel)),
            table.wr_en.eq(self.table_wr_en),
            table.wr_addr.eq(self.table_wr_addr),
            table.wr_data.eq(self.table_wr_data),
        ]

        # Cycle 4: the second factor, which the multiplier wants a cycle before the first.
        w = Signal(signed(9), name="w")
        v1 = Signal(signed(16), name="v1")
        with m.Switch(s.mul):
            with m.Case(MulSelect.CONST):
                m.d.sync += w.eq(s.const)
            with m.Case(MulSelect.C):
                m.d.sync += w.eq(self.c)
            if self.squares:
                with m.Default():
                    m.d.sync += w.eq(requant1.y)
        m.d.sync += v1.eq(requant1.y)

        # Cycle 5: v2, complemented for a subtraction, the first factor, the addend.
        v2 = Signal(signed(16), name="v2")
        u = Signal(signed(17), name="u")
        addend = Signal(signed(16), name="addend")
        m.d.comb += v2.eq(Mux(s.table_en, table.rd_data, v1) ^ s.sub.replicate(16))
        m.d.sync += u.eq(add(m, self.tech, "u_add", 17, v2, self.b, Gate.KEEP, c=s.sub, carry_in=s.sub))
        with m.Switch(s.addend):
            with m.Case(AddendCode.ZERO):
                m.d.sync += addend.eq(0)
            with m.Case(AddendCode.B):
                m.d.sync += addend.eq(self.b)
            with m.Case(AddendCode.V2):
                m.d.sync += addend.eq(v2)
            with m.Case(AddendCode.NOT_V2):
                m.d.sync += addend.eq(~v2)

        # Cycles 6 to 9: the product.
        m.d.comb += [multiply.a.eq(u), multiply.b.eq(w)]
        later: Value = addend
        for cycle in range(B_OFFSET + 2, Y_OFFSET - 1):
            delayed = Signal(signed(16), name=f"addend_{cycle}")
            m.d.sync += delayed.eq(later)
            later = delayed

        # Cycles 9 to 13: shift, add, saturate.
        m.d.comb += [
            requant2.x.eq(multiply.p),
            requant2.coarse.eq(s.coarse2),
            requant2.fine.eq(s.fine2),
            requant2.addend.eq(later),
            requant2.narrow.eq(s.narrow2),
            self.y.eq(requant2.y),
        ]

        if not self.squares:
            return m
        # A dropped last element is not added; if it is the first too, the sum is cleared.
        drop = s.square_last & self.drop_last
        squares = add(
            m,
            self.tech,
            "square_add",
            self.square_bits,
            Cat(multiply.p[:15], Const(0, 1)),
            self.square_sum,
            Gate.KEEP,
            c=~s.square_first,
        )
        with m.If(s.square_en & drop & s.square_first):
            m.d.sync += self.square_sum.eq(0)
        with m.Elif(s.square_en & ~drop):
            m.d.sync += self.square_sum.eq(squares)
        return m
