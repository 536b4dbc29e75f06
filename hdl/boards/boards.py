"""Boards: pins, clock and link of each, and the shell that puts an engine behind them.

A board says what is soldered (through amaranth-boards), which engine geometry its bitstream carries and which
clocks its PLL can make. ``BoardShell`` is the top level of every bitstream: clock, UART pins, LEDs, flash
pins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Module, Signal, Value
from amaranth.lib import io
from amaranth_boards.icebreaker import ICEBreakerPlatform
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from ternac.compile.sdram import NOMINAL_HZ
from ternac.errors import UsageError
from ternac.hdl.boards.pll import Ecp5Clock, Ice40Clock, PhaseInputs, ecp5_pll, ice40_pll
from ternac.hdl.cells.tech import Technology
from ternac.hdl.link.uart import rate_increment
from ternac.hdl.sdram.pads import SdramPads
from ternac.link import WINDOW

MIB = 1 << 20


class Payload(Protocol):
    """The design in a shell: single-bit ports. ``start`` becomes 1 some time after power-up and stays 1.

    The flash pins are wired on boards that load models from their flash, ``sdram`` (`SdramPins`) unless None.
    """

    rx: Signal
    tx: Signal
    loaded: Signal
    busy: Signal
    start: Signal
    flash_cs: Signal
    flash_clk: Signal
    flash_copi: Signal
    flash_cipo: Signal
    sdram: Any

    def elaborate(self, platform: Any) -> Module: ...


@dataclass(frozen=True, kw_only=True)
class Board:
    """One supported board. ``clock_hz`` is the design clock of its shipped bitstream, ``target_hz`` what
    place and route aims at (above the clock, so that the result has slack), ``baud`` the link's bits
    per second.
    """

    name: str
    title: str
    family: str
    """``ecp5`` or ``ice40``"""
    geometry: str
    crystal_hz: int
    clock_hz: int
    target_hz: int
    baud: int
    tech: Technology
    make_platform: Callable[[], Any]
    nextpnr_device: tuple[str, ...]
    synth_options: tuple[str, ...]
    seed: int
    leds: int
    flash_offset: int | None
    """Offset of the image of ``build MODEL`` in the flash; None: the model is patched into block RAM."""
    openfpgaloader_board: str
    bitstream_suffix: str
    resources: dict[str, int]
    """Resources of the chip, under the keys of a manifest: comb, ff, bram (and spram)."""
    window: int = WINDOW
    """Requests that may be in flight on its link: with 1 there are no block RAMs for the line."""
    supply_watts: float = 2.5
    """Most power that the board may draw: both hang on a USB 2.0 port, 0.5 A at 5 V."""

    def check_clock(self, clock_hz: int) -> None:
        """Raise UsageError unless the board can make ``clock_hz`` exactly and the UART can divide it."""
        if self.family == "ecp5":
            ecp5_pll(self.crystal_hz, Fraction(clock_hz))
        elif clock_hz != self.crystal_hz:
            ice40_pll(self.crystal_hz, Fraction(clock_hz))

        try:
            rate_increment(clock_hz, self.baud)
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}", "take a faster clock") from None


_ULX3S_85F = ("--85k", "--package", "CABGA381", "--speed", "6", "--router", "router2")

BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        Board(
            name="ulx3s-85f",
            title="Radiona ULX3S, Lattice ECP5-85F speed grade 6",
            family="ecp5",
            geometry="ulx3s-85f",
            crystal_hz=25_000_000,
            clock_hz=75_000_000,
            target_hz=93_000_000,
            baud=3_000_000,
            tech=Technology.ECP5,
            make_platform=ULX3S_85F_Platform,
            nextpnr_device=(*_ULX3S_85F, "--tmg-ripup"),
            synth_options=(),
            seed=1,
            leds=3,
            flash_offset=None,
            openfpgaloader_board="ulx3s",
            bitstream_suffix=".bit",
            resources={"comb": 83_640, "ff": 83_640, "bram": 208},
        ),
        Board(
            name="icebreaker",
            title="1BitSquared iCEBreaker, Lattice iCE40UP5K",
            family="ice40",
            geometry="icebreaker",
            window=1,
            crystal_hz=12_000_000,
            clock_hz=30_000_000,
            target_hz=34_000_000,
            baud=1_000_000,
            tech=Technology.ICE40,
            make_platform=ICEBreakerPlatform,
            nextpnr_device=("--up5k", "--package", "sg48"),
            synth_options=(),
            seed=1,
            leds=2,
            flash_offset=MIB,
            openfpgaloader_board="ice40_generic",
            bitstream_suffix=".bin",
            resources={"comb": 5_280, "ff": 5_280, "bram": 30, "spram": 4},
        ),
    )
}


VARIANTS: dict[str, Board] = {
    variant.geometry: variant
    for variant in (
        replace(
            BOARDS["ulx3s-85f"],
            geometry="ulx3s-85f-sdram",
            clock_hz=NOMINAL_HZ,
            target_hz=70_000_000,
            nextpnr_device=_ULX3S_85F,
            seed=5,  # of seeds 1 to 6: 68.5, 70.8, 72.9, 70.5, 76.1 and 64.3 MHz
        ),  # fmt: skip
    )
}
"""Other engines that boards have bitstreams for, by geometry."""


def with_geometry(target: Board, geometry: str | None) -> Board:
    """``target`` with another of its engines; None: the one it has. UsageError when there is none for it."""
    if geometry in (None, target.geometry):
        return target
    variant = VARIANTS.get(str(geometry))
    if variant is None or variant.name != target.name:
        known = [target.geometry, *(v.geometry for v in VARIANTS.values() if v.name == target.name)]
        raise UsageError(f"{target.name} has no engine {geometry!r}", f"choose one of: {', '.join(known)}")
    return variant


def board(name: str) -> Board:
    """The board of that name; UsageError lists the names when there is none."""
    try:
        return BOARDS[name]
    except KeyError:
        raise UsageError(f"no board is called {name!r}", f"choose one of: {', '.join(BOARDS)}") from None


class BoardShell(Elaboratable):
    """Top level of a bitstream: design clock in ``sync``, UART to the FTDI chip, LEDs alive / loaded / busy.

    ``alive`` blinks about once a second from the design clock, so a dark board has no clock. ``sync`` has
    no reset: registers start with their configured values. On the ECP5 the clock is gated until the PLL
    locks. On the iCE40 all state is at rest until something happens on a pin, and what begins by itself
    (the boot loader) is held by ``start`` for 1023 cycles, beyond the time in which block RAM cannot be
    read after configuration. Where the payload has a ``phase``, it moves the clock of the board's SDRAM.
    """

    def __init__(self, board: Board, payload: Payload, clock_hz: int) -> None:
        board.check_clock(clock_hz)
        self.board = board
        self.payload = payload
        self.clock_hz = clock_hz
        self.phase: PhaseInputs | None = getattr(payload, "phase", None)

    def _clock(self, m: Module, platform: Platform) -> None:
        if self.board.family == "ecp5":
            crystal = _sense(m, "crystal", platform.request("clk25", dir="-"))
            pll = ecp5_pll(self.board.crystal_hz, Fraction(self.clock_hz))
            m.submodules.clock = clock = Ecp5Clock(pll, crystal, self.phase)
            m.domains.sync = ClockDomain(reset_less=True)
            m.d.comb += ClockSignal().eq(clock.clk_out)
            if self.phase is not None:
                m.domains.moved = ClockDomain(reset_less=True)
                m.d.comb += ClockSignal("moved").eq(clock.clk_moved)
            return
        fast = None
        if self.clock_hz != self.board.crystal_hz:
            fast = ice40_pll(self.board.crystal_hz, Fraction(self.clock_hz))
        pad = platform.request("clk12", dir="-")
        m.submodules.clock = slow = Ice40Clock(fast, pad.io)
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(slow.clk_out)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        self._clock(m, platform)
        m.submodules.payload = payload = self.payload
        powered = Signal(10, name="powered")
        with m.If(~powered.all()):
            m.d.sync += powered.eq(powered + 1)
        uart = platform.request("uart", dir="-")
        _drive(m, "tx", uart.tx, payload.tx)
        m.d.comb += [payload.start.eq(powered.all()), payload.rx.eq(_sense(m, "rx", uart.rx))]
        if self.board.family == "ecp5":
            _drive(m, "tx_enable", platform.request("uart_tx_enable", dir="-"), Const(1))
        alive = Signal(range(self.clock_hz), name="alive")
        m.d.sync += alive.eq(alive + 1)
        shown = [alive[-1], payload.loaded, payload.busy]
        if self.board.leds == 2:
            shown = [alive[-1] ^ payload.busy, payload.loaded]
        for number, state in enumerate(shown):
            _drive(m, f"led_{number}", platform.request("led", number, dir="-"), state)
        if getattr(payload, "sdram", None) is not None:
            chip = platform.request("sdram", dir="-")
            m.submodules.sdram = SdramPads(chip, payload.sdram, "sync" if self.phase is None else "moved")
        if self.board.flash_offset is not None:
            flash = platform.request("spi_flash_1x", dir="-")
            _drive(m, "flash_cs", flash.cs, payload.flash_cs)
            _drive(m, "flash_clk", flash.clk, payload.flash_clk)
            _drive(m, "flash_copi", flash.copi, payload.flash_copi)
            _drive(m, "flash_wp", flash.wp, Const(0))
            _drive(m, "flash_hold", flash.hold, Const(0))
            m.d.comb += payload.flash_cipo.eq(_sense(m, "flash_cipo", flash.cipo))
        return m


def _drive(m: Module, name: str, port: Any, value: Value) -> None:
    """Output buffer ``pin_<name>`` on ``port``; the port's own inversion applies."""
    m.submodules[f"pin_{name}"] = buffer = io.Buffer("o", port)
    m.d.comb += buffer.o.eq(value)


def _sense(m: Module, name: str, port: Any) -> Value:
    """Input buffer ``pin_<name>`` on ``port``."""
    m.submodules[f"pin_{name}"] = buffer = io.Buffer("i", port)
    return Value.cast(buffer.i)


__all__ = ["BOARDS", "VARIANTS", "Board", "BoardShell", "Payload", "board", "with_geometry"]
