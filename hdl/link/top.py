"""Engine core and link controller as one component, with a byte link or a UART."""

from __future__ import annotations

from amaranth import Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.geometry import Geometry
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.link.buffer import LineBuffer
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.ports import ENGINE_MEMBERS, MEMORY_PORTS, ByteStream, MemoryMaster
from ternac.hdl.link.spiflash import FlashBoot
from ternac.hdl.link.uart import UartRx, UartTx
from ternac.hdl.sdram.controller import SdramPins
from ternac.link import WINDOW


def word_bytes(geometry: Geometry) -> tuple[int, ...]:
    """Bytes of a word of each memory, as LinkController takes them."""
    return tuple(geometry.memory(mem).bytes_per_word for mem in geometry.memories)


def line_buffers(window: int) -> int:
    """Return how many `LineBuffer`s a UART's link has: one each way where requests may overlap."""
    return 2 if window > 1 else 0


class LinkedEngine(wiring.Component):
    """An engine core behind its byte link: the simulated board's design, and what boards put behind a UART.

    A core with weights in SDRAM has ``sdram`` and ``ready``; requests wait for the latter.

    Parameters
    ----------
    core : a component with the flat ports of `ENGINE_MEMBERS`, flipped.
    controller : the link's.
    registered : the wires between them pass a register each way, see `ports.turnaround`.
    shared : a second master may read and write the core's memories while the link waits.

    Raises TypeError if the core lacks a port.

    Members
    -------
    rx : In(ByteStream)
        Bytes from the host.
    tx : Out(ByteStream)
        Bytes to the host.
    sdram : Out(SdramPins)
        Of a core with weights in SDRAM.
    idle : Out(1)
        As in `LinkController`.
    loaded : Out(1)
        As in `LinkController`.
    fault : Out(1)
        As in `LinkController`.
    master : In(MemoryMaster)
        With ``shared``: the second master.
    """

    def __init__(
        self,
        core: wiring.Component,
        controller: LinkController,
        *,
        registered: bool = False,
        shared: bool = False,
    ) -> None:
        for name in ENGINE_MEMBERS:
            if not hasattr(core, name):
                raise TypeError(f"engine core {type(core).__name__} has no port {name!r}")
        self.core = core
        self.controller = controller
        self.registered, self.shared = registered, shared
        pins: dict[str, wiring.Member] = {name: Out(1) for name in ("idle", "loaded", "fault")}
        self.streams = hasattr(core, "sdram")
        if self.streams:
            pins["sdram"] = Out(SdramPins)
        if shared:
            pins["master"] = In(MemoryMaster)
        super().__init__({"rx": In(ByteStream), "tx": Out(ByteStream), **pins})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.link = link = self.controller
        if self.streams or self.shared:
            takes: Value = core.ready if self.streams else Const(1)
            if self.shared:
                takes &= ~self.master.hold
            m.d.comb += [
                link.rx.payload.eq(self.rx.payload),
                link.rx.valid.eq(self.rx.valid & takes),
                self.rx.ready.eq(link.rx.ready & takes),
            ]
        else:
            connect(m, flipped(self.rx), link.rx)
        if self.streams:
            connect(m, core.sdram, flipped(self.sdram))
        connect(m, link.tx, flipped(self.tx))
        m.d.comb += [self.idle.eq(link.idle), self.loaded.eq(link.loaded), self.fault.eq(link.fault)]
        domain = "sync" if self.registered else "comb"
        for name, member in ENGINE_MEMBERS.items():
            inner, outer = getattr(core, name), getattr(link.engine, name)
            if self.shared and name in MEMORY_PORTS:
                outer = Mux(self.master.hold, getattr(self.master, name), outer)
            m.d[domain] += inner.eq(outer) if member.flow == Out else outer.eq(inner)
        if self.shared:
            m.d.comb += [
                self.master.idle.eq(link.idle),
                *(
                    getattr(self.master, name).eq(getattr(link.engine, name))
                    for name in ("rd_valid", "rd_data", "busy")
                ),
            ]
        return m


