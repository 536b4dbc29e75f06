"""Inverse root of a sum of squares and inverse of a peak, a digit a cycle."""

from __future__ import annotations

import math
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.program.import_ops import INVERSE_BITS, QUANT_BITS, ROOT_BITS

__all__ = ["INVERSE_RESULT_BITS", "InverseUnit"]

_VALUE_BITS = 47
_ROOT_DIGITS = (_VALUE_BITS + 2 * ROOT_BITS + 1) // 2
"""Digits of ``isqrt(v << 16)``, ``v`` below 2^47."""
_ROOT_QUOTIENT = INVERSE_BITS - ROOT_BITS + 1
"""Digits of ``2^47 // root``: a root is at least 2^8."""
INVERSE_RESULT_BITS = _ROOT_QUOTIENT
_PEAK_QUOTIENT = 7 + QUANT_BITS
"""Digits of ``(127 << 24) // m``."""


class InverseUnit(wiring.Component):
    """``2^47 // isqrt(v << 16)`` with ``root``, else ``(127 << 24) // v``; 0 for ``v`` = 0.

    One subtractor serves both recurrences, without restoring steps: a remainder that would become negative
    stays what it is. ``done`` comes ROOT_CYCLES or PEAK_CYCLES after ``start``, whatever the value; ``r``
    stays until the next ``start``.

    Members
    -------
    start : In(1)
        Pulse: begin; one that comes while the unit is busy is lost.
    root : In(1)
        At ``start``: the inverse root.
    v : In(47)
        At ``start``: the sum of squares, or a peak, below 2^15.
    busy : Out(1)
        It works.
    done : Out(1)
        Pulse: ``r`` is there.
    r : Out(40)
        The result.
    """

    ROOT_CYCLES = _ROOT_DIGITS + _ROOT_QUOTIENT + 2
    PEAK_CYCLES = _PEAK_QUOTIENT + 1

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "root": In(1),
                "v": In(_VALUE_BITS),
                "busy": Out(1),
                "done": Out(1),
                "r": Out(_ROOT_QUOTIENT),
            }
        )

    @staticmethod
    def model(v: int, root: int) -> int:
        """``r`` of one value."""
        if not v:
            return 0
        return (1 << INVERSE_BITS) // math.isqrt(v << 2 * ROOT_BITS) if root else (127 << QUANT_BITS) // v

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        width = _ROOT_DIGITS + 2
        rest = Signal(width, name="rest")
        divisor = Signal(_ROOT_DIGITS, name="divisor")  # while a root is found, the digits so far
        fed = Signal(2 * _ROOT_DIGITS, name="fed")  # what comes into the remainder, highest bits first
        left = Signal(range(max(_ROOT_DIGITS, _ROOT_QUOTIENT)), name="left")
        rooting = Signal(name="rooting")
        # The remainder with the next digits, and less what would make a 1 of the next digit of the result.
        shifted, less = Signal(width, name="shifted"), Signal(width, name="less")
        difference, fits = Signal(width + 1, name="difference"), Signal(name="fits")
        m.d.comb += [
            shifted.eq(Mux(rooting, Cat(fed[-2:], rest), Cat(fed[-1], rest))),
            less.eq(Mux(rooting, Cat(1, 0, divisor), divisor)),
            difference.eq(shifted - less),
            fits.eq(~difference[-1]),
        ]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [rest.eq(0), self.r.eq(0), rooting.eq(self.root)]
                    with m.If(self.root):
                        m.d.sync += [
                            divisor.eq(0), fed.eq(self.v << 2 * ROOT_BITS), left.eq(_ROOT_DIGITS - 1),
                        ]  # fmt: skip
                        m.next = "ROOT"
                    with m.Else():
                        m.d.sync += [
                            divisor.eq(self.v), left.eq(_PEAK_QUOTIENT - 1),
                            fed.eq(127 << (len(fed) - 7)),
                        ]  # fmt: skip
                        m.next = "DIVIDE"
            with m.State("ROOT"):
                m.d.sync += [
                    rest.eq(Mux(fits, difference, shifted)),
                    divisor.eq(Cat(fits, divisor)),
                    fed.eq(fed << 2),
                    left.eq(left - 1),
                ]
                with m.If(left == 0):
                    m.next = "TURN"
            with m.State("TURN"):
                # 2^47 less what its first eight digits, all 0, have taken: a root has nine bits at least.
                m.d.sync += [
                    rest.eq(1 << (INVERSE_BITS - _ROOT_QUOTIENT)),
                    fed.eq(0), rooting.eq(0), left.eq(_ROOT_QUOTIENT - 1),
                ]  # fmt: skip
                m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += [
                    rest.eq(Mux(fits, difference, shifted)),
                    self.r.eq(Cat(fits & divisor.any(), self.r)),
                    fed.eq(fed << 1),
                    left.eq(left - 1),
                ]
                with m.If(left == 0):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        with m.If(self.done):
            m.d.sync += self.done.eq(0)
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
