"""The loopback's tests behind registers, with the ports of an engine core: the link drives it as it drives
those.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.geometry import Mem
from ternac.compile.sdram import SdramChip
from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.phase import PhaseStepper
from ternac.hdl.diagnostics.ram_test import RamShape, RamTest
from ternac.hdl.diagnostics.registers import REGISTERS, SCRATCH, SCRATCH_WORDS, Action, Setting, Value
from ternac.hdl.diagnostics.sdram_test import SdramTest
from ternac.hdl.link.ports import EngineSignature
from ternac.hdl.sdram.controller import SdramPins

__all__ = ["LoopbackCore"]

NO_TOKEN = 8
"""Cycles from a RUN's ``start`` to its ``done``: there is no engine, so the token is 0."""
_WIDE = (Setting.SEED, Setting.FIRST, Setting.COUNT)


class LoopbackCore(wiring.Component):
    """Scratch memory, registers, `RamTest`, and where there is a chip `SdramTest` and `PhaseStepper`.

    Parameters
    ----------
    shapes : of the on-chip memories under test, at least one.
    chip : the SDRAM, with ``clock_hz``; None for a board without.

    Members
    -------
    line_start : Out(1)
        To `LineTest`: pulse.
    line_echo : Out(1)
        As there.
    line_receive : Out(16)
        As there.
    line_send : Out(16)
        As there.
    line_busy : In(1)
        From there.
    line_received : In(16)
        As there.
    line_wrong_bytes : In(16)
        As there.
    line_wrong_bits : In(16)
        As there.
    working : Out(1)
        A memory is being tested, or a phase moved.
    phase_direction : Out(1)
        To the PLL; with ``chip``.
    phase_step : Out(1)
        To the PLL; with ``chip``.
    sdram : Out(SdramPins)
        With ``chip``.
    """

    def __init__(
        self,
        shapes: list[RamShape],
        *,
        tech: Technology = Technology.PORTABLE,
        chip: SdramChip | None = None,
        clock_hz: int = 0,
    ) -> None:
        self.rams = RamTest(shapes, tech=tech)
        self.memories = len(shapes)
        self.sdram_test = None if chip is None else SdramTest(chip, clock_hz)
        ports: dict[str, wiring.Member] = dict(EngineSignature.flip().members.items())
        ports |= {
            "line_start": Out(1),
            "line_echo": Out(1),
            "line_receive": Out(16),
            "line_send": Out(16),
            "line_busy": In(1),
            "line_received": In(16),
            "line_wrong_bytes": In(16),
            "line_wrong_bits": In(16),
            "working": Out(1),
        }
        if chip is not None:
            ports |= {"phase_direction": Out(1), "phase_step": Out(1), "sdram": Out(SdramPins)}
        super().__init__(ports)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        settings: dict[Setting, Signal] = {
            setting: Signal(32 if setting in _WIDE else 16, name=setting.name.lower())
            for setting in Setting
            if setting != Setting.ACTION
        }
        action = Signal(3, name="action")  # for one cycle, after the register was written
        m.d.sync += action.eq(0)
        to_bank = Signal(name="to_bank")
        m.d.comb += to_bank.eq(self.wr_en & (self.wr_mem == Mem.BANK))
        with m.If(to_bank & (self.wr_block == REGISTERS)):
            with m.Switch(self.wr_addr):
                with m.Case(Setting.ACTION):
                    m.d.sync += action.eq(self.wr_data)
                for setting, register in settings.items():
                    for part in range(len(register) // 16):
                        with m.Case(setting + part):
                            m.d.sync += register[16 * part : 16 * part + 16].eq(self.wr_data)
        register = self._tests(m, settings, action)
        self._answer(m, to_bank, register)
        return m

    def _tests(self, m: Module, settings: dict[Setting, Signal], action: Signal) -> Signal:
        """Start the tests; returns the register at ``rd_addr``, a cycle later."""
        m.submodules.rams = rams = self.rams
        memory = settings[Setting.MEMORY]
        start, of_chip = action == Action.MEMORY, Signal(name="of_chip")
        m.d.comb += [
            rams.memory.eq(memory), rams.down.eq(settings[Setting.DOWN]),
            self.line_start.eq(action == Action.LINE), self.line_echo.eq(settings[Setting.ECHO]),
            self.line_receive.eq(settings[Setting.RECEIVE]), self.line_send.eq(settings[Setting.SEND]),
        ]  # fmt: skip
        tests: list[tuple[Any, Any]] = [(rams, ~of_chip)]
        ready: Any = Const(0)
        position: Any = Const(0, 16)
        moving: Any = Const(0)
        if self.sdram_test is not None:
            m.submodules.sdram_test = chip = self.sdram_test
            m.submodules.phase = phase = PhaseStepper()
            connect(m, chip.pins, flipped(self.sdram))
            m.d.comb += [
                of_chip.eq(memory == self.memories), chip.reset.eq(action == Action.SDRAM_RESET),
                phase.start.eq(action == Action.PHASE), phase.earlier.eq(settings[Setting.EARLIER]),
                self.phase_direction.eq(phase.direction), self.phase_step.eq(phase.step),
            ]  # fmt: skip
            tests.append((chip, of_chip))
            ready, position, moving = chip.ready, phase.position, phase.busy
        for test, chosen in tests:
            m.d.comb += [
                test.start.eq(start & chosen), test.check.eq(settings[Setting.CHECK]),
                test.write.eq(settings[Setting.WRITE]), test.seed.eq(settings[Setting.SEED]),
                test.first.eq(settings[Setting.FIRST]), test.count.eq(settings[Setting.COUNT]),
            ]  # fmt: skip
        busy = Signal(name="busy_memory")
        m.d.comb += busy.eq(Cat(test.busy for test, _ in tests).any())
        m.d.comb += self.working.eq(busy | moving | (action != 0))
        last = tests[-1][0]

        def result(name: str) -> Signal:
            value = Signal(32, name=f"result_{name}")
            m.d.comb += value.eq(Mux(of_chip, getattr(last, name), getattr(rams, name)))
            return value

        values = {
            Value.STATUS: Cat(busy, self.line_busy, moving, ready),
            Value.ERRORS: result("errors"),
            Value.ADDRESS: result("first_address"),
            Value.EXPECTED: result("first_expected"),
            Value.FOUND: result("first_found"),
            Value.MASK: result("mask"),
            Value.RECEIVED: self.line_received,
            Value.WRONG_BYTES: self.line_wrong_bytes,
            Value.WRONG_BITS: self.line_wrong_bits,
            Value.PHASE: position,
        }
        register = Signal(16, name="register")
        with m.Switch(self.rd_addr):
            for address, value in values.items():
                for part in range(max(1, len(value) // 16)):
                    with m.Case(address + part):
                        m.d.sync += register.eq(value[16 * part : 16 * part + 16])
            with m.Default():
                m.d.sync += register.eq(0)
        return register

    def _answer(self, m: Module, to_bank: Signal, register: Signal) -> None:
        """Reads, a cycle after they are asked for; and a token for whoever runs one."""
        m.submodules.scratch = scratch = Memory(shape=16, depth=SCRATCH_WORDS, init=[])
        write, read = write_port(scratch), read_port(scratch)
        of_registers = Signal(name="of_registers")
        m.d.comb += [
            write.en.eq(to_bank & (self.wr_block == SCRATCH)), write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data), read.addr.eq(self.rd_addr),
            self.rd_data.eq(Mux(of_registers, register, read.data)),
        ]  # fmt: skip
        m.d.sync += [self.rd_valid.eq(self.rd_en), of_registers.eq(self.rd_block == REGISTERS)]
        late, context = Signal(NO_TOKEN, name="late"), Signal(2, name="context")
        m.d.sync += late.eq(Cat(self.start, late))
        with m.If(self.start):
            m.d.sync += context.eq(self.start_context)
        m.d.comb += [self.done.eq(late[-1]), self.done_context.eq(context), self.busy.eq(late.any())]
