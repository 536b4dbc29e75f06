"""The engine: sequencer, column array, norm unit and sampler behind the link controller's ports."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from ternac.compile.compiler import Image
from ternac.compile.geometry import Geometry, Mem
from ternac.compile.machine import Machine
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.columns import ColumnArray
from ternac.hdl.engine.norm import NormUnit
from ternac.hdl.engine.ports import write_layout
from ternac.hdl.engine.sampler import Sampler
from ternac.hdl.engine.sequencer import Sequencer
from ternac.hdl.link.ports import EngineSignature, turnaround
from ternac.hdl.sdram.controller import SdramPins
from ternac.hdl.sdram.store import SdramStore

ISSUE_AHEAD = 8
"""Cycles after the last word of a greedy context's logits until another one's may begin."""
DONE_GAP = 8
"""Cycles at least from one ``done`` to the next, where there are several contexts."""


class EngineCore(wiring.Component):
    """One token of a session per ``start``: runs the microcode and, with ``emit``, samples the next token.

    As many sessions as the geometry has contexts may be under way at once; each needs microcode of its own
    (``entry``) and a state of its own (``session_base``).

    The program, its weights and tables, and the sessions' state are words in the memories of
    `Geometry.memory`, written through ``wr_*`` and, for the banks, read back through ``rd_*``, both only
    while not busy.

    Members
    -------
    wr_en(1), wr_mem(3), wr_block(8), wr_addr(16), wr_data(18) : In.  One word per cycle;
        data beyond a memory's width is ignored.
    rd_en(1), rd_block(8), rd_addr(16) : In;  rd_valid(1), rd_data(16) : Out.  BANK only, one word at a time.
    start(1) pulse, start_context(2), again(1), entry(16), token(16), session_base(16), emit(1),
        rng_in(32) : In, taken with ``start``, which is ignored while the context is open; with ``again`` its
        entry, session base and generator stay what they were.
    greedy(1), inv_m(8), inv_s(5), top_k(16) : In, stable while busy.
    busy(1), done(1) pulse, done_context(2), next_token(16), rng_out(32) : Out.
    sdram : Out(SdramPins), ready(1) : Out, the memory has been initialised: both where weights stream, on the
        chip of a board at ``clock_hz`` (0: `NOMINAL_HZ`); before, no word may be loaded.
    clear(1) : In;  cycles(32) : Out, clock cycles since ``clear`` in which a context was open, from the one
        after its ``start`` to the one before its ``done``.
    """

    def __init__(
        self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE, clock_hz: int = 0
    ) -> None:
        self.geometry, self.tech = geometry, tech
        members = dict(EngineSignature.flip().members.items())
        if geometry.streams:
            self.store = SdramStore(geometry, ULX3S_CHIP, clock_hz or NOMINAL_HZ)
            members |= {"ready": Out(1), "sdram": Out(SdramPins)}
        super().__init__(members)

    @staticmethod
    def model(image: Image) -> Machine:
        """The same engine in NumPy, word for word."""
        return Machine(image)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        m.submodules.columns = columns = ColumnArray(g, tech=self.tech)
        m.submodules.sequencer = seq = Sequencer(g, dot_delay=columns.dot_delay, tech=self.tech)
        m.submodules.sampler = sampler = Sampler(columns=g.columns, slots=g.logit_slots, pace=g.sampler_pace)

        write = Signal(write_layout(), name="write")
        m.d.comb += [
            write.en.eq(self.wr_en & ~self.busy),
            write.mem.eq(self.wr_mem),
            write.block.eq(self.wr_block),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
        ]
        if g.wide:
            write = data.View(write_layout(), delay(m, write.as_value(), 2, name="write"))
        m.d.comb += [
            columns.wr.eq(write),
            seq.wr_en.eq(write.en & (write.mem == Mem.PROGRAM)),
            seq.wr_addr.eq(write.addr),
            seq.wr_data.eq(write.data),
            seq.wr_block.eq(write.block),
        ]

        m.d.comb += [
            columns.dot.eq(seq.dot),
            columns.elem.eq(seq.elem),
            columns.passes.eq(seq.passes),
            seq.retire.eq(columns.retire),
            seq.retire_index.eq(columns.retire_index),
            seq.room.eq(columns.room),
            seq.lane_retire.eq(columns.lane_retire),
            seq.lane_context.eq(columns.lane_context),
            columns.claim.eq(seq.claim),
            columns.claim_slots.eq(seq.claim_slots),
            columns.square_tail.eq(seq.norm_tail),
            sampler.last_slot.eq(seq.logits_last),
            sampler.tail.eq(seq.logits_tail),
        ]
        if not g.lane_depth:
            self.norm(m, seq, columns, write)
        if g.streams:
            self.stream(m, seq, columns, write)
        row_context = delay(m, columns.row_context, g.row_register)
        for name in ("row_valid", "row_slot"):
            late = delay(m, getattr(columns, name), g.row_register, name=name)
            m.d.comb += getattr(sampler, name).eq(late)
        for into, logit in zip(sampler.row, columns.row, strict=True):
            m.d.comb += into.eq(delay(m, logit, g.row_register, name="logit", reset_less=True))
        self.control(m, seq, row_context, sampler)

        reading = Signal(ColumnArray.READ_LATENCY, name="reading")
        m.d.sync += reading.eq(Cat(self.rd_en & ~self.busy, reading[:-1]))
        block, address = (
            Signal.like(self.rd_block, name="block"),
            Signal.like(columns.rd_addr, name="address"),
        )
        with m.If(self.rd_en):
            m.d.sync += [block.eq(self.rd_block), address.eq(self.rd_addr)]
        m.d.comb += [columns.rd_en.eq(~self.busy), columns.rd_block.eq(block), columns.rd_addr.eq(address)]
        m.d.comb += self.rd_data.eq(columns.rd_data)
        m.d.sync += self.rd_valid.eq(reading[-1])
        return m

    def stream(self, m: Module, seq: Sequencer, columns: ColumnArray, write: Signal) -> None:
        """The weight store in SDRAM begins anew with every token, and the sequencer waits for its words."""
        m.submodules.store = store = self.store
        m.d.comb += [
            store.wr_en.eq(write.en & (write.mem == Mem.WEIGHT)),
            store.wr_address.eq(Cat(write.addr, write.block)),
            store.wr_word.eq(write.data),
            store.restart.eq(seq.start),
            seq.dot_ready.eq(store.o.valid),
            store.o.ready.eq(seq.dot.valid),
            columns.weights.eq(store.o.payload),
            self.ready.eq(store.ready),
        ]
        wiring.connect(m, store.pins, wiring.flipped(self.sdram))

    def norm(self, m: Module, seq: Sequencer, columns: ColumnArray, write: Signal) -> None:
        """The norm unit between the two passes of a NORM, where there is no side lane."""
        g = self.geometry
        m.submodules.norm = norm = NormUnit(columns=g.pipelines, tables=g.norm_tables)
        m.d.comb += [
            norm.wr_en.eq(write.en & (write.mem == Mem.NORM)),
            norm.wr_addr.eq(write.addr),
            norm.wr_data.eq(write.data),
            norm.start.eq(seq.norm_start),
            norm.post.eq(seq.norm_post),
            norm.table.eq(seq.norm_table),
            seq.norm_done.eq(norm.done),
            columns.mantissa.eq(norm.mantissa),
            columns.norm_shift.eq(norm.shift),
            *(norm.sums[p].eq(columns.square_sums[p]) for p in range(g.pipelines)),
        ]

    def control(self, m: Module, seq: Sequencer, row_context: Value, sampler: Sampler) -> None:
        """Contexts from start to done: when the microcode has ended and, with ``emit``, a token is chosen."""
        count = self.geometry.contexts
        context = self.start_context[: len(seq.start_context)]
        opened, ends = Signal(count, name="opened"), Signal(count, name="ends")
        begins, last = Signal(name="begins"), Signal(name="last")
        # where the link takes its time, no start comes in the cycle of the done before it
        closed = ~opened if turnaround(self.geometry) else ~(opened & ~ends)
        emits = Signal(count, name="emits")
        rngs = Array([Signal(32, name=f"rng_{k}") for k in range(count)])
        tokens = Array([Signal(16, name=f"chosen_{k}") for k in range(count)])
        m.d.comb += [
            begins.eq(self.start & closed.bit_select(context, 1)),
            seq.start.eq(begins),
            seq.start_context.eq(context),
            seq.again.eq(self.again),
            seq.entry.eq(self.entry),
            seq.token.eq(self.token),
            seq.session_base.eq(self.session_base),
            self.busy.eq(opened.any()),
            last.eq(((opened & ~ends) == 0) & ~begins),
        ]
        m.d.sync += opened.eq(opened & ~ends | Mux(begins, 1 << context, 0))
        with m.If(begins):
            m.d.sync += emits.bit_select(context, 1).eq(self.emit)
            with m.If(~self.again):
                m.d.sync += rngs[context].eq(self.rng_in)

        # the sampler begins after the last row of logits; it holds one context's logits at a time
        sampling = Signal(len(context), name="sampling")
        rows = Signal(name="rows")
        m.d.sync += rows.eq(sampler.row_valid & (sampler.row_slot == seq.logits_last))
        with m.If(sampler.row_valid):
            m.d.sync += sampling.eq(row_context)
        m.d.sync += sampler.start.eq(rows & emits.bit_select(sampling, 1))
        m.d.comb += [
            # which context's is known since its first row
            sampler.rng_in.eq(delay(m, rngs[sampling], int(count > 1))),
            *(
                getattr(sampler, name).eq(getattr(self, name))
                for name in ("greedy", "inv_m", "inv_s", "top_k")
            ),
        ]
        with m.If(sampler.done):
            m.d.sync += [tokens[sampling].eq(sampler.next_token), rngs[sampling].eq(sampler.rng_out)]
        # an argmax is known long before another context's rows can come
        issued = Signal(ISSUE_AHEAD, name="issued")
        m.d.sync += issued.eq(Cat(seq.logits_issued, issued[:-1]))
        hold = Signal(name="hold")
        with m.If(seq.logits_start):
            m.d.sync += hold.eq(1)
        with m.Elif(Mux(self.greedy, issued[-1], sampler.done | (rows & ~emits.bit_select(sampling, 1)))):
            m.d.sync += hold.eq(0)
        m.d.comb += seq.logits_hold.eq(hold)

        halted, sampled = Signal(count, name="halted"), Signal(count, name="sampled")
        complete = Signal(count, name="complete")
        pause = Signal(range(DONE_GAP), name="pause")
        m.d.comb += complete.eq(halted & (sampled | ~emits))
        with m.If(pause.any()):
            m.d.sync += pause.eq(pause - 1)
        with m.Elif(complete.any()):
            m.d.comb += self.done.eq(1)
            if count > 1:
                m.d.sync += pause.eq(DONE_GAP - 1)
        for k in reversed(range(count)):
            with m.If(complete[k]):
                m.d.comb += self.done_context.eq(k)
        m.d.comb += [
            ends.eq(Mux(self.done, 1 << self.done_context, 0)),
            self.next_token.eq(tokens[self.done_context]),
            self.rng_out.eq(rngs[self.done_context]),
        ]
        m.d.sync += [
            halted.eq(halted & ~ends | Mux(seq.done, 1 << seq.done_context, 0)),
            sampled.eq(sampled & ~ends | Mux(sampler.done, 1 << sampling, 0)),
        ]

        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        with m.Elif(self.busy & ~(self.done & last)):
            m.d.sync += self.cycles.eq(self.cycles + 1)