def linked_engine(
    geometry: Geometry, bitstream_id: bytes, clock_hz: int = 0, tech: Technology = Technology.PORTABLE
) -> LinkedEngine:
    """Return an engine behind a byte link that waits, as a pipe does: its requests may overlap."""
    link = LinkController(
        clock_hz,
        bitstream_id,
        geometry.hash,
        word_bytes=word_bytes(geometry),
        contexts=geometry.contexts,
        window=WINDOW,
    )
    return LinkedEngine(EngineCore(geometry, tech=tech), link, registered=geometry.pipelined_broadcast)


class UartEngine(wiring.Component):
    """A linked engine behind a UART; with ``flash_offset`` it first plays what the SPI flash holds.

    While it boots from flash the UART receives nothing and the answers go nowhere. Where the controller's
    ``window`` is more than one, a `LineBuffer` stands on each side: the next request comes while this one
    is worked on, and its answer leaves while the next is.

    Parameters
    ----------
    engine : behind its link.
    baud : bits per second.
    flash_offset : of the image in the flash; None for a board without.

    Members
    -------
    rx : In(1)
        The line from the host, asynchronous.
    tx : Out(1)
        The line to the host.
    loaded : Out(1)
        A program is committed.
    busy : Out(1)
        A request is being worked on.
    flash_cs : Out(1)
        With ``flash_offset``, 1: the flash is selected.
    flash_clk : Out(1)
        With ``flash_offset``: its clock.
    flash_copi : Out(1)
        With ``flash_offset``: to the flash.
    flash_cipo : In(1)
        With ``flash_offset``: from the flash.
    sdram : Out(SdramPins)
        Where the engine has it.
    """

    def __init__(self, engine: LinkedEngine, baud: int, flash_offset: int | None = None) -> None:
        self.engine = engine
        clock_hz = engine.controller.identity.clock_hz
        self.receiver, self.sender = UartRx(clock_hz, baud), UartTx(clock_hz, baud)
        self.boot = None if flash_offset is None else FlashBoot(clock_hz, flash_offset)
        pins = {"rx": In(1, init=1), "tx": Out(1, init=1), "loaded": Out(1), "busy": Out(1)}
        if engine.streams:
            pins["sdram"] = Out(SdramPins)
        if self.boot is not None:
            pins |= {"flash_cs": Out(1), "flash_clk": Out(1), "flash_copi": Out(1), "flash_cipo": In(1)}
        super().__init__(pins)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.receiver = receiver = self.receiver
        m.submodules.sender = sender = self.sender
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(sender.tx),
            self.loaded.eq(engine.loaded),
            self.busy.eq(~engine.idle),
        ]
        if engine.streams:
            connect(m, engine.sdram, flipped(self.sdram))
        arrived, sent = receiver.o, sender.i
        if line_buffers(engine.controller.identity.window):
            m.submodules.arrived = before = LineBuffer()
            m.submodules.leaving = after = LineBuffer()
            connect(m, receiver.o, before.i)
            connect(m, after.o, sender.i)
            arrived, sent = before.o, after.i
            m.d.comb += self.busy.eq(~engine.idle | before.o.valid | after.o.valid)
        if self.boot is None:
            connect_streams(m, arrived, engine.rx)
            connect_streams(m, engine.tx, sent)
            return m
        m.submodules.boot = boot = self.boot
        booted = Signal(name="booted")
        with m.If(boot.done & engine.idle):
            m.d.sync += booted.eq(1)
        m.d.comb += [
            self.flash_cs.eq(boot.cs), self.flash_clk.eq(boot.clk), self.flash_copi.eq(boot.copi),
            boot.cipo.eq(self.flash_cipo), boot.abort.eq(engine.fault),
        ]  # fmt: skip
        with m.If(booted):
            connect_streams(m, arrived, engine.rx)
            connect_streams(m, engine.tx, sent)
        with m.Else():
            connect_streams(m, boot.o, engine.rx)
            m.d.comb += engine.tx.ready.eq(1)
        return m


def connect_streams(m: Module, source: wiring.PureInterface, sink: wiring.PureInterface) -> None:
    """Connect two streams inside a condition, where ``wiring.connect`` cannot be used."""
    m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload), source.ready.eq(sink.ready)]
