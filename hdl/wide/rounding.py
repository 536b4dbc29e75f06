"""Right shift by 0 to 63 with rounding, addend and saturation: what ends every wide op."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.registers import delay

__all__ = ["SHIFT_BITS", "ShiftRound"]

SHIFT_BITS = 6
_OUT = 16
_KEEP = _OUT + 2
"""A bit below the point, and 17: what lies beyond them no 16-bit addend brings back into range."""


class ShiftRound(wiring.Component):
    """``y = sat8|sat16(rshift_round(x, shift) + addend)``, one element a cycle, LATENCY = 5.

    All inputs come together. ``rshift_round(x, s)`` is ``(2x >> s >> 1) + (2x >> s & 1)``: the shifter
    keeps a bit below the point and, from stage to stage, only as many bits above as can still come in range;
    what is cut sets an overflow flag. (The engine's Requant ends at a shift of 31, its inputs staggered.)

    Members
    -------
    x : In(signed(in_bits))
        The value.
    shift : In(6)
        0 to 63.
    addend : In(signed(16))
        Added behind the rounding.
    narrow : In(1)
        Saturate to 8 bits.
    y : Out(signed(16))
        The result.
    """

    LATENCY = 5

    def __init__(self, in_bits: int) -> None:
        if not 2 <= in_bits <= 66:
            raise ValueError(f"in_bits must be 2..66, not {in_bits}")
        self.in_bits = in_bits
        super().__init__(
            {
                "x": In(signed(in_bits)),
                "shift": In(SHIFT_BITS),
                "addend": In(signed(_OUT)),
                "narrow": In(1),
                "y": Out(signed(_OUT)),
            }
        )

    def model(self, x: int, shift: int, addend: int, narrow: int) -> int:
        """``y`` of one element."""
        low, high = (-128, 127) if narrow else (-32768, 32767)
        return max(low, min(high, (x + (1 << shift >> 1) >> shift) + addend))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        x2 = Signal(signed(self.in_bits + 1), name="x2")
        m.d.comb += x2.eq(self.x << 1)
        # Cycles 0 to 2: by multiples of 16, of 4, and the rest. Before each, bits that stay beyond are cut.
        value: Value = x2
        shift, over, sign = self.shift, Const(0), self.x[-1]
        for stage, (bits, step, most) in enumerate(((2, 16, 63), (2, 4, 15), (2, 1, 3))):
            value, over = _cut(value, _KEEP + most, over)
            by = shift[SHIFT_BITS - 2 * (stage + 1) :][:bits]
            moved = Mux(by[1], value >> 2 * step, value)
            register = Signal(signed(len(value)), name=f"moved{stage}", reset_less=True)
            m.d.sync += register.eq(Mux(by[0], moved >> step, moved))
            shift, over, sign = (
                delay(m, part, name=f"{name}{stage}", reset_less=True)
                for part, name in ((shift, "shift"), (over, "over"), (sign, "sign"))
            )
            value = register
        value, over = _cut(value, _KEEP, over)
        # Cycle 3: the bit below the point is the carry in.
        addend = delay(m, self.addend, 3, name="addend", reset_less=True)
        rounded = Cat(Const(1, 1), value[1:]).as_signed() + Cat(value[0], addend).as_signed()
        total = Signal(signed(_KEEP), name="total", reset_less=True)
        m.d.sync += total.eq(rounded >> 1)
        over, sign = (delay(m, part, name="late", reset_less=True) for part in (over, sign))
        # Cycle 4: saturate.
        narrow = delay(m, self.narrow, 4, name="narrow", reset_less=True)

        def differ(low: int) -> Value:
            return total[low:].any() & ~total[low:].all()

        negative = Mux(over, sign, total[-1])
        beyond = over | Mux(narrow, differ(7), differ(_OUT - 1))
        above = Mux(narrow | beyond, Mux(narrow, negative, ~negative).replicate(8), total[7:15])
        m.d.sync += self.y.eq(Cat(Mux(beyond, (~negative).replicate(7), total[:7]), above, negative))
        return m


def _cut(value: Value, width: int, over: Value) -> tuple[Value, Value]:
    """``value`` in ``width`` bits, and ``over`` or whether that loses anything."""
    if len(value) <= width:
        return value, over
    top = value[width - 1 :]
    return value[:width].as_signed(), over | (top.any() & ~top.all())
