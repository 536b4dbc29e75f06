"""Fetch: reads the next instruction of the current context, two words a cycle."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT, WORDS, Source
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.tech import Technology

PAIRS = WORDS // 2
FETCH = PAIRS + BlockRam.LATENCY
"""Cycles from the first read of an instruction until it can start."""


class Fetch(wiring.Component):
    """The program memory, its loader's port, and per context a program counter, a token and a session base.

    ``connect`` wires it into the sequencer, into whose signals the fields of an instruction go.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        self.geometry, self.tech = geometry, tech
        depth = geometry.program_depth // 2
        self.rams = [BlockRam(16, depth, tech=tech, memory="PROGRAM", block=i) for i in range(2)]
        super().__init__(
            {"wr_en": In(1), "wr_block": In(1), "wr_addr": In(ceil_log2(depth)), "wr_data": In(16)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i, ram in enumerate(self.rams):
            m.submodules[f"program_{i}"] = ram
            m.d.comb += [
                ram.wr_en.eq(self.wr_en & (self.wr_block == i)),
                ram.wr_addr.eq(self.wr_addr),
                ram.wr_data.eq(self.wr_data),
            ]
        return m

    def connect(
        self, m: Module, ports: wiring.PureInterface, own: dict[str, Signal], field: Callable[[str], Value],
        have: Signal, occupied: Value, current: Value,
    ) -> None:  # fmt: skip
        """Read an instruction into ``own`` and the place of its pass once that is free; sets ``have``."""
        count = self.geometry.contexts
        pcs = Array(
            [Signal(ceil_log2(self.geometry.program_depth // 2), name=f"pc_{k}") for k in range(count)]
        )
        tokens = Array([Signal(len(own["a"]), name=f"token_{k}") for k in range(count)])
        bases = Array([Signal(16, name=f"base_{k}") for k in range(count)])
        entries = Array([Signal.like(pcs[0], name=f"entry_{k}") for k in range(count)])
        pc, base = pcs[current], bases[current]
        with m.If(ports.start):
            chosen = ports.start_context
            entry = Mux(ports.again, entries[chosen], ports.entry >> 1)
            m.d.sync += [pcs[chosen].eq(entry), entries[chosen].eq(entry), tokens[chosen].eq(ports.token)]
            with m.If(~ports.again):
                m.d.sync += bases[chosen].eq(ports.session_base)
        latency = BlockRam.LATENCY
        step = Signal(range(PAIRS + latency + 1), name="step")
        # a bit per pair of words: it leaves the memory; the first word says what the base is added to
        arrives = Signal(PAIRS, name="arrives")
        m.d.sync += arrives.eq(Cat(step == latency - 1, arrives))
        token = Signal(len(own["a"]), name="token")
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
            m.d.comb += [ram.rd_addr.eq(pc), address.eq(ram.rd_data + added)]
            addresses.append(address)
        last = PAIRS + latency - 1
        with m.If(have):
            m.d.sync += step.eq(0)
        with m.Elif(ports.running.bit_select(current, 1) & ~((step == 0) & occupied)):
            with m.If(step < PAIRS):
                m.d.sync += pc.eq(pc + 1)
            # an embedding's address is the token shifted by the stride
            with m.If(step == 0):
                m.d.sync += [own["stride"].eq(0), token.eq(tokens[current]), field("context").eq(current)]
            with m.Elif((step > LAYOUT["stride"][0] // 2 + latency) & (own["stride"] != 0)):
                m.d.sync += [own["stride"].eq(own["stride"] - 1), token.eq(token << 1)]
            with m.If(step <= last):
                m.d.sync += step.eq(step + 1)
            with m.If((step >= last) & (own["stride"] == 0)):
                m.d.sync += have.eq(1)
                with m.If(field("source") == Source.EMBED):
                    m.d.sync += own["a"].eq(token)
        for pair in range(PAIRS):
            with m.If(arrives[pair]):
                for name, (home, low, width) in LAYOUT.items():
                    if home // 2 == pair:
                        word = self.rams[home % 2].rd_data[low : low + width]
                        m.d.sync += field(name).eq(addresses[home % 2] if name in "abcd" else word)
