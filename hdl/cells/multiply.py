"""Signed product by shift and add; no multiplier cell can come of it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.carry import Gate, add
from ternac.hdl.cells.tech import Technology

__all__ = ["ShiftAddMultiplier"]


class ShiftAddMultiplier(wiring.Component):
    """``p = a * b``, signed, one product per cycle.

    ``b`` comes **one cycle before** its ``a`` (B_LEAD); ``p``, ``a_bits + b_bits`` wide, is valid LATENCY = 3
    cycles after ``a``.

    ``b`` (9 bits) is recoded into four digits of -1, 0, 1, 2 and a top digit of -1, 0, 1, so that each
    partial product is one lookup table per bit of ``a``: 0, a, 2a or the complement of a. The ones that the
    complements lack go into free low places of the adder tree.

    Members
    -------
    a : In(signed(a_bits))
        The first factor.
    b : In(signed(b_bits))
        The second factor, a cycle earlier.
    p : Out(signed(a_bits + b_bits))
        The product, LATENCY cycles after ``a``.
    """

    LATENCY = 3
    B_LEAD = 1

    def __init__(self, a_bits: int = 17, b_bits: int = 9, *, tech: Technology = Technology.PORTABLE) -> None:
        if a_bits < 2:
            raise ValueError(f"a_bits must be at least 2, not {a_bits}")
        if b_bits != 9:
            raise ValueError(f"b_bits must be 9, not {b_bits}")
        self.a_bits, self.b_bits, self.tech = a_bits, b_bits, tech
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "p": Out(signed(a_bits + b_bits)),
            }
        )

    def model(self, a: int, b: int) -> int:
        """The product."""
        return a * b

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        n = self.a_bits
        # Digit i of b is 0, 1, 2 or -1 (code 3), taken from two bits and the carry of the digit below.
        digits = [Signal(2, name=f"digit{i}") for i in range(4)]
        top = Signal(2, name="top")
        carry: Value = Const(0)
        for i, digit in enumerate(digits):
            low, high = self.b[2 * i], self.b[2 * i + 1]
            m.d.sync += digit.eq(Cat(low ^ carry, high ^ (low & carry)))
            above = Signal(name=f"carry{i}")
            m.d.comb += above.eq(high & (low | carry))
            carry = above
        # The sign bit of b weighs -1 in the top digit: 1 is +1, 3 is -1.
        m.d.sync += top.eq(Cat(carry ^ self.b[8], self.b[8] & ~carry))

        def partial(digit: Value) -> Value:
            a = self.a
            return Array([Const(0, signed(n + 1)), a, a << 1, ~a])[digit].as_signed()

        ones = [digit.all() for digit in digits]
        sum01, sum23 = Signal(signed(n + 4), name="sum01"), Signal(signed(n + 4), name="sum23")
        m.d.sync += [
            sum01.eq(partial(digits[0]) + Cat(ones[0], Const(0, 1), partial(digits[1])).as_signed()),
            sum23.eq(partial(digits[2]) + Cat(ones[2], Const(0, 1), partial(digits[3])).as_signed()),
        ]
        # Of the top digit: a itself, whether it counts, whether it is negative; and the ones still to add.
        late = (self.a, top[0], top[1], ones[3])
        one1 = Signal(name="one1")
        m.d.sync += one1.eq(ones[1])
        for stage in range(2):
            now = tuple(Signal(value.shape(), name=f"late{stage}_{i}") for i, value in enumerate(late))
            m.d.sync += [signal.eq(value) for signal, value in zip(now, late, strict=True)]
            late = now
        a2, counts, minus, one3 = late
        low_sum = Signal(signed(n + 8), name="low_sum")
        m.d.sync += low_sum.eq(sum01 + Cat(Const(0, 2), one1, Const(0, 1), sum23).as_signed())
        # A negative top digit has no carry from digit 3, hence digit 3 is not -1: never both want bit 6.
        upper = add(
            m,
            self.tech,
            "top",
            n + 3,
            low_sum[6:],
            Cat(minus | one3, minus, a2),
            Gate.FLIP,
            c=Cat(Const(0b11, 2), counts.replicate(n + 1)),
            d=Cat(Const(0, 2), minus.replicate(n + 1)),
            carry_in=minus,
        )
        m.d.sync += self.p.eq(Cat(low_sum[:6], upper))
        return m
