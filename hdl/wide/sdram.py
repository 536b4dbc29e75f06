"""A whole engine whose memory is an SDRAM on the board: weights, constants and rows from 16 data pins."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.sdram import SdramChip
from ternac.hdl.sdram.axi import SdramReadPort
from ternac.hdl.sdram.controller import SdramPins, write_word
from ternac.hdl.stream.axi import read_port
from ternac.hdl.wide.engine import WideEngine

__all__ = ["SdramWideEngine"]


class SdramWideEngine(wiring.Component):
    """A `WideEngine` on a `SdramReadPort`; all other ports are the engine's.

    While ``enable`` is low the engine is reset, all but its memories, so that it can be loaded again: words
    of the memory, instructions and descriptors then, vector memory after it. It is out of the reset two
    cycles after ``enable`` rose and memory was idle: a token that is given before is lost.

    :param engine: its addresses are as wide as the chip's. ValueError if not.
    :param chip: its timing.   :param clock_hz: of ``sync``.

    Members
    -------
    write : In(stream.Signature(write_word))
        Words for the memory.
    written : Out(1)
        None waits.
    ready : Out(1)
        The chip has been initialised.
    sdram : Out(SdramPins)
        The chip.
    """

    def __init__(self, engine: WideEngine, chip: SdramChip, clock_hz: int) -> None:
        self.engine = engine
        self.memory = SdramReadPort(engine.port_bits, chip, clock_hz)
        wanted = engine.products.reader.address_bits
        if wanted != self.memory.address_bits:
            raise ValueError(
                f"the engine has {wanted} bits of address, {chip.name} {self.memory.address_bits}"
            )
        members = {
            name: member for name, member in engine.signature.members.items() if not name.startswith("m_axi_")
        }
        self.own = tuple(members)
        super().__init__({
            **members,
            "write": In(stream.Signature(write_word(chip))), "written": Out(1), "ready": Out(1),
            "sdram": Out(SdramPins),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        running = Signal(name="running")
        m.submodules.engine = ResetInserter(~running)(self.engine)
        m.submodules.memory = memory = self.memory
        engine = self.engine
        # What the engine asked for before it was reset has come before it begins again.
        m.d.sync += running.eq(self.enable & (running | memory.idle))
        for name in self.own:
            inner, outer = getattr(engine, name), getattr(self, name)
            member = engine.signature.members[name]
            if member.is_signature:
                ends = (
                    (inner, wiring.flipped(outer)) if member.flow is Out else (wiring.flipped(outer), inner)
                )
                wiring.connect(m, *ends)
            else:
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        for name, member in read_port("axi", address_bits=13, data_bits=engine.port_bits).items():
            master, slave = getattr(engine, f"m_{name}"), getattr(memory, f"s_{name}")
            m.d.comb += slave.eq(master) if member.flow is Out else master.eq(slave)
        wiring.connect(m, wiring.flipped(self.write), memory.write)
        wiring.connect(m, memory.pins, wiring.flipped(self.sdram))
        m.d.comb += [self.written.eq(memory.written), self.ready.eq(memory.ready)]
        return m
