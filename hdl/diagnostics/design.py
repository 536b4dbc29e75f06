"""The loopback bitstream of a board: line and memories behind the board's UART."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.sdram import ULX3S_CHIP, SdramChip
from ternac.errors import UsageError
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import VARIANTS
from ternac.hdl.boards.pll import ecp5_pll
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.core import LoopbackCore
from ternac.hdl.diagnostics.line_test import LineTest
from ternac.hdl.diagnostics.ram_test import RamShape
from ternac.hdl.diagnostics.registers import LOOPBACK
from ternac.hdl.link.buffer import LineBuffer
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.ports import ENGINE_MEMBERS, ByteStream
from ternac.hdl.link.uart import UartRx, UartTx
from ternac.hdl.sdram.controller import SdramPins

__all__ = ["LinkedLoopback", "LoopbackDesign", "loopback_board", "memories", "phase_steps", "sdram_of"]

LINE_SECONDS = 0.25
"""A line test in which nothing comes for so long is over."""
RESERVED = 8
"""Block RAMs that are not tested: link, line buffers, scratch."""
_CELLS = {Technology.ECP5: (18, 16_384, 18), Technology.ICE40: (16, 512, 2)}
"""Bits and words of a bank of block RAMs under test, and how many it takes."""
SPRAM_WORDS = 16_384


def memories(target: Board) -> list[RamShape]:
    """Return the on-chip memories that the loopback of a board tests: all but a few block RAMs.

    Raises UsageError if there is no form for its chip.
    """
    if target.tech not in _CELLS:
        known = ", ".join(tech.value for tech in _CELLS)
        raise UsageError(
            f"there is no loopback for {target.name}, a board with {target.family}", f"for: {known}"
        )
    bits, depth, cells = _CELLS[target.tech]
    banks = (target.resources["bram"] - RESERVED) // cells
    found = [RamShape(name="block RAM", bits=bits, depth=depth, banks=banks)]
    if single := target.resources.get("spram", 0):
        shape = RamShape(name="single-port RAM", bits=16, depth=SPRAM_WORDS, banks=single, storage="spram")
        found.append(shape)
    return found


SDRAM_SEED = 3
"""Of nextpnr's seeds for a loopback with SDRAM: 57.5 MHz with 5, 64.4 with 3, on the ULX3S-85F."""


def _with_sdram(target: Board) -> Board | None:
    """Return the variant of a board whose engine streams from its SDRAM, None if it has none."""
    return next((v for v in VARIANTS.values() if v.name == target.name and v.engine.streams), None)


def sdram_of(target: Board) -> SdramChip | None:
    """Return the board's SDRAM, None if its engines use none."""
    return ULX3S_CHIP if _with_sdram(target) is not None else None


def loopback_board(target: Board) -> Board:
    """Return the board with the clock of its loopback: that of its engine in SDRAM, where it has one."""
    streaming = _with_sdram(target)
    return target if streaming is None else replace(streaming, seed=SDRAM_SEED)


def phase_steps(target: Board) -> tuple[int, float]:
    """Return how many steps of the PLL's phase make a period of the loopback's clock, and a step in ns.

    A step is an eighth of a VCO period (Lattice TN1263, dynamic phase adjustment).
    """
    pll = ecp5_pll(target.crystal_hz, Fraction(loopback_board(target).clock_hz))
    return 8 * pll.out, float(1e9 / (8 * pll.vco_hz))


@dataclass(frozen=True)
class PhaseControl:
    """The signals that move a PLL's second output (`ternac.hdl.diagnostics.phase`)."""

    direction: Signal
    step: Signal


