"""Curves of INTERP on chip: from an i16 to the operands of a lane, one element a cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.program.import_ops import CURVE_POINTS

__all__ = ["CurveMemory"]

_HALF = CURVE_POINTS // 2
_STEP_BITS = 6


class CurveMemory(wiring.Component):
    """Points of ``slots`` curves; for an ``x`` the point below it, the step to the next, and the rest.

    ``rshift_round(step * rest, 6) + low`` is INTERP. Two neighbours are read in one cycle, because even and
    odd points are two memories; the last point of a curve is a register.

    :param slots: curves that are held, 1 to 16; two fill block RAMs of 1024 x 18 bits.

    Members
    -------
    wr_en : In(1)
        Write a point.
    wr_slot : In(range(slots))
        Of which curve.
    wr_point : In(11)
        Which point, 0 to 1024.
    wr_data : In(signed(16))
        The point.
    slot : In(range(slots))
        The curve.
    x : In(signed(16))
        The code.
    low : Out(signed(16))
        LATENCY cycles later: the point below.
    step : Out(signed(17))
        The next point less this one.
    rest : Out(6)
        How far x is, of 64.
    """

    LATENCY = BlockRam.LATENCY + 1

    def __init__(self, slots: int = 2, *, tech: Technology = Technology.PORTABLE) -> None:
        if not 1 <= slots <= 16:
            raise ValueError(f"slots must be 1..16, not {slots}")
        self.slots, self.tech = slots, tech
        super().__init__(
            {
                "wr_en": In(1),
                "wr_slot": In(range(slots)),
                "wr_point": In(range(CURVE_POINTS)),
                "wr_data": In(signed(16)),
                "slot": In(range(slots)),
                "x": In(signed(16)),
                "low": Out(signed(16)),
                "step": Out(signed(17)),
                "rest": Out(_STEP_BITS),
            }
        )

    def model(self, curve: Sequence[int], x: int) -> tuple[int, int, int]:
        """``low``, ``step`` and ``rest`` of one code."""
        at, rest = divmod(x + 32768, 64)
        return curve[at], curve[at + 1] - curve[at], rest

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        place = _HALF.bit_length() - 1
        u = Cat(self.x[:-1], ~self.x[-1])
        segment, odd = u[_STEP_BITS + 1 :], u[_STEP_BITS]
        above = Signal(place + 1, name="above")
        m.d.comb += above.eq(segment + odd)
        banks = []
        for i, at in enumerate((above[:place], segment)):
            bank = BlockRam(16, _HALF * self.slots, tech=self.tech, memory=f"curve{i}")
            m.submodules[f"bank{i}"] = bank
            m.d.comb += [
                bank.wr_en.eq(self.wr_en & (self.wr_point[0] == i) & ~self.wr_point[-1]),
                bank.wr_addr.eq(Cat(self.wr_point[1 : place + 1], self.wr_slot)),
                bank.wr_data.eq(self.wr_data),
                bank.rd_addr.eq(Cat(at, self.slot)),
            ]
            banks.append(bank)
        ends = [Signal(signed(16), name=f"end{slot}", reset_less=True) for slot in range(self.slots)]
        for slot, end in enumerate(ends):
            with m.If(self.wr_en & self.wr_point[-1] & (self.wr_slot == slot)):
                m.d.sync += end.eq(self.wr_data)
        # Cycle 2: the memories' words are there.
        late = delay(m, Cat(self.slot, above[-1], odd), BlockRam.LATENCY, name="late", reset_less=True)
        bits = len(self.slot)
        end = Array(ends)[late[:bits]] if self.slots > 1 else ends[0]
        even_point = Mux(late[bits], end, banks[0].rd_data.as_signed())
        odd_point = banks[1].rd_data.as_signed()
        low, high = Signal(signed(16), name="below_x"), Signal(signed(16), name="above_x")
        m.d.comb += [
            low.eq(Mux(late[bits + 1], odd_point, even_point)),
            high.eq(Mux(late[bits + 1], even_point, odd_point)),
            self.rest.eq(delay(m, u[:_STEP_BITS], self.LATENCY, name="rest_late", reset_less=True)),
        ]
        m.d.sync += [self.low.eq(low), self.step.eq(high - low)]
        return m
