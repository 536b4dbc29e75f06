"""Clock generators: pick divider settings and instantiate the vendor's phase-locked loop.

Both pickers are pure arithmetic, so that the clocks a board can run at are known without any tool:

* ECP5 ``EHXPLLL``, feedback from its own output: f = f_in * fb / ref, VCO = f * out within 400..800 MHz,
  phase detector f_in / ref at least 3.125 MHz;
* iCE40 ``SB_PLL40``, simple feedback: f = f_in * (divf + 1) / ((divr + 1) * 2^divq), VCO 533..1066 MHz,
  f within 16..275 MHz, phase detector within 10..133 MHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from amaranth.hdl import Const, Elaboratable, Instance, Module, Signal, Value

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


class PhaseInputs(Protocol):
    """The inputs of an EHXPLLL's dynamic phase shift."""

    @property
    def direction(self) -> Value: ...

    @property
    def step(self) -> Value: ...


class Ecp5Clock(Elaboratable):
    """``clk_in`` -> ``clk_out`` through an EHXPLLL and a clock gate that opens only while the PLL is locked.

    The gate makes a reset network needless: every register keeps its configured initial value until the first
    clean edge. With ``phase`` a second output, ``clk_moved``, is gated alike and has the same frequency and,
    at first, the same phase; ``phase`` moves it, see `ternac.hdl.diagnostics.phase`.
    """

    def __init__(self, pll: Ecp5Pll, clk_in: Value, phase: PhaseInputs | None = None) -> None:
        self.pll = pll
        self.clk_in = clk_in
        self.phase = phase
        self.clk_out = Signal(name="clk_out")
        self.clk_moved = Signal(name="clk_moved")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        raw = Signal(name="raw")
        locked = Signal(name="locked")
        center = max(self.pll.out // 2 - 1, 0)
        direction: Value = Const(1)
        step: Value = Const(1)
        second_raw = Signal(name="second_raw")
        second: dict[str, Any] = {}
        if self.phase is not None:  # PHASESEL 0 is CLKOS
            direction, step = self.phase.direction, self.phase.step
            second = {
                "a_FREQUENCY_PIN_CLKOS": f"{float(self.pll.clock_hz) / 1e6:g}",
                "p_CLKOS_ENABLE": "ENABLED",
                "p_CLKOS_DIV": self.pll.out,
                "p_CLKOS_CPHASE": center,
                "p_CLKOS_FPHASE": 0,
                "o_CLKOS": second_raw,
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{float(self.pll.clock_hz * self.pll.ref / self.pll.fb) / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{float(self.pll.clock_hz) / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED" if self.phase is None else "ENABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=self.pll.ref,
            p_CLKFB_DIV=self.pll.fb,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=self.pll.out,
            p_CLKOP_CPHASE=center,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.clk_in,
            i_CLKFB=raw,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=direction,
            i_PHASESTEP=step,
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            o_CLKOP=raw,
            o_LOCK=locked,
            **second,
        )
        m.submodules.gate = Instance("DCCA", i_CLKI=raw, i_CE=locked, o_CLKO=self.clk_out)
        if second:
            m.submodules.second = Instance("DCCA", i_CLKI=second_raw, i_CE=locked, o_CLKO=self.clk_moved)
        return m


class Ice40Clock(Elaboratable):
    """Crystal pad -> ``clk_out`` on a global net, and ``locked``; ``pll=None`` passes the crystal through.

    ``pad`` is the raw IO value of the crystal pin (requested with ``dir="-"``).
    """

    def __init__(self, pll: Ice40Pll | None, pad: object) -> None:
        self.pll = pll
        self.pad = pad
        self.clk_out = Signal(name="clk_out")
        self.locked = Signal(init=0, name="locked")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.pll is None:
            m.submodules.gb = Instance(
                "SB_GB_IO",
                p_PIN_TYPE=Const(1, 6),
                io_PACKAGE_PIN=self.pad,
                o_GLOBAL_BUFFER_OUTPUT=self.clk_out,
            )
            m.d.comb += self.locked.eq(1)
            return m
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(self.pll.divr, 4),
            p_DIVF=Const(self.pll.divf, 7),
            p_DIVQ=Const(self.pll.divq, 3),
            p_FILTER_RANGE=Const(self.pll.filter_range, 3),
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            io_PACKAGEPIN=self.pad,
            o_PLLOUTGLOBAL=self.clk_out,
            o_LOCK=self.locked,
        )
        return m


__all__ = ["Ecp5Clock", "Ecp5Pll", "Ice40Clock", "Ice40Pll", "PhaseInputs", "ecp5_pll", "ice40_pll"]
