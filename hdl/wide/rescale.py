"""Serial products behind the dot units: a sum times the factor of its matrix, shifted, rounded, saturated."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.registers import delay
from ternac.hdl.wide.rounding import SHIFT_BITS, ShiftRound

__all__ = ["RescaleUnit"]

SUM_BITS = 24
"""A sum of 65,535 products of i8 is below 2^23."""
MULTIPLIER_BITS = 40
"""A scale below 2^15 times a multiplier below 2^24, or the multiplier of a REQUANT."""
_PRODUCT_BITS = SUM_BITS + MULTIPLIER_BITS + 1


class RescaleUnit(wiring.Component):
    """``y = sat8|sat16(rshift_round(sum * factor, shift))``, RESCALE and REQUANT of a matrix's sums.

    A sum is multiplied ``digits`` digits of -1, 0, 1, 2 a cycle, lowest first; one is taken every ``every``
    cycles, and ``y`` comes ``latency`` cycles after it was. The factor is that of the sum's matrix:
    ``factors`` holds one for each, which leaves with the matrix's last sum.

    :param digits: base-4 digits a cycle, 1 to 13.

    Members
    -------
    factors : In(stream.Signature(factor_layout))
        ``factor`` (40 bits), ``shift`` and ``narrow`` of a matrix, in the order of the matrices.
    sums : In(stream.Signature(sum_layout))
        ``sum`` of a row, and ``last`` with a matrix's last.
    valid : Out(1)
        Pulse: a result; it has to be taken.
    last : Out(1)
        It is its matrix's last.
    y : Out(signed(16))
        The result.
    """

    MOST = SUM_BITS // 2 + 1
    """Digits of a sum."""
    BEHIND = 2 + ShiftRound.LATENCY
    """Cycles from a sum's last digits to its result."""

    @classmethod
    def steps(cls, digits: int) -> int:
        """Return the cycles that a sum's digits take."""
        return -(-cls.MOST // digits)

    def __init__(self, *, digits: int = 2) -> None:
        most = self.MOST
        if not 1 <= digits <= most:
            raise ValueError(f"digits must be 1..{most}, not {digits}")
        self.digits = digits
        self.every = self.steps(digits)
        self.latency = self.every + self.BEHIND
        self.factor_layout = data.StructLayout({"factor": MULTIPLIER_BITS, "shift": SHIFT_BITS, "narrow": 1})
        self.sum_layout = data.StructLayout({"sum": signed(SUM_BITS), "last": 1})
        super().__init__(
            {
                "factors": In(stream.Signature(self.factor_layout)),
                "sums": In(stream.Signature(self.sum_layout)),
                "valid": Out(1),
                "last": Out(1),
                "y": Out(signed(16)),
            }
        )

    def model(self, x: int, factor: int, shift: int, narrow: int) -> int:
        """``y`` of one sum."""
        low, high = (-128, 127) if narrow else (-32768, 32767)
        return max(low, min(high, x * factor + (1 << shift >> 1) >> shift))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.rounding = rounding = ShiftRound(_PRODUCT_BITS)
        bits = 2 * self.digits
        x = Signal(signed(SUM_BITS), name="x", reset_less=True)
        carry, busy, at_end = Signal(name="carry"), Signal(name="busy"), Signal(name="at_end")
        left = Signal(range(self.every), name="left")
        factor = Signal(signed(MULTIPLIER_BITS + 1), name="factor", reset_less=True)
        # A sum's digits: two bits and the carry below make v + c; 3 is -1 and 4 is 0, with a carry. A code is
        # digit + 1, so that a part is a lookup table of four inputs a bit; complements' ones come along.
        total: Value = Const(0)
        below: Value = carry
        for i in range(self.digits):
            pair = x[2 * i : 2 * i + 2] if 2 * i < SUM_BITS else x[-1].replicate(2)
            count = Signal(3, name=f"count{i}")
            part = Signal(signed(MULTIPLIER_BITS + 2), name=f"part{i}")
            m.d.comb += count.eq(pair + below)
            with m.Switch((count + 1)[:2]):
                for value, choice in enumerate((~factor, 0, factor, factor << 1)):
                    with m.Case(value):
                        m.d.comb += part.eq(choice)
            total = total + (part << 2 * i) + ((count == 3) << 2 * i)
            below = count >= 3
        # The step's parts are added a cycle before they meet the sum of the steps before.
        step = Signal(signed(MULTIPLIER_BITS + 3 + bits), name="step", reset_less=True)
        m.d.sync += step.eq(total)
        high_part = Signal(signed(MULTIPLIER_BITS + 3), name="high_part", reset_less=True)
        low_part = Signal(self.every * bits, name="low_part", reset_less=True)
        with_carry = Signal(signed(MULTIPLIER_BITS + 3 + bits), name="with_carry")
        take, done = Signal(name="take"), Signal(name="done")
        first = delay(m, take, 2, name="first")
        m.d.comb += [
            with_carry.eq(Mux(first, 0, high_part) + step),
            take.eq(self.sums.valid & self.factors.valid & (~busy | (left == 0))),
            self.sums.ready.eq(self.factors.valid & (~busy | (left == 0))),
            self.factors.ready.eq(take & self.sums.payload.last),
        ]
        adding = delay(m, busy, name="adding")
        m.d.sync += done.eq(delay(m, busy & (left == 0), name="at_end_late"))
        with m.If(adding):
            m.d.sync += [
                high_part.eq(with_carry >> bits),
                low_part.eq(Cat(low_part, with_carry[:bits])[bits:]),
            ]
        with m.If(busy):
            m.d.sync += [
                x.eq(x >> bits),
                carry.eq(below),
                left.eq(left - 1),
            ]
            with m.If(left == 0):
                m.d.sync += busy.eq(0)
        shift, narrow = Signal(SHIFT_BITS, name="shift"), Signal(name="narrow")
        with m.If(take):
            m.d.sync += [
                busy.eq(1), left.eq(self.every - 1), carry.eq(0),
                x.eq(self.sums.payload.sum), at_end.eq(self.sums.payload.last),
                factor.eq(self.factors.payload.factor),
                shift.eq(self.factors.payload.shift), narrow.eq(self.factors.payload.narrow),
            ]  # fmt: skip
        late = delay(m, Cat(shift, narrow, at_end), 2, name="setting", reset_less=True)
        m.d.comb += [
            rounding.x.eq(Cat(low_part, high_part)),
            rounding.shift.eq(late),
            rounding.narrow.eq(late[SHIFT_BITS]),
            self.y.eq(rounding.y),
            Cat(self.valid, self.last).eq(delay(m, Cat(done, late[-1]), ShiftRound.LATENCY, name="flags")),
        ]
        return m
