"""The top level of every bitstream: clock, UART pins, LEDs, flash pins around an engine or a test design."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Module, Signal, Value
from amaranth.lib import io

from ternac.hdl.boards.board import Board
from ternac.hdl.boards.clock import Ecp5Clock, GowinClock, Ice40Clock, PhaseInputs
from ternac.hdl.boards.pll import ecp5_pll, gowin_pll, ice40_pll
from ternac.hdl.sdram.pads import SdramPads

__all__ = ["BoardShell", "Payload"]


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


class BoardShell(Elaboratable):
    """Top level of a bitstream: design clock in ``sync``, serial line, LEDs alive / loaded / busy.

    ``alive`` blinks about once a second from the design clock, so a dark board has no clock. ``sync`` has
    no reset: registers start with their configured values. On the ECP5 the clock is gated until the PLL
    locks. On the iCE40 and on Gowin all state is at rest until something happens on a pin, and what begins
    by itself (the boot loader) is held by ``start`` for 1023 cycles, beyond the time in which block RAM
    cannot be read after configuration. Where the payload has a ``phase``, it moves the clock of the board's
    SDRAM.
    """

    def __init__(self, board: Board, payload: Payload, clock_hz: int) -> None:
        board.check_clock(clock_hz)
        self.board = board
        self.payload = payload
        self.clock_hz = clock_hz
        self.phase: PhaseInputs | None = getattr(payload, "phase", None)

    def _clock(self, m: Module, platform: Platform) -> None:
        if self.board.family == "ecp5":
            crystal = _sense(m, "crystal", platform.request(self.board.clock_pin, dir="-"))
            pll = ecp5_pll(self.board.crystal_hz, Fraction(self.clock_hz))
            m.submodules.clock = clock = Ecp5Clock(pll, crystal, self.phase)
            m.domains.sync = ClockDomain(reset_less=True)
            m.d.comb += ClockSignal().eq(clock.clk_out)
            if self.phase is not None:
                m.domains.moved = ClockDomain(reset_less=True)
                m.d.comb += ClockSignal("moved").eq(clock.clk_moved)
            return
        if self.board.family == "gowin":
            assert self.board.chip.pll_hz is not None
            crystal = _sense(m, "crystal", platform.request(self.board.clock_pin, dir="-"))
            setting = gowin_pll(self.board.crystal_hz, Fraction(self.clock_hz), self.board.chip.pll_hz)
            m.submodules.clock = rpll = GowinClock(setting, crystal, self.board.chip.nextpnr[1])
            m.domains.sync = ClockDomain(reset_less=True)
            m.d.comb += ClockSignal().eq(rpll.clk_out)
            return
        fast = None
        if self.clock_hz != self.board.crystal_hz:
            fast = ice40_pll(self.board.crystal_hz, Fraction(self.clock_hz))
        pad = platform.request(self.board.clock_pin, dir="-")
        inside = self.board.clock_through_fabric
        m.submodules.clock = slow = Ice40Clock(
            fast, _sense(m, "crystal", pad) if inside else pad.io, through_fabric=inside
        )
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
        for name, resource in self.board.held_high.items():
            _drive(m, name, platform.request(resource, dir="-"), Const(1))
        alive = Signal(range(self.clock_hz), name="alive")
        m.d.sync += alive.eq(alive + 1)
        shown = [alive[-1], payload.loaded, payload.busy]
        if len(self.board.leds) < 3:
            shown = [alive[-1] ^ payload.busy, payload.loaded]
        lamps: dict[tuple[str, int], Any] = {}  # several colors may be parts of one resource
        for number, (led, state) in enumerate(zip(self.board.leds, shown, strict=False)):
            key = (led.resource, led.number)
            if key not in lamps:
                lamps[key] = platform.request(*key, dir="-")
            _drive(m, f"led_{number}", getattr(lamps[key], led.part) if led.part else lamps[key], state)
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
