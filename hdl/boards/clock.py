"""Clock generators: the vendor's phase-locked loop with the settings of `ternac.hdl.boards.pll`."""

from __future__ import annotations

from typing import Any, Protocol

from amaranth.hdl import Const, Elaboratable, Instance, Module, Signal, Value

from ternac.hdl.boards.pll import Ecp5Pll, GowinPll, Ice40Pll

__all__ = ["Ecp5Clock", "GowinClock", "Ice40Clock", "PhaseInputs"]


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

    ``pad`` is the raw IO value of the crystal pin (requested with ``dir="-"``), or with ``through_fabric``,
    where that pin is not the PLL's own, its value inside.
    """

    def __init__(self, pll: Ice40Pll | None, pad: object, *, through_fabric: bool = False) -> None:
        self.pll = pll
        self.pad = pad
        self.through_fabric = through_fabric
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
        kind, port = "SB_PLL40_PAD", {"io_PACKAGEPIN": self.pad}
        if self.through_fabric:
            kind, port = "SB_PLL40_CORE", {"i_REFERENCECLK": self.pad}
        m.submodules.pll = Instance(
            kind,
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(self.pll.divr, 4),
            p_DIVF=Const(self.pll.divf, 7),
            p_DIVQ=Const(self.pll.divq, 3),
            p_FILTER_RANGE=Const(self.pll.filter_range, 3),
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            **port,
            o_PLLOUTGLOBAL=self.clk_out,
            o_LOCK=self.locked,
        )
        return m


class GowinClock(Elaboratable):
    """``clk_in`` -> ``clk_out`` through an rPLL, and ``locked``.

    An rPLL's output runs before it has locked, and nothing gates it here; so what begins by itself must wait,
    as on the iCE40.
    """

    def __init__(self, pll: GowinPll, clk_in: Value, device: str) -> None:
        self.pll = pll
        self.clk_in = clk_in
        self.device = device
        self.clk_out = Signal(name="clk_out")
        self.locked = Signal(name="locked")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pll = Instance(
            "rPLL",
            p_FCLKIN=f"{float(self.pll.clock_hz * self.pll.ref / self.pll.fb) / 1e6:g}",
            p_DEVICE=self.device,
            p_IDIV_SEL=self.pll.ref - 1,
            p_FBDIV_SEL=self.pll.fb - 1,
            p_ODIV_SEL=self.pll.out,
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_DYN_DA_EN="false",
            p_DYN_SDIV_SEL=2,
            p_PSDA_SEL="0000",
            p_DUTYDA_SEL="1000",
            p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false",
            p_CLKOUTP_BYPASS="false",
            p_CLKOUTD_BYPASS="false",
            p_CLKOUT_FT_DIR=Const(1, 1),
            p_CLKOUTP_FT_DIR=Const(1, 1),
            p_CLKOUT_DLY_STEP=0,
            p_CLKOUTP_DLY_STEP=0,
            p_CLKOUTD_SRC="CLKOUT",
            p_CLKOUTD3_SRC="CLKOUT",
            i_CLKIN=self.clk_in,
            i_CLKFB=Const(0),
            i_RESET=Const(0),
            i_RESET_P=Const(0),
            i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6),
            i_ODSEL=Const(0, 6),
            i_PSDA=Const(0, 4),
            i_DUTYDA=Const(0, 4),
            i_FDLY=Const(0, 4),
            o_CLKOUT=self.clk_out,
            o_LOCK=self.locked,
        )
        return m
