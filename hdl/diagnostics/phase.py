"""Moves the phase of a PLL's second output, a step at a time."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PhaseStepper"]

HOLD = 4
"""Cycles that a level stays: the EHXPLLL wants direction and step for 5 ns each before the step's falling
edge."""


class PhaseStepper(wiring.Component):
    """One step of an EHXPLLL's dynamic phase shift: an eighth of a VCO period, at the falling edge of
    ``step``.

    Members
    -------
    start : In(1)
        Pulse while not ``busy``: make a step.
    earlier : In(1)
        With ``start``: towards earlier edges, else towards later ones.
    busy : Out(1)
        From the cycle after ``start`` on.
    position : Out(16)
        Steps made towards later edges less those towards earlier ones, in two's complement.
    direction : Out(1)
        The PLL's PHASEDIR: 0 later, 1 earlier.
    step : Out(1)
        The PLL's PHASESTEP.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "earlier": In(1),
                "busy": Out(1),
                "position": Out(16),
                "direction": Out(1),
                "step": Out(1),
            }
        )

    @staticmethod
    def model(steps: list[bool]) -> int:
        """The position after steps, True for earlier."""
        return sum(-1 if earlier else 1 for earlier in steps) & 0xFFFF

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(range(3 * HOLD + 1), name="left")
        m.d.comb += self.busy.eq(left.any())
        m.d.sync += self.step.eq((left > HOLD) & (left <= 2 * HOLD))
        with m.If(left.any()):
            m.d.sync += left.eq(left - 1)
        with m.Elif(self.start):
            m.d.sync += [
                left.eq(3 * HOLD),
                self.direction.eq(self.earlier),
                self.position.eq(Mux(self.earlier, self.position - 1, self.position + 1)),
            ]
        return m
