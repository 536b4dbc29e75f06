"""Weight of a logit, EXP[min(255, (distance * m) >> s)], in a fixed number of cycles."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import read_port
from ternac.run.sampling import EXP

__all__ = ["Exponential"]

_DIGITS = 4  # radix-4 digits of m


class Exponential(wiring.Component):
    """``weight = keep ? EXP[min(255, (distance * m) >> s)] : 0`` (docs/numerics.md, Sampling).

    ``weight`` belongs to the ``distance`` and ``keep`` of :attr:`latency` cycles before; where ``keep`` was
    low it is 0. ``m`` and ``s`` are constant while elements pass. The product is shift and add, two bits of
    ``m`` at a time.

    Parameters
    ----------
    pace : 1: four stages, one element per cycle.  4: one stage used four times, a third of the area: an
        element begins with ``strobe`` in one cycle (``keep`` in this cycle only) and ``distance`` holds for
        four.

    ``latency`` is 8 cycles at either pace: product 4, shift 2, ROM 1, its output register 1.

    Members
    -------
    distance : In(16)
        How far a logit is below the largest.
    strobe : In(1)
        At pace 4: an element begins.
    keep : In(1)
        It takes part in the draw.
    m : In(8)
        Mantissa of the inverse temperature.
    s : In(5)
        Its shift.
    weight : Out(16)
        The weight, `latency` cycles later.
    """

    latency = 8

    def __init__(self, *, pace: int = 1) -> None:
        if pace not in (1, _DIGITS):
            raise ValueError(f"pace must be 1 or {_DIGITS}, not {pace!r}")
        self.pace = pace
        super().__init__(
            {"distance": In(16), "strobe": In(1), "keep": In(1), "m": In(8), "s": In(5), "weight": Out(16)}
        )

    @staticmethod
    def model(distance: np.ndarray, m: int, s: int) -> np.ndarray:
        """Weights (int64) for distances 0..65535."""
        code = np.minimum(255, (np.asarray(distance, np.int64) * m) >> s)
        return np.asarray(EXP, np.int64)[code]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        product = self._pipelined(m) if self.pace == 1 else self._iterated(m)

        # Bits from 15 up saturate whatever the fine shift (at most 7) is.
        coarse, fine = Signal(24, name="coarse"), Signal(15, name="fine")
        shifted, over, code = Signal(15, name="shifted"), Signal(name="over"), Signal(8, name="code")
        m.d.comb += [coarse.eq(product >> Cat(Const(0, 3), self.s[3:])), fine.eq(shifted >> self.s[:3])]
        m.d.sync += [shifted.eq(coarse), over.eq(coarse[15:].any())]
        m.d.sync += code.eq(fine[:8] | (over | fine[8:].any()).replicate(8))

        keep = Signal(self.latency - 1, name="keep")
        m.d.sync += keep.eq(Cat(self.keep, keep))

        m.submodules.rom = rom = Memory(shape=16, depth=256, init=[int(value) for value in EXP])
        read = read_port(rom)
        m.d.comb += [read.en.eq(1), read.addr.eq(code)]
        m.d.sync += self.weight.eq(Mux(keep[-1], read.data, 0))
        return m

    def _pipelined(self, m: Module) -> Signal:
        """Product four cycles after its distance; the low bits, final early, travel along."""
        distance: Signal = self.distance
        product = Signal(0, name="product")
        for stage in range(_DIGITS):
            low = 2 * stage
            following = Signal(18 + low, name=f"product_{stage}")
            digit = self.m[low : low + 2]
            m.d.sync += following.eq(Cat(product[:low], product[low:] + _times(distance, digit)))
            product = following
            if stage < _DIGITS - 1:
                travelling = Signal(16, name=f"distance_{stage}")
                m.d.sync += travelling.eq(distance)
                distance = travelling
        return product

    def _iterated(self, m: Module) -> Signal:
        """The same value at the same time from one stage; digits of m move past it from ``strobe`` on."""
        digits, high, low = Signal(8, name="digits"), Signal(18, name="high"), Signal(6, name="low")
        digit = Signal(2, name="digit")
        m.d.comb += digit.eq(Mux(self.strobe, self.m[:2], digits[:2]))
        m.d.sync += [
            digits.eq(Mux(self.strobe, self.m, digits) >> 2),
            low.eq(Cat(low[2:], high[:2])),
            high.eq(Mux(self.strobe, 0, high[2:]) + _times(self.distance, digit)),
        ]
        return Cat(low, high)


def _times(value: Signal, digit: Signal) -> Signal:
    """``value * digit`` for a 2-bit digit, as one addition."""
    return (Mux(digit[0], value, 0) + (Mux(digit[1], value, 0) << 1))[:18]
