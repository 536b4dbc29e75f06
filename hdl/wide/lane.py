"""A lane of the wide unit: a product of 16 by 41 bits by shift and add, shifted, rounded, saturated."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.registers import delay
from ternac.hdl.wide.rounding import SHIFT_BITS, ShiftRound

__all__ = ["FACTOR_BITS", "WideLane", "WideProduct"]

FACTOR_BITS = 41
"""Bits of a factor: an inverse root is at most 2^39, a scale times a multiplier below 2^39, and a sign."""


class WideProduct(wiring.Component):
    """``p = a * b``, signed, one product a cycle, LATENCY = 4; a of 16 bits.

    ``a`` becomes eight digits, seven of -1, 0, 1, 2 and a top one of -2 to 2, so that a partial product is a
    lookup table of four inputs a bit: 0, b, 2b or b's complement. The ones that complements lack go into free
    low places of the adder tree.

    :param b_bits: width of ``b``.
    :param dsp: let synthesis take multipliers instead; same bits, same latency.

    Members
    -------
    a : In(signed(16))
        The first factor.
    b : In(signed(b_bits))
        The second factor.
    p : Out(signed(16 + b_bits))
        The product.
    """

    A_BITS = 16
    LATENCY = 4

    def __init__(self, b_bits: int = FACTOR_BITS, *, dsp: bool = False) -> None:
        if b_bits < 2:
            raise ValueError(f"b_bits must be at least 2, not {b_bits}")
        self.b_bits, self.dsp = b_bits, dsp
        super().__init__(
            {
                "a": In(signed(self.A_BITS)),
                "b": In(signed(b_bits)),
                "p": Out(signed(self.A_BITS + b_bits)),
            }
        )

    def model(self, a: int, b: int) -> int:
        """The product."""
        return a * b

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.dsp:
            late = delay(m, Cat(self.a, self.b), self.LATENCY - 1, name="factors", reset_less=True)
            m.d.sync += self.p.eq(late[: self.A_BITS].as_signed() * late[self.A_BITS :].as_signed())
            return m
        # Cycle 0: digits. Two bits v of a and the carry c below make v + c - 4 (v + c >= 3), and v + c >= 3
        # is the carry of a + 0x5555 out of these bits, which leaves digit + 1 there. The bits of the top
        # digit are signed, so it takes what is left: 0 to 3 stand for -1 to 2, and 4 for -2.
        b = Signal(signed(self.b_bits), name="b_late", reset_less=True)
        minus = Signal(signed(self.b_bits + 1), name="minus", reset_less=True)
        codes = Signal(self.A_BITS - 2, name="codes", reset_less=True)
        top = Signal(3, name="top", reset_less=True)
        low = Signal(self.A_BITS - 1, name="low")
        m.d.comb += low.eq(self.a[: self.A_BITS - 2] + Const(0x1555, self.A_BITS - 2))
        high = self.a[self.A_BITS - 2 :].as_signed() + low[-1] + 1  # digit + 1: -1 to 3
        m.d.sync += [
            b.eq(self.b),
            minus.eq(-self.b),
            codes.eq(low),
            top.eq(Cat(high[:2], high < 0)),
        ]
        n = self.b_bits + 2
        # Cycle 1: partial products in pairs.
        parts, ones = [], []
        for i in range(7):
            code = codes[2 * i : 2 * i + 2]
            part = Signal(signed(n - 1), name=f"part{i}")
            with m.Switch(code):
                for value, choice in enumerate((~b, 0, b, b << 1)):
                    with m.Case(value):
                        m.d.comb += part.eq(choice)
            parts.append(part)
            ones.append(code == 0)
        last = Signal(signed(n), name="part7")
        single = Mux(top[2] | (top[:2] == 0), minus, b)
        m.d.comb += last.eq(Mux(top[0], Mux(top[1], single << 1, 0), single))
        parts.append(last)
        pairs = [
            self._add(m, parts[2 * i], 2, parts[2 * i + 1], ones[2 * i] if i < 3 else ones[6], f"pair{i}")
            for i in range(4)
        ]
        ones = [delay(m, ones[i], name=f"one{i}", reset_less=True) for i in (1, 3, 5)]
        # Cycle 2: fours; cycle 3: the product. A missing one of digit 1 weighs 4, of digit 3 64.
        low4 = self._add(m, pairs[0], 4, pairs[1], ones[0] << 2, "low4")
        high4 = self._add(m, pairs[2], 4, pairs[3], ones[2] << 2, "high4")
        one3 = delay(m, ones[1], name="one3_late", reset_less=True)
        m.d.comb += self.p.eq(self._add(m, low4, 8, high4, one3 << 6, "product"))
        return m

    @staticmethod
    def _add(m: Module, x: Value, places: int, y: Value, ones: Value, name: str) -> Value:
        """Register ``x + (y << places) + ones``, ``ones`` below ``1 << places``."""
        padded = Signal(places, name=f"{name}_ones")
        m.d.comb += padded.eq(ones)
        total = Signal(signed(len(y) + places + 1), name=name, reset_less=True)
        m.d.sync += total.eq(x + Cat(padded, y).as_signed())
        return total


class WideLane(wiring.Component):
    """``y = sat8|sat16(rshift_round(a * b, shift) + c)``, one element a cycle, LATENCY = 9.

    All inputs come together. ``p`` is the product, PRODUCT_LATENCY = 4 cycles after its factors: what a sum
    of squares and the factor of a RESCALE take.

    Members
    -------
    a : In(signed(16))
        The first factor.
    b : In(signed(41))
        The second factor.
    c : In(signed(16))
        The addend.
    shift : In(6)
        0 to 63.
    narrow : In(1)
        Saturate to 8 bits.
    p : Out(signed(57))
        The product.
    y : Out(signed(16))
        The result.
    """

    PRODUCT_LATENCY = WideProduct.LATENCY
    LATENCY = WideProduct.LATENCY + ShiftRound.LATENCY

    def __init__(self, *, dsp: bool = False) -> None:
        self.product = WideProduct(dsp=dsp)
        self.rounding = ShiftRound(len(self.product.p))
        super().__init__(
            {
                "a": In(signed(16)),
                "b": In(signed(FACTOR_BITS)),
                "c": In(signed(16)),
                "shift": In(SHIFT_BITS),
                "narrow": In(1),
                "p": Out(signed(len(self.product.p))),
                "y": Out(signed(16)),
            }
        )

    def model(self, a: int, b: int, c: int, shift: int, narrow: int) -> int:
        """``y`` of one element."""
        low, high = (-128, 127) if narrow else (-32768, 32767)
        return max(low, min(high, (a * b + (1 << shift >> 1) >> shift) + c))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.product, m.submodules.rounding = product, rounding = self.product, self.rounding
        late = [
            delay(m, part, product.LATENCY, name=name, reset_less=True)
            for part, name in ((self.c, "c_late"), (self.shift, "shift_late"), (self.narrow, "narrow_late"))
        ]
        m.d.comb += [
            product.a.eq(self.a),
            product.b.eq(self.b),
            self.p.eq(product.p),
            rounding.x.eq(product.p),
            rounding.addend.eq(late[0]),
            rounding.shift.eq(late[1]),
            rounding.narrow.eq(late[2]),
            self.y.eq(rounding.y),
        ]
        return m
