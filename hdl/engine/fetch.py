"""Fetch: reads the next instruction of the current context, two words a cycle."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT, WORDS, Source
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.ports import context_bits, instruction_layout, pass_layout, pass_slots

PAIRS = WORDS // 2
FETCH = PAIRS + BlockRam.LATENCY
"""Cycles from the first read of an instruction until it can start."""

_ROWS_MEMBERS = {"loop": In(1), "lists": Out(1), "row_base": Out(16), "full_token": Out(16)}


class Fetch(wiring.Component):
    """The program memory, the next instruction, and per context a program counter, token and session base.

    An instruction is read as soon as the place of its pass is free. What its pass keeps goes straight into
    that place; the rest waits in ``next`` until the pass begins. All but the last words are there some cycles
    before the instruction is complete.

    Members
    -------
    start : In(1)
        Pulse: begin the program of ``start_context``. The five members below are taken with it.
    start_context : In(context)
        The context that starts; it is not running.
    again : In(1)
        Keep entry and session base as they were at the start before.
    entry : In(16)
        Address of the first word of the context's program.
    token : In(16)
        The token whose embedding the program reads.
    session_base : In(16)
        What relative operand addresses are added to.
    running : In(contexts)
        One bit per context: its program has not ended.
    current : In(context)
        The context whose instruction is read.
    index : In(pass)
        The place of the instruction's pass in ``passes``.
    occupied : In(1)
        The pass before in that place is still in the pipelines.
    take : In(1)
        Pulse: the instruction has begun; read the next one.
    complete : Out(1)
        All of the instruction is there.
    next : Out(instruction_layout)
        Its fields that are needed until it begins.
    passes : Out(ArrayLayout(pass_layout))
        Its other fields, and those of the passes in the pipelines.
    loop : In(1)
        With rows: pulse, not without ``take``: the instruction is a LOOP.
    lists : Out(1)
        With rows: the instruction's ``to_list``, for which no place of a pass must be chosen.
    masks : Out(1)
        With rows in SDRAM: likewise its ``mask``.
    row_base : Out(16)
        With rows: the session's base, shifted as the instruction says.
    full_token : Out(16)
        With rows: the context's token.
    wr_en : In(1)
        Loader: write a word of the program memory, only while no context runs.
    wr_block : In(1)
        Loader: 0 for even words, 1 for odd ones.
    wr_addr : In(addr)
        Loader: half of the word's address.
    wr_data : In(16)
        Loader: the word.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        depth = g.program_depth // 2
        self.rams = [BlockRam(16, depth, tech=tech, memory="PROGRAM", block=i) for i in range(2)]
        super().__init__(
            {
                "start": In(1),
                "start_context": In(context_bits(g)),
                "again": In(1),
                "entry": In(16),
                "token": In(16),
                "session_base": In(16),
                "running": In(g.contexts),
                "current": In(context_bits(g)),
                "index": In(ceil_log2(pass_slots(g))),
                "occupied": In(1),
                "take": In(1),
                "complete": Out(1),
                "next": Out(instruction_layout(g)),
                "passes": Out(data.ArrayLayout(pass_layout(g), pass_slots(g))),
                "wr_en": In(1),
                "wr_block": In(1),
                "wr_addr": In(ceil_log2(depth)),
                "wr_data": In(16),
                **(_ROWS_MEMBERS if g.rows else {}),
                **({"masks": Out(1)} if g.stores_rows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        own, place = self.next, self.passes[self.index]

        # The contexts: a start sets the program counter, the token and, unless `again`, the session's base.
        many = range(self.geometry.contexts)
        pcs = Array([Signal(ceil_log2(self.geometry.program_depth // 2), name=f"pc_{k}") for k in many])
        rows = bool(self.geometry.rows)
        tokens = Array([Signal(16 if rows else len(own.a), name=f"token_{k}") for k in many])
        bases = Array([Signal(16, name=f"base_{k}") for k in many])
        entries = Array([Signal.like(pcs[0], name=f"entry_{k}") for k in many])
        pc, base = pcs[self.current], bases[self.current]
        with m.If(self.start):
            chosen = self.start_context
            entry = Mux(self.again, entries[chosen], self.entry >> 1)
            m.d.sync += [pcs[chosen].eq(entry), entries[chosen].eq(entry), tokens[chosen].eq(self.token)]
            with m.If(~self.again):
                m.d.sync += bases[chosen].eq(self.session_base)

        # The memories: bit p of `arrives` says that pair p of words leaves them. The first pair says which
        # addresses, which come later, are relative to the session's base.
        latency = BlockRam.LATENCY
        step = Signal(range(PAIRS + latency + 1), name="step")
        arrives = Signal(PAIRS, name="arrives")
        m.d.sync += arrives.eq(Cat(step == latency - 1, arrives))
        addresses: list[Value] = []
        for half, ram in enumerate(self.rams):
            relative: Value = Const(0, 1)
            for name in "abcd":
                word = LAYOUT[name][0]
                if word % 2 == half:
                    relative = relative | (arrives[word // 2 - 1] & own["rel_" + name])
            added = Signal(16, name=f"added_{half}")
            m.d.sync += added.eq(Mux(relative, base, 0))
            address = Signal(16, name=f"address_{half}")
            m.submodules[f"program_{half}"] = ram
            m.d.comb += [
                ram.rd_addr.eq(pc),
                address.eq(ram.rd_data + added),
                ram.wr_en.eq(self.wr_en & (self.wr_block == half)),
                ram.wr_addr.eq(self.wr_addr),
                ram.wr_data.eq(self.wr_data),
            ]
            addresses.append(address)

        # The steps: one read a cycle; then, for an embedding, as many cycles as the stride asks for, in which
        # the token is shifted to become its address.
        token = Signal(len(own.a), name="token")
        last = PAIRS + latency - 1
        running = self.running.bit_select(self.current, 1)
        with m.If(self.complete):
            m.d.sync += step.eq(0)
        with m.Elif(running & ~((step == 0) & self.occupied)):
            with m.If(step < PAIRS):
                m.d.sync += pc.eq(pc + 1)
            with m.If(step == 0):
                m.d.sync += [own.stride.eq(0), token.eq(tokens[self.current]), place.context.eq(self.current)]
            with m.Elif((step > LAYOUT["stride"][0] // 2 + latency) & (own.stride != 0)):
                m.d.sync += [own.stride.eq(own.stride - 1), token.eq(token << 1)]
            with m.If(step <= last):
                m.d.sync += step.eq(step + 1)
            with m.If((step >= last) & (own.stride == 0)):
                m.d.sync += self.complete.eq(1)
                with m.If(place.source == Source.EMBED):
                    m.d.sync += own.a.eq(token)
        with m.If(self.take):
            m.d.sync += self.complete.eq(0)
        if rows:
            self._rows(m, pcs, tokens[self.current], base, step, arrives)

        # The fields, each from its pair of words.
        for pair in range(PAIRS):
            with m.If(arrives[pair]):
                for name, (home, low, width) in LAYOUT.items():
                    holder = own if name in own.shape().members else place
                    if home // 2 == pair and name in holder.shape().members:
                        word = self.rams[home % 2].rd_data[low : low + width]
                        target = holder[name]
                        m.d.sync += Value.cast(target).eq(addresses[home % 2] if name in "abcd" else word)
        return m

    def _rows(
        self, m: Module, pcs: Array[Signal], token: Value, base: Value, step: Signal, arrives: Signal
    ) -> None:
        """What only passes over rows need, and the counters of LOOP."""
        own = self.next
        word, low, _ = LAYOUT["to_list"]
        with m.If(arrives[word // 2]):
            m.d.sync += self.lists.eq(self.rams[word % 2].rd_data[low])
            if self.geometry.stores_rows:
                m.d.sync += self.masks.eq(self.rams[word % 2].rd_data[LAYOUT["mask"][1]])
        shifts = (step > LAYOUT["stride"][0] // 2 + BlockRam.LATENCY) & (own.stride != 0)
        with m.If(~self.complete):
            with m.If(step == 0):
                m.d.sync += [self.row_base.eq(base), self.full_token.eq(token)]
            with m.Elif(shifts):
                m.d.sync += self.row_base.eq(self.row_base << 1)
        runs = Array([Signal(8, name=f"runs_{k}") for k in range(self.geometry.contexts)])
        done = runs[self.current] + 1
        with m.If(self.loop):
            m.d.sync += runs[self.current].eq(0)
            with m.If(done < own.count):
                m.d.sync += [runs[self.current].eq(done), pcs[self.current].eq(own.a >> 1)]
        with m.If(self.start):
            m.d.sync += runs[self.start_context].eq(0)