class LinkedLoopback(wiring.Component):
    """`LoopbackCore`, link controller and `LineTest`: what a simulated board is, and what boards put behind a
    UART.

    Parameters
    ----------
    target : the board: its memories, SDRAM and clock.
    clock_hz : of the design for HELLO; 0 for a simulated one.
    bitstream_id : 16 bytes.
    tech : portable where it is simulated.

    Members
    -------
    rx : In(ByteStream)
        Bytes from the host.
    tx : Out(ByteStream)
        Bytes to the host.
    idle : Out(1)
        Nothing will happen before the next received byte.
    phase_direction : Out(1)
        On boards with SDRAM: to the PLL, as in `LoopbackCore`.
    phase_step : Out(1)
        Likewise.
    sdram : Out(SdramPins)
        On boards with SDRAM.
    """

    def __init__(
        self, target: Board, clock_hz: int, bitstream_id: bytes, *, tech: Technology = Technology.PORTABLE
    ) -> None:
        timed = loopback_board(target).clock_hz
        chip = sdram_of(target)
        self.core = LoopbackCore(memories(target), tech=tech, chip=chip, clock_hz=timed)
        self.controller = LinkController(clock_hz, bitstream_id, LOOPBACK.hash)
        self.line = LineTest(round(timed * LINE_SECONDS))
        self.streams = chip is not None
        ports: dict[str, wiring.Member] = {"rx": In(ByteStream), "tx": Out(ByteStream), "idle": Out(1)}
        if self.streams:
            ports |= {"phase_direction": Out(1), "phase_step": Out(1), "sdram": Out(SdramPins)}
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.core, m.submodules.link, m.submodules.line = core, link, line = (
            self.core, self.controller, self.line,
        )  # fmt: skip
        connect(m, flipped(self.rx), line.host_i)
        connect(m, line.host_o, flipped(self.tx))
        connect(m, link.tx, line.link_i)
        connect(m, line.link_o, link.rx)
        for name, member in ENGINE_MEMBERS.items():
            inner, outer = getattr(core, name), getattr(link.engine, name)
            m.d.comb += inner.eq(outer) if member.flow == Out else outer.eq(inner)
        m.d.comb += [
            line.quiet.eq(link.idle), line.start.eq(core.line_start), line.echo.eq(core.line_echo),
            line.receive.eq(core.line_receive), line.send.eq(core.line_send),
            core.line_busy.eq(line.busy), core.line_received.eq(line.received),
            core.line_wrong_bytes.eq(line.wrong_bytes), core.line_wrong_bits.eq(line.wrong_bits),
            self.idle.eq(link.idle & ~line.sending & ~core.working),
        ]  # fmt: skip
        if self.streams:
            connect(m, core.sdram, flipped(self.sdram))
            m.d.comb += [
                self.phase_direction.eq(core.phase_direction), self.phase_step.eq(core.phase_step)
            ]  # fmt: skip
        return m


class LoopbackDesign(Elaboratable):
    """The payload of a ``BoardShell``."""

    def __init__(self, target: Board, clock_hz: int, bitstream_id: bytes) -> None:
        self.linked = LinkedLoopback(target, clock_hz, bitstream_id, tech=target.tech)
        self.receiver, self.sender = UartRx(clock_hz, target.baud), UartTx(clock_hz, target.baud)
        names = ("rx", "tx", "loaded", "busy", "start", "flash_cs", "flash_clk", "flash_copi", "flash_cipo")
        self.rx, self.tx, self.loaded, self.busy, self.start, *flash = (Signal(name=name) for name in names)
        self.flash_cs, self.flash_clk, self.flash_copi, self.flash_cipo = flash
        self.sdram = self.linked.sdram if self.linked.streams else None
        self.phase = (
            PhaseControl(self.linked.phase_direction, self.linked.phase_step) if self.linked.streams else None
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.linked, m.submodules.receiver, m.submodules.sender = linked, receiver, sender = (
            self.linked, self.receiver, self.sender,
        )  # fmt: skip
        m.submodules.arrived, m.submodules.leaving = before, after = LineBuffer(), LineBuffer()
        connect(m, receiver.o, before.i)
        connect(m, before.o, linked.rx)
        connect(m, linked.tx, after.i)
        connect(m, after.o, sender.i)
        m.d.comb += [
            receiver.rx.eq(self.rx), self.tx.eq(sender.tx), self.loaded.eq(linked.line.busy),
            self.busy.eq(~linked.idle),
        ]  # fmt: skip
        return m
