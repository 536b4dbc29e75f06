"""One column's pipeline from accumulator to result, and the control that all columns share."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.tech import Technology

__all__ = [
    "AddSelect", "B_OFFSET", "C_OFFSET", "Epilogue", "EpilogueControl", "EpilogueStages", "MulSelect",
    "SQUARE_OFFSET", "Y_OFFSET",
]

#: Cycle in which each operand is presented and each result appears; v0 and the control record are at cycle 0.
C_OFFSET = 4
B_OFFSET = 5
SQUARE_OFFSET = 10
Y_OFFSET = 13


class MulSelect(enum.Enum, shape=2):
    """The second factor: the record's ``const`` (1, or the norm's mantissa), ``c``, or v1 (square)."""

    CONST = 0
    C = 1
    SQUARE = 2


class AddSelect(enum.Enum, shape=2):
    """What is added before the last saturation."""

    ZERO = 0
    V2 = 1
    B = 2


class EpilogueStages(wiring.Signature):
    """Control signals from ``EpilogueControl`` (Out) to the columns; each already in its own cycle."""

    def __init__(self, tables: int) -> None:
        self.tables = tables
        super().__init__({
            "coarse1": Out(2), "fine1": Out(3), "narrow1": Out(1),
            "table_sel": Out(range(max(tables, 2))), "table_en": Out(1),
            "sub": Out(1), "mul": Out(MulSelect), "const": Out(signed(9)), "add": Out(AddSelect),
            "coarse2": Out(2), "fine2": Out(3), "narrow2": Out(1),
            "square_en": Out(1), "square_first": Out(1), "square_last": Out(1),
        })


class EpilogueControl(wiring.Component):
    """Delay line of the control record; one for all columns.

    The record comes with v0 (cycle 0); ``valid`` low makes it a bubble. Records of different kinds may
    follow each other in any order, one per cycle.

        shift1   5  first right shift             narrow1  1  v1 saturates to 8 bits (else 16)
        table_en 1  v2 = TABLE[table_sel][v1]     sub      1  u = B - v2 (else v2)
        mul         second factor                 const    9  signed, the factor when mul = CONST
        shift2   5  second right shift            narrow2  1  y saturates to 8 bits (else 16)
        add         addend                        first, last  delimit a run of mul = SQUARE

    ``y_valid``: the columns' ``y`` belongs to a valid record that is no SQUARE (cycle ``Y_OFFSET``).
    ``square_done``: pulse in which the columns' ``square_sum`` is complete (cycle ``SQUARE_OFFSET`` of the
    record with ``last``); the sum then holds until the next ``first``.
    """

    def __init__(self, tables: int) -> None:
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

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError


class Epilogue(wiring.Component):
    """One column's pipeline, one element per cycle, no stalls.

        v1 = sat8|sat16(rshift_round(v0, shift1))             v0 at cycle 0
        v2 = TABLE[table_sel][v1 + 128] if table_en else v1   (table_en needs narrow1)
        u  = b - v2 if sub else v2                            b at cycle B_OFFSET, 17 bit
        w  = const | c | v1                                   c at cycle C_OFFSET, 9 bit signed; SQUARE needs narrow1
        y  = sat8|sat16(rshift_round(u * w, shift2) + (0 | v2 | b))     y at cycle Y_OFFSET

    ``square_sum`` (``square_bits``, unsigned) sums u * w of the SQUARE records from ``first`` to ``last``; the
    last one is left out where ``drop_last`` is high (a column that the vector's last slot does not reach).
    ``drop_last`` is held static while a SQUARE run is in flight.

    The table memory (tables * 256 words of 16 bits) is inside; its write port is ``table_wr_*``.
    """

    LATENCY = Y_OFFSET

    def __init__(self, tables: int, *, square_bits: int = 32, tech: Technology = Technology.PORTABLE) -> None:
        self.tables, self.square_bits, self.tech = tables, square_bits, tech
        super().__init__({
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
        })

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
