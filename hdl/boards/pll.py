"""Divider settings of the vendors' phase-locked loops, by arithmetic alone.

So the clocks that a board can run at are known without any tool; `ternac.hdl.boards.clock` instantiates them:

* ECP5 ``EHXPLLL``, feedback from its own output: f = f_in * fb / ref, VCO = f * out within 400..800 MHz,
  phase detector f_in / ref at least 3.125 MHz;
* iCE40 ``SB_PLL40``, simple feedback: f = f_in * (divf + 1) / ((divr + 1) * 2^divq), VCO 533..1066 MHz,
  f within 16..275 MHz, phase detector within 10..133 MHz;
* Gowin ``rPLL``, feedback from its own output: f = f_in * fb / ref, VCO = f * out within limits of the
  device, phase detector at least 3 MHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ternac.errors import UsageError


@dataclass(frozen=True)
class Ecp5Pll:
    """Dividers of an EHXPLLL; ``clock_hz`` is exact."""

    clock_hz: Fraction
    ref: int
    fb: int
    out: int

    @property
    def vco_hz(self) -> Fraction:
        return self.clock_hz * self.out


@dataclass(frozen=True)
class Ice40Pll:
    """Register values of an SB_PLL40_PAD with simple feedback; ``clock_hz`` is exact."""

    clock_hz: Fraction
    divr: int
    divf: int
    divq: int
    filter_range: int


def ecp5_pll(input_hz: int, clock_hz: Fraction) -> Ecp5Pll:
    """Dividers that give exactly ``clock_hz``: highest phase-detector frequency first, then a VCO near 600
    MHz.

    Raises UsageError when no setting gives it exactly.
    """
    best: tuple[tuple[int, Fraction], Ecp5Pll] | None = None
    for ref in range(1, 129):
        if Fraction(input_hz, ref) < 3_125_000:
            break
        fb = clock_hz * ref / input_hz
        if fb.denominator != 1 or not 1 <= fb <= 128:
            continue
        for out in range(1, 129):
            vco = clock_hz * out
            if 400_000_000 <= vco <= 800_000_000:
                key = (ref, abs(vco - 600_000_000))
                if best is None or key < best[0]:
                    best = (key, Ecp5Pll(clock_hz, ref, int(fb), out))
    if best is None:
        raise UsageError(
            f"no ECP5 PLL setting makes {float(clock_hz) / 1e6:g} MHz from {input_hz / 1e6:g} MHz",
            "take a clock such as 50, 60, 62.5, 75 or 80",
        )
    return best[1]


def _filter_range(pfd_hz: Fraction) -> int:
    limits = (17_000_000, 26_000_000, 44_000_000, 66_000_000, 101_000_000)
    return 1 + sum(pfd_hz >= limit for limit in limits)


def ice40_pll(input_hz: int, clock_hz: Fraction) -> Ice40Pll:
    """Register values that give exactly ``clock_hz``, lowest divr first; UsageError when there are none."""
    if 16_000_000 <= clock_hz <= 275_000_000:
        for divr in range(16):
            pfd = Fraction(input_hz, divr + 1)
            if pfd < 10_000_000:
                break
            for divq in range(1, 7):
                vco = clock_hz * 2**divq
                steps = vco / pfd
                if 533_000_000 <= vco <= 1_066_000_000 and steps.denominator == 1 and 1 <= steps <= 128:
                    return Ice40Pll(clock_hz, divr, int(steps) - 1, divq, _filter_range(pfd))
    raise UsageError(
        f"no iCE40 PLL setting makes {float(clock_hz) / 1e6:g} MHz from {input_hz / 1e6:g} MHz",
        "take 12 (no PLL) or a clock such as 16.5, 18, 21 or 24",
    )


@dataclass(frozen=True)
class GowinPll:
    """Dividers of an rPLL; ``clock_hz`` is exact."""

    clock_hz: Fraction
    ref: int
    fb: int
    out: int

    @property
    def vco_hz(self) -> Fraction:
        return self.clock_hz * self.out


_GOWIN_OUT = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
"""Dividers from the VCO to the output."""


def gowin_pll(input_hz: int, clock_hz: Fraction, vco_hz: tuple[int, int]) -> GowinPll:
    """Dividers that give exactly ``clock_hz``: highest phase-detector frequency first, then the fastest VCO
    within ``vco_hz``.

    Raises UsageError when no setting gives it exactly.
    """
    low, high = vco_hz
    for ref in range(1, 65):
        if Fraction(input_hz, ref) < 3_000_000:
            break
        fb = clock_hz * ref / input_hz
        if fb.denominator != 1 or not 1 <= fb <= 64:
            continue
        fitting = [out for out in _GOWIN_OUT if low <= clock_hz * out <= high]
        if fitting:
            return GowinPll(clock_hz, ref, int(fb), fitting[-1])
    raise UsageError(
        f"no Gowin PLL setting makes {float(clock_hz) / 1e6:g} MHz from {input_hz / 1e6:g} MHz",
        "take a clock such as 27, 31.5, 36, 40.5, 45 or 54",
    )


__all__ = ["Ecp5Pll", "GowinPll", "Ice40Pll", "ecp5_pll", "gowin_pll", "ice40_pll"]
