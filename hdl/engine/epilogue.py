"""One column's pipeline from accumulator to result, and the interface to its control."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.carry import Gate, add
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.requant import Requant
from ternac.hdl.cells.tech import Technology

__all__ = [
    "B_OFFSET",
    "C_OFFSET",
    "SQUARE_OFFSET",
    "Y_OFFSET",
    "AddSelect",
    "AddendCode",
    "Epilogue",
    "EpilogueRecord",
    "EpilogueStages",
    "MulSelect",
]

C_OFFSET = 4
"""Cycle of operand C; v0 is at cycle 0."""
B_OFFSET = 5
"""Cycle of operand B."""
SQUARE_OFFSET = 10
"""Cycle in which ``square_sum`` holds an element's square."""
Y_OFFSET = 13
"""Cycle of the result."""


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
    """The addend before the last saturation."""

    ZERO = 0
    V2 = 1
    B = 2


@dataclass(frozen=True, kw_only=True)
class EpilogueRecord:
    """The settings of an element, as ``Epilogue.model`` reads them."""

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
    """Control signals (Out: from ``PassControl``) to the columns, each in the cycle of its use."""

    def __init__(self, tables: int) -> None:
        self.tables = tables
        super().__init__(
            {
                "coarse1": Out(2),
                "fine1": Out(3),
                "narrow1": Out(1),  # cycles 0, 1, 3
                "table_sel": Out(range(max(tables, 2))),
                "table_en": Out(1),  # cycles 3, 5
                "mul": Out(MulSelect),
                "const": Out(signed(9)),  # cycle C_OFFSET
                "sub": Out(1),
                "addend": Out(2),  # cycle B_OFFSET
                "square_en": Out(1),
                "square_first": Out(1),
                "square_last": Out(1),  # SQUARE_OFFSET - 1
                "coarse2": Out(2),
                "fine2": Out(3),
                "narrow2": Out(1),  # cycles 9, 10, 12
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpilogueStages) and other.tables == self.tables

    def __hash__(self) -> int:
        return hash(self.tables)


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

    Members
    -------
    v0 : In(signed(20))
        The value that enters, at cycle 0.
    b : In(signed(16))
        Operand B, at cycle B_OFFSET.
    c : In(signed(9))
        Operand C, at cycle C_OFFSET.
    stages : In(EpilogueStages)
        The settings of every stage, each in the cycle of its use.
    drop_last : In(1)
        The last square is not added.
    table_wr_en : In(1)
        Loader: write an entry of the tables.
    table_wr_addr : In(range(tables * 256))
        Loader: its address.
    table_wr_data : In(16)
        Loader: the entry.
    y : Out(signed(16))
        The result, at cycle Y_OFFSET.
    square_sum : Out(square_bits)
        The sum of squares.
    """

    AREA_PART = "pipelines"

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
        addend_9 = delay(m, addend, Y_OFFSET - B_OFFSET - 3, name="addend_late")

        # Cycles 9 to 13: shift, add, saturate.
        m.d.comb += [
            requant2.x.eq(multiply.p),
            requant2.coarse.eq(s.coarse2),
            requant2.fine.eq(s.fine2),
            requant2.addend.eq(addend_9),
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
