"""A whole engine for imported models with its sampler and the states of sessions, behind the byte link."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Mem
from ternac.compile.wide_board import CODE_WORDS, MATRIX_WORDS, REGISTERS, WideGeometry
from ternac.compile.wide_code import WORD_BYTES
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.ports import ENGINE_MEMBERS, ByteStream
from ternac.hdl.stream.axi import read_port
from ternac.hdl.wide.engine import WideEngine
from ternac.hdl.wide.sampler import VocabularySampler
from ternac.hdl.wide.states import Move, SessionBank
from ternac.link import WINDOW

__all__ = ["LinkedWide", "WideSystem", "engine_of", "linked_wide"]

WATCHDOG_CYCLES = 1 << 30
"""As of `LinkController`: a token of 2.7 G weights takes more than its default."""


def engine_of(
    geometry: WideGeometry, *, tech: Technology = Technology.PORTABLE, **settings: Any
) -> WideEngine:
    """Return the engine of a geometry."""
    return WideEngine(
        port_bits=geometry.port_bits, lanes=geometry.columns, depth=geometry.vector_words,
        x_depth=geometry.activation_words, code_depth=geometry.instructions, matrices=geometry.matrices,
        slots=geometry.curves, fifo=geometry.fifo, address_bits=geometry.address_bits, tech=tech, **settings,
    )  # fmt: skip


class WideSystem(wiring.Component):
    """What a `LinkController` drives as its engine: a token of a session, and the choice of the next one.

    States live in a `SessionBank`, the session's last run in vector memory too. A token of another session,
    or of one that was written from outside, first brings its states from the bank; behind every token they
    go back, while the next one is chosen. Memories are those of `ternac.compile.wide_board`.

    A write of a register stops the engine: it takes what it has asked memory for, and is reset, all but its
    memories; a write of NORM lets it begin.

    Members
    -------
    wr_*, rd_*, start, token, session_base, emit, rng_in, busy, done, next_token, rng_out, clear, cycles, ...
        `ENGINE_MEMBERS` of a core with one context. ``session_base``: first word of the states in the bank.
    fault : Out(7)
        As of `WideEngine`, since it began.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(
        self,
        geometry: WideGeometry,
        *,
        tech: Technology = Technology.PORTABLE,
        engine: WideEngine | None = None,
    ) -> None:
        self.geometry = geometry
        self.engine = engine or engine_of(geometry, tech=tech)
        self.port = read_port("m_axi", address_bits=geometry.address_bits, data_bits=geometry.port_bits)
        self.states = SessionBank(geometry.columns, geometry.vector_words, geometry.bank_depth, tech=tech)
        self.sampler = VocabularySampler(geometry.vocab, peeks=True, tech=tech)
        flipped = {name: member.flip() for name, member in ENGINE_MEMBERS.items()}
        super().__init__({**flipped, "fault": Out(7), **self.port})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        running, enable = Signal(name="running"), Signal(name="enable")
        engine = self.engine
        m.submodules.engine = ResetInserter(~running)(engine)
        m.submodules.states = self.states
        m.submodules.sampler = sampler = self.sampler
        wiring.connect(m, engine.logits, sampler.logits)
        m.d.comb += [engine.enable.eq(running), self.fault.eq(engine.fault)]
        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        with m.Elif(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        self._port(m, running, enable)
        self._load(m, enable)
        self._banks(m)
        self._tokens(m, running)
        return m

    def _port(self, m: Module, running: Signal, enable: Signal) -> None:
        """The engine's port, but without requests while it is reset; what still comes is dropped."""
        engine = self.engine
        for name, member in self.port.items():
            inner, outer = getattr(engine, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        asked, came = self.m_axi_arvalid & self.m_axi_arready, self.m_axi_rvalid & self.m_axi_rready
        owed = Signal(20, name="owed")
        m.d.sync += owed.eq(owed + Mux(asked, self.m_axi_arlen + 1, 0) - came)
        with m.If(~running):
            m.d.comb += [self.m_axi_arvalid.eq(0), self.m_axi_rready.eq(1), engine.m_axi_rvalid.eq(0)]
            m.d.sync += running.eq(enable & (owed == 0))
        with m.Elif(~enable & (~engine.m_axi_arvalid | self.m_axi_arready)):  # no request is taken back
            m.d.sync += running.eq(0)

    def _load(self, m: Module, enable: Signal) -> None:
        """Words of 16 bits into registers, and instructions and descriptors, each written with its last."""
        engine, address = self.engine, self.wr_addr

        def write(mem: Mem) -> Any:
            return self.wr_en & (self.wr_mem == mem)

        with m.If(write(Mem.NORM)):
            m.d.sync += enable.eq(self.wr_data[0])
        with m.If(write(Mem.BIAS)):
            m.d.sync += enable.eq(0)
        self._state_words = Signal(16, name="state_words")
        targets = {
            name: getattr(engine, name) for name in REGISTERS if name != "state_words"
        } | {"state_words": self._state_words}  # fmt: skip
        for name, at in REGISTERS.items():
            held = Signal(32, name=f"register_{name}")
            m.d.comb += targets[name].eq(held)
            for half in range(2 if at >= REGISTERS["constants_base"] else 1):
                with m.If(write(Mem.BIAS) & (address[:4] == at + half)):
                    m.d.sync += held.word_select(half, 16).eq(self.wr_data)
        parts = WORD_BYTES // 2
        before = Signal(8 * WORD_BYTES - 16, name="before")
        word = Cat(before, self.wr_data[:16])
        with m.If(self.wr_en):
            m.d.sync += before.eq(word[16:])
        desc = engine.matrix_data
        first = word[-16 * MATRIX_WORDS :]
        fields = [first[16 * i : 16 * (i + n)] for i, n in ((0, 2), (2, 2), (4, 2), (6, 1), (7, 1))]
        m.d.comb += [
            engine.code_en.eq(write(Mem.PROGRAM) & (address[:4] == parts - 1)),
            engine.code_addr.eq(address[CODE_WORDS.bit_length() - 1 :]), engine.code_data.eq(word),
            engine.matrix_en.eq(write(Mem.WEIGHT) & (address[:3] == MATRIX_WORDS - 1)),
            engine.matrix_addr.eq(address[MATRIX_WORDS.bit_length() - 1 :]),
            *(desc[name].eq(value) for name, value in
              zip(("address", "beats", "rows", "words", "x_base"), fields, strict=True)),
            desc.fence.eq(1),
        ]  # fmt: skip

    def _banks(self, m: Module) -> None:
        """Reads and writes of states, and reads of logits, a word of 16 bits of one lane."""
        states, sampler, lanes = self.states, self.sampler, self.geometry.columns
        at_logits = Signal(name="at_logits")
        place = Signal(16, name="place")
        lane = self.rd_block[: (lanes - 1).bit_length()]
        with m.If(self.rd_en):
            m.d.sync += place.eq(self.rd_addr)
        address = Signal(16, name="bank_address")
        m.d.comb += [
            address.eq(Mux(self.wr_en, self.wr_addr, Mux(self.rd_en, self.rd_addr, place))),
            states.outer_addr.eq(address),
            states.outer_en.eq(Mux(self.wr_en & (self.wr_mem == Mem.BANK), 1 << self.wr_block[:6], 0)),
            states.outer_data.eq(self.wr_data),
            at_logits.eq(place >= self.geometry.logits_at),
            sampler.peek.eq(Cat(lane, (address - self.geometry.logits_at)[:16])),
            self.rd_valid.eq(delay(m, self.rd_en, BlockRam.LATENCY + 1, name="reading")),
        ]  # fmt: skip
        m.d.sync += self.rd_data.eq(Mux(at_logits, sampler.peeked, states.outer_word.word_select(lane, 16)))

    def _tokens(self, m: Module, running: Signal) -> None:
        """One token after the other."""
        engine, states, sampler = self.engine, self.states, self.sampler
        token, base, emit = Signal(16, name="token_held"), Signal(16, name="base"), Signal(name="emit_held")
        rule = Signal(sampler.choice_layout, name="rule")
        inside, held, ended = Signal(name="inside"), Signal(16, name="held"), Signal(name="ended")
        m.d.comb += [
            states.words.eq(self._state_words), states.move.payload.base.eq(base),
            engine.peek.eq(states.peek), states.peeked.eq(engine.peeked),
            engine.wr_en.eq(states.wr_en), engine.wr.address.eq(states.wr_addr),
            engine.wr.keep.eq(-1), engine.wr.data.eq(states.wr_data),
            engine.tokens.payload.eq(token), sampler.choose.payload.eq(rule),
        ]  # fmt: skip
        with m.If(engine.done):
            m.d.sync += ended.eq(1)
        with m.If(~running | (self.wr_en & (self.wr_mem == Mem.BANK))):
            m.d.sync += inside.eq(0)
        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    token.eq(self.token), base.eq(self.session_base), emit.eq(self.emit), ended.eq(0),
                    rule.greedy.eq(self.greedy), rule.m.eq(self.inv_m), rule.s.eq(self.inv_s),
                    rule.top_k.eq(self.top_k), rule.rng.eq(self.rng_in),
                ]  # fmt: skip
                with m.If(self.start):
                    m.next = "RESUME"
            with m.State("RESUME"):
                with m.If(inside & (held == base)):
                    m.next = "RUN"
                with m.Elif(running):
                    m.d.comb += [states.move.valid.eq(1), states.move.payload.kind.eq(Move.RESUME)]
                    with m.If(states.move.ready):
                        m.d.sync += [inside.eq(1), held.eq(base)]
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += engine.tokens.valid.eq(states.idle)
                with m.If(engine.tokens.valid & engine.tokens.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(ended):
                    m.d.comb += [states.move.valid.eq(1), states.move.payload.kind.eq(Move.KEEP)]
                    m.next = "END"
                    with m.If(emit):
                        m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += sampler.choose.valid.eq(1)
                with m.If(sampler.choose.ready):
                    m.next = "CHOSEN"
            with m.State("CHOSEN"):
                m.d.comb += sampler.chosen.ready.eq(1)
                with m.If(sampler.chosen.valid):
                    m.d.sync += [
                        self.next_token.eq(sampler.chosen.payload.token),
                        self.rng_out.eq(sampler.chosen.payload.rng),
                    ]
                    m.next = "END"
            with m.State("END"):
                with m.If(states.idle):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"


class LinkedWide(wiring.Component):
    """A `WideSystem` behind the byte link.

    Members
    -------
    rx : In(ByteStream)
        Bytes from the host.
    tx : Out(ByteStream)
        Bytes to the host.
    idle, loaded : Out(1)
        As in `LinkController`.
    fault : Out(1)
        Likewise, or the port has a fault.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(self, system: WideSystem, controller: LinkController) -> None:
        self.system, self.controller = system, controller
        super().__init__(
            {
                "rx": In(ByteStream),
                "tx": Out(ByteStream),
                "idle": Out(1),
                "loaded": Out(1),
                "fault": Out(1),
                **system.port,
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.system = system = self.system
        m.submodules.link = link = self.controller
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        m.d.comb += [
            self.idle.eq(link.idle), self.loaded.eq(link.loaded),
            self.fault.eq(link.fault | system.fault.any()),
        ]  # fmt: skip
        for name, member in ENGINE_MEMBERS.items():
            inner, outer = getattr(system, name), getattr(link.engine, name)
            m.d.comb += inner.eq(outer) if member.flow is Out else outer.eq(inner)
        for name, member in system.port.items():
            inner, outer = getattr(system, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        return m


def linked_wide(
    geometry: WideGeometry, bitstream_id: bytes, clock_hz: int = 0, tech: Technology = Technology.PORTABLE
) -> LinkedWide:
    """Return an engine for imported models behind a byte link that waits, as a pipe does."""
    link = LinkController(
        clock_hz, bitstream_id, geometry.hash, word_bytes=(2,) * 7, window=WINDOW, watchdog=WATCHDOG_CYCLES
    )
    return LinkedWide(WideSystem(geometry, tech=tech), link)
