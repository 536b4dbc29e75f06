"""Right shift with rounding, optional addend, saturation to 8 or 16 bits."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Requant"]


class Requant(wiring.Component):
    """``y = sat8|sat16(rshift_round(x, shift) + addend)``, one element per cycle, LATENCY = 4.

    Inputs come in the cycle in which they are used, so that one control line can serve many columns:

        cycle 0  x (``in_bits``, signed), coarse = shift >> 3
        cycle 1  fine = shift & 7
        cycle 2  addend (16 bit signed; only with ``addend=True``)
        cycle 3  narrow: saturate to 8 bits, else 16;  ``early`` is combinationally what y will be
        cycle 4  y

    Formula: ``rshift_round(x, s) = (x + ((1 << s) >> 1)) >> s = (2x >> s >> 1) + (2x >> s & 1)``, s in 0..31.
    The shifter keeps one bit below the point for the rounding and, from stage to stage, only as many bits
    above as can still come into range; what is cut sets an overflow flag.

    With ``wide=False`` the result is always saturated to 8 bits: ``narrow`` is not there, ``early`` and ``y``
    are 8 bits, and the shifter keeps half as many.

    Members
    -------
    x : In(signed(in_bits))
        The value, at cycle 0.
    coarse : In(2)
        shift >> 3, at cycle 0.
    fine : In(3)
        shift & 7, at cycle 1.
    addend : In(signed(16))
        With ``addend=True``: added after the shift, at cycle 2.
    narrow : In(1)
        With ``wide=True``: saturate to 8 bits, at cycle 3.
    early : Out(signed(out_bits))
        The result, combinational at cycle 3.
    y : Out(signed(out_bits))
        The result, at cycle 4.
    """

    LATENCY = 4

    def __init__(self, in_bits: int, *, addend: bool = False, wide: bool = True) -> None:
        if not 2 <= in_bits <= 32:
            raise ValueError(f"in_bits must be 2..32, not {in_bits}")
        if addend and not wide:
            raise ValueError("an addend needs wide=True")
        self.in_bits, self.has_addend, self.wide = in_bits, addend, wide
        self.out_bits = 16 if wide else 8
        super().__init__(
            {
                "x": In(signed(in_bits)),
                "coarse": In(2),
                "fine": In(3),
                "addend": In(signed(16)),
                **({"narrow": In(1)} if wide else {}),
                "early": Out(signed(self.out_bits)),
                "y": Out(signed(self.out_bits)),
            }
        )

    def model(self, x: int, shift: int, narrow: bool, addend: int = 0) -> int:
        """``y`` of one element."""
        low, high = (-128, 127) if narrow or not self.wide else (-32768, 32767)
        value = (x + (1 << shift >> 1) >> shift) + (addend if self.has_addend else 0)
        return max(low, min(high, value))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # With an addend 17 bits are kept: what lies beyond them no 16-bit addend brings back into range.
        keep = self.out_bits + (2 if self.has_addend else 1)

        x2 = Signal(signed(self.in_bits + 1), name="x2")
        m.d.comb += x2.eq(self.x << 1)
        rough = Signal(signed(self.in_bits + 1), name="rough")
        sign1 = self.x[-1]
        by16 = Mux(self.coarse[1], x2 >> 16, x2)
        m.d.sync += rough.eq(Mux(self.coarse[0], by16 >> 8, by16))
        sign1 = rough[-1]

        value, over = rough, Const(0)
        for bit in (2, 1, 0):
            step = 1 << bit
            wide = keep + 2 * step - 1
            value, over = self._narrow(value, wide, over)
            value = Mux(self.fine[bit], value >> step, value)
        value, over = self._narrow(value, keep, over)
        fine, over2, sign2 = Signal(signed(keep), name="fine"), Signal(name="over2"), Signal(name="sign2")
        m.d.sync += [fine.eq(value), over2.eq(over), sign2.eq(sign1)]

        total = Signal(signed(keep), name="total")
        over3, sign3 = Signal(name="over3"), Signal(name="sign3")
        addend = self.addend if self.has_addend else Const(0, signed(2))
        # fine[0] is the carry in: the bit below the point rounds.
        rounded = Cat(Const(1, 1), fine[1:]).as_signed() + Cat(fine[0], addend).as_signed()
        m.d.sync += [total.eq(rounded >> 1), over3.eq(over2), sign3.eq(sign2)]

        def differ(low: int) -> Value:
            bits = total[low:]
            return bits.any() & ~bits.all()

        negative = Mux(over3, sign3, total[-1])
        narrow: Value = self.narrow if self.wide else Const(1)
        beyond = over3 | Mux(narrow, differ(7), differ(15))
        above = Mux(narrow | beyond, Mux(narrow, negative, ~negative).replicate(8), total[7:15])
        m.d.comb += self.early.eq(
            Cat(Mux(beyond, (~negative).replicate(7), total[:7]), *([above] if self.wide else []), negative)
        )
        m.d.sync += self.y.eq(self.early)
        return m

    @staticmethod
    def _narrow(value: Value, width: int, over: Value) -> tuple[Value, Value]:
        """``value`` in ``width`` bits, and ``over`` or whether that loses anything."""
        if len(value) <= width:
            return value, over
        top = value[width - 1 :]
        return value[:width].as_signed(), over | (top.any() & ~top.all())
