"""The engine: sequencer, column array, norm unit and sampler behind the link controller's ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.machine import Machine
from ternac.compile.row_store import check_clock
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.columns import ColumnArray
from ternac.hdl.engine.contexts import Contexts
from ternac.hdl.engine.norm import NormUnit
from ternac.hdl.engine.ports import write_layout
from ternac.hdl.engine.sampler import Sampler
from ternac.hdl.engine.sequencer import Sequencer
from ternac.hdl.link.ports import EngineSignature
from ternac.hdl.sdram.controller import SdramPins
from ternac.hdl.sdram.store import SdramStore
from ternac.link import READ_SPAN, SPAN_WORDS


class EngineCore(wiring.Component):
    """One token of a session per ``start``: runs the microcode and, with ``emit``, samples the next token.

    As many sessions as the geometry has contexts may run at once; each needs microcode of its own
    (``entry``) and a state of its own (``session_base``).

    The program, its weights and tables, and the sessions' state are words in the memories of
    `Geometry.memory`, written through ``wr_*`` and, for the banks, read back through ``rd_*``, both only
    while not busy.

    Members
    -------
    wr_en : In(1)
        Loader: write a word, one per cycle, only while not ``busy``.
    wr_mem : In(3)
        Loader: the memory, a `Mem`.
    wr_block : In(8)
        Loader: the block.
    wr_addr : In(16)
        Loader: the word's address.
    wr_data : In(18)
        Loader: the word; bits beyond the memory's width are ignored.
    rd_en : In(1)
        Pulse: read a word of a bank, one at a time, only while not ``busy``.
    rd_block : In(8)
        The column; with rows, `READ_ROWS` more to read these.
    rd_addr : In(16)
        The word's address.
    rd_valid : Out(1)
        Pulse: there is the word.
    rd_data : Out(16)
        The word.
    start : In(1)
        Pulse, ignored while the context is open: feed it a token. The seven members below are taken with it.
    start_context : In(2)
        The context.
    again : In(1)
        Its entry, session base and generator stay what they were.
    entry : In(16)
        The first word of its microcode.
    token : In(16)
        The token.
    session_base : In(16)
        The bank word at which its state begins.
    emit : In(1)
        Choose a token at the end.
    rng_in : In(32)
        The state of its generator.
    greedy : In(1)
        Choose the largest logit; stable while busy, like the three members below.
    inv_m : In(8)
        Mantissa of the inverse temperature.
    inv_s : In(5)
        Its shift.
    top_k : In(16)
        Draw among this number of the largest logits; 0: among all.
    busy : Out(1)
        A context is open.
    done : Out(1)
        Pulse: a context closes. The three members below are valid with it.
    done_context : Out(2)
        The context.
    next_token : Out(16)
        The token that was chosen.
    rng_out : Out(32)
        The state of its generator.
    clear : In(1)
        Set ``cycles`` to 0.
    cycles : Out(32)
        Clock cycles since ``clear`` in which a context was open, from the one after its ``start`` to the one
        before its ``done``.
    ready : Out(1)
        With an SDRAM: it has been initialised; before, no word may be loaded.
    sdram : Out(SdramPins)
        With an SDRAM for weights or rows: it, the chip of a board at ``clock_hz`` (0: `NOMINAL_HZ`).
    """

    AREA_PART = "core"

    def __init__(
        self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE, clock_hz: int = 0
    ) -> None:
        self.geometry, self.tech = geometry, tech
        members = dict(EngineSignature.flip().members.items())
        if geometry.stores_rows:
            check_clock(clock_hz or NOMINAL_HZ)
        if geometry.streams:
            self.store = SdramStore(geometry, ULX3S_CHIP, clock_hz or NOMINAL_HZ)
        if geometry.has_sdram:
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
        m.submodules.sampler = sampler = Sampler(
            columns=g.columns, slots=g.logit_slots, pace=g.sampler_pace, spans=bool(g.spans)
        )
        m.submodules.contexts = contexts = Contexts(g)

        # The loader's words, which pass two registers where memories are far apart.
        write = Signal(write_layout(), name="loaded")
        m.d.comb += [
            write.en.eq(self.wr_en & ~(contexts.busy if g.stores_rows else self.busy)),
            write.mem.eq(self.wr_mem),
            write.block.eq(self.wr_block),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
        ]
        if g.pipelined_broadcast:
            write = data.View(write_layout(), delay(m, write.as_value(), 2, name="write"))
        m.d.comb += [
            columns.wr.eq(write),
            seq.wr_en.eq(write.en & (write.mem == Mem.PROGRAM)),
            seq.wr_addr.eq(write.addr),
            seq.wr_data.eq(write.data),
            seq.wr_block.eq(write.block),
        ]

        # Sequencer and columns.
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
        ]

        if g.rows:
            m.d.comb += [
                columns.rows_accept.eq(seq.rows_accept),
                columns.rows_settings.eq(seq.rows_settings),
                columns.reads_rows.eq(seq.reads_rows),
                *(
                    getattr(seq, name).eq(getattr(columns, name))
                    for name in ("arg_retire", "arg_index", "rows_retire", "rows_index")
                ),
            ]

        if g.stores_rows:
            self._moves(m, columns, seq, contexts)

        # The norm unit between the two passes of a NORM, where there is no side lane.
        if not g.lane_depth:
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

        # The weight store in SDRAM starts over with every token, and the sequencer waits for its words.
        if g.streams:
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

        # Rows of logits go to the sampler.
        late = g.row_register
        m.d.comb += [
            sampler.row_valid.eq(delay(m, columns.row_valid, late, name="row_valid")),
            sampler.row_slot.eq(delay(m, columns.row_slot, late, name="row_slot")),
            sampler.last_slot.eq(seq.logits_last),
            sampler.tail.eq(seq.logits_tail),
            *(
                into.eq(delay(m, logit, late, name="logit", reset_less=True))
                for into, logit in zip(sampler.row, columns.row, strict=True)
            ),
            *(
                getattr(sampler, name).eq(getattr(self, name))
                for name in ("greedy", "inv_m", "inv_s", "top_k")
            ),
        ]

        # The contexts, from start to done.
        m.d.comb += [
            *(
                getattr(contexts, name).eq(getattr(self, name))
                for name in (
                    "start",
                    "start_context",
                    "again",
                    "emit",
                    "rng_in",
                    "hold_done",
                    "clear",
                    "greedy",
                )
            ),
            *(
                getattr(self, name).eq(getattr(contexts, name))
                for name in ("busy", "done", "done_context", "next_token", "rng_out", "cycles")
            ),
            *(
                getattr(seq, name).eq(getattr(self, name))
                for name in ("start_context", "again", "entry", "token", "session_base")
            ),
            seq.start.eq(contexts.begin),
            contexts.halted.eq(seq.done),
            contexts.halted_context.eq(seq.done_context),
            contexts.logits_start.eq(seq.logits_start),
            contexts.logits_issued.eq(seq.logits_issued),
            seq.logits_hold.eq(contexts.logits_hold),
            contexts.row_valid.eq(sampler.row_valid),
            contexts.row_last.eq(sampler.row_slot == seq.logits_last),
            contexts.row_context.eq(delay(m, columns.row_context, late, name="row_context")),
            sampler.start.eq(contexts.sample),
            sampler.rng_in.eq(contexts.sample_rng),
            contexts.sampled.eq(sampler.done),
            contexts.sampled_token.eq(sampler.next_token),
            contexts.sampled_rng.eq(sampler.rng_out),
        ]

        # The host reads a bank, or rows. It waits for rows that are being cleared, as a start does.
        wanted: Value = self.rd_en
        if g.spans:
            wanted = self.rd_en & ~self.rd_block[READ_SPAN.bit_length() - 1]
        if g.rows:
            waiting = Signal(name="rd_waiting")
            own = columns.moves.busy if g.stores_rows else columns.clearing
            m.d.comb += self.busy.eq(contexts.busy | own)
            wanted = wanted | waiting
            if g.stores_rows:
                wanted = (self.rd_en & ~self.rd_block[6:].any()) | waiting
            m.d.sync += waiting.eq(wanted & self.busy)
        reading = delay(m, wanted & ~self.busy, ColumnArray.READ_LATENCY + 1, name="reading")
        block = Signal.like(self.rd_block, name="block")
        address = Signal.like(columns.rd_addr, name="address")
        with m.If(self.rd_en):
            m.d.sync += [block.eq(self.rd_block), address.eq(self.rd_addr)]
        m.d.comb += [
            columns.rd_en.eq(~self.busy),
            columns.rd_block.eq(block[:-1] if g.rows else block),
            columns.rd_addr.eq(address),
            self.rd_valid.eq(reading | columns.moves.rd_valid if g.stores_rows else reading),
            self.rd_data.eq(
                Mux(columns.moves.rd_valid, columns.moves.rd_data, columns.rd_data)
                if g.stores_rows
                else columns.rd_data
            ),
        ]
        if g.rows and not g.stores_rows:
            m.d.comb += columns.rd_rows.eq(block[-1])
        if g.spans:
            self._spans(m, sampler, reading, columns.rd_data)
        return m

    def _spans(self, m: Module, sampler: Sampler, reading: Value, word: Value) -> None:
        """Answer a read of a span: the first word after a pass over the logits, the others at once."""
        asked = self.rd_en & self.rd_block[READ_SPAN.bit_length() - 1]
        number = self.rd_addr[: ceil_log2(SPAN_WORDS)]
        again = delay(m, asked & number.any(), 2, name="span_again")
        with m.If(asked):
            m.d.sync += [
                sampler.span_shift.eq(self.rd_block),
                sampler.span_number.eq(number),
                sampler.span_token.eq(self.rd_addr[len(number) :]),
            ]
        found = Signal(name="span_found")
        m.d.comb += [
            sampler.span_start.eq(delay(m, asked & ~number.any(), name="span_asked")),
            found.eq(sampler.span_done | again),
            self.rd_valid.eq(reading | found),
            self.rd_data.eq(Mux(found, sampler.span_word, word)),
        ]

    def _moves(self, m: Module, columns: ColumnArray, seq: Sequencer, contexts: Contexts) -> None:
        """Wire the mover of rows to sequencer, host and pins."""
        moves = columns.moves
        m.d.comb += [
            moves.move.eq(seq.move),
            moves.settings.eq(seq.move_settings),
            seq.move_retire.eq(moves.retire),
            moves.rest.eq(contexts.begin & ~contexts.busy),
            moves.wr_en.eq(self.wr_en & ~contexts.busy & (self.wr_mem == Mem.ROWS)),
            moves.wr_block.eq(self.wr_block),
            moves.wr_addr.eq(self.wr_addr),
            moves.wr_data.eq(self.wr_data),
            moves.rd_en.eq(self.rd_en & self.rd_block[6:].any()),
            moves.rd_block.eq(self.rd_block),
            moves.rd_addr.eq(self.rd_addr),
            self.ready.eq(moves.ready),
        ]
        wiring.connect(m, columns.sdram, wiring.flipped(self.sdram))
