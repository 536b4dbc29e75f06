"""Row column: one column's memory rows, the sum over heads of a read, and the write of an update."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import MemoryBank
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["ROW_BITS", "SUM_BITS", "RowColumn"]

ROW_BITS = 8
"""Width of a word of rows."""
SUM_BITS = 20
"""Width of a sum of rows, that of the pipeline's v0."""


class RowColumn(wiring.Component):
    """``depth`` words of rows with one read and one write port, a word a cycle.

    A word whose ``address`` comes at cycle 0 is there at cycle 2. It is added to ``sum``, which shows it at
    cycle 3, or becomes ``sat8(old - f - e)`` at cycle 6, ``f = keep ? rshift_round(old, keep) : 0``, and is
    written in that cycle. A read meets the writes of the cycles before it: reads and updates of one word must
    be seven cycles apart.

    Parameters
    ----------
    depth : words.   column : its number.   storage : as of `BlockRam`.

    Members
    -------
    address : In(address)
        The word to read, at cycle 0.
    sum_en : In(1)
        Add the word of cycle 2, at cycle 2.
    sum_first : In(1)
        To nothing.
    sum : Out(signed(20))
        The sum, at cycle 3.
    word : Out(signed(8))
        The word that was read, at cycle 2.
    keep : In(4)
        The part 2^-keep of the word goes away; 0: nothing of it. At cycle 2.
    e : In(signed(16))
        What is taken away, at cycle 4.
    update : In(1)
        Write the result, at cycle 6.
    load : In(1)
        Write ``load_word`` instead.
    load_word : In(8)
        The loader's word.
    wr_address : In(address)
        The word that is written.
    """

    AREA_PART = "rows"

    def __init__(
        self, depth: int, *, column: int = 0, tech: Technology = Technology.PORTABLE, storage: str = "block"
    ) -> None:
        self.ram = MemoryBank(ROW_BITS, depth, tech=tech, storage=storage, memory="ROWS", block=column)
        super().__init__(
            {
                "address": In(range(depth)),
                "sum_en": In(1),
                "sum_first": In(1),
                "sum": Out(signed(SUM_BITS)),
                "word": Out(signed(ROW_BITS)),
                "keep": In(4),
                "e": In(signed(16)),
                "update": In(1),
                "load": In(1),
                "load_word": In(ROW_BITS),
                "wr_address": In(range(depth)),
            }
        )

    @staticmethod
    def model(old: int, e: int, keep: int) -> int:
        """A word after an update."""
        part = (old + (1 << keep >> 1)) >> keep if keep else 0
        return max(-128, min(127, old - part - e))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = self.ram
        old = ram.rd_data.as_signed()
        m.d.comb += [ram.rd_addr.eq(self.address), self.word.eq(old)]

        # Cycle 2: the sum.
        with m.If(self.sum_en):
            m.d.sync += self.sum.eq(Mux(self.sum_first, 0, self.sum) + old)

        # Cycle 2: twice the part that goes away. From keep 8 on there is none: 8 bits round to nothing.
        halves = Signal(signed(ROW_BITS + 1), name="halves", reset_less=True)
        held = delay(m, old, name="held", reset_less=True).as_signed()
        m.d.sync += halves.eq(Mux((self.keep != 0) & ~self.keep[3], (old << 1) >> self.keep[:3], 0))

        # Cycle 3: what is kept, old - (halves >> 1) - (halves & 1), by one adder with a carry in.
        rest = Signal(signed(ROW_BITS), name="rest", reset_less=True)
        total = Cat(Const(1, 1), held).as_signed() + Cat(~halves[0], ~halves[1:]).as_signed()
        m.d.sync += rest.eq(total >> 1)

        # Cycle 4: less e.  Cycle 5: saturated.
        less = Signal(signed(17), name="less", reset_less=True)
        result = Signal(signed(ROW_BITS), name="result", reset_less=True)
        above = less[ROW_BITS - 1 :]
        m.d.sync += [
            less.eq(rest - self.e),
            result.eq(Mux(above.any() & ~above.all(), Mux(less[-1], -128, 127), less[:ROW_BITS])),
        ]

        # Cycle 6: written.
        m.d.comb += [
            ram.wr_en.eq(self.update | self.load),
            ram.wr_addr.eq(self.wr_address),
            ram.wr_data.eq(Mux(self.load, self.load_word, result)),
        ]
        return m
