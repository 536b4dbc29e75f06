"""The engine: sequencer, column array, norm unit and sampler behind the link controller's ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile import Image
from ternac.geometry import Geometry, Mem
from ternac.hdl.columns import ColumnArray, write_layout
from ternac.hdl.norm import NormUnit
from ternac.hdl.sampler import Sampler
from ternac.hdl.sequencer import Sequencer
from ternac.hdl.tech import Technology
from ternac.machine import Machine

FAN_OUT = 4
"""Columns beyond which loader writes pass two registers on their way to all the blocks."""


class EngineCore(wiring.Component):
    """One token per ``start``: runs the microcode and, with ``emit``, samples the next token.

    The program, its weights and tables, and the sessions' state are words in the memories of
    `Geometry.memory`, written through ``wr_*`` and, for the banks, read back through ``rd_*``, both only
    while not busy.

    Members
    -------
    wr_en(1), wr_mem(3), wr_block(8), wr_addr(16), wr_data(18) : In.  One word per cycle;
        data beyond a memory's width is ignored.
    rd_en(1), rd_block(8), rd_addr(16) : In;  rd_valid(1), rd_data(16) : Out.  BANK only, one word at a time.
    start(1) pulse, token(16), session_base(16), emit(1), greedy(1), inv_m(8), inv_s(5), top_k(16),
        rng_in(32) : In, stable from start until done.
    busy(1), done(1) pulse, next_token(16), rng_out(32) : Out.   cycles(32) : Out, at ``done``: the
        clock cycles between ``start`` and ``done``.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        self.geometry, self.tech = geometry, tech
        super().__init__(
            {
                "wr_en": In(1), "wr_mem": In(3), "wr_block": In(8), "wr_addr": In(16), "wr_data": In(18),
                "rd_en": In(1), "rd_block": In(8), "rd_addr": In(16), "rd_valid": Out(1), "rd_data": Out(16),
                "start": In(1), "token": In(16), "session_base": In(16), "emit": In(1),
                "busy": Out(1), "done": Out(1), "next_token": Out(16), "cycles": Out(32),
                "greedy": In(1), "inv_m": In(8), "inv_s": In(5), "top_k": In(16),
                "rng_in": In(32), "rng_out": Out(32),
            }
        )  # fmt: skip

    @staticmethod
    def model(image: Image) -> Machine:
        """The same engine in NumPy, word for word."""
        return Machine(image)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        m.submodules.columns = columns = ColumnArray(g, tech=self.tech)
        m.submodules.sequencer = seq = Sequencer(g, dot_delay=columns.dot_delay, tech=self.tech)
        m.submodules.norm = norm = NormUnit(columns=g.pipelines, tables=g.norm_tables)
        m.submodules.sampler = sampler = Sampler(columns=g.columns, slots=g.logit_slots, pace=g.sampler_pace)

        write = Signal(write_layout())
        m.d.comb += [
            write.en.eq(self.wr_en & ~self.busy),
            write.mem.eq(self.wr_mem),
            write.block.eq(self.wr_block),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
        ]
        for i in range(2 if g.columns > FAN_OUT else 0):
            later = Signal(write_layout(), name=f"write_{i}")
            m.d.sync += later.eq(write)
            write = later
        m.d.comb += [
            columns.wr.eq(write),
            seq.wr_en.eq(write.en & (write.mem == Mem.PROGRAM)),
            seq.wr_addr.eq(write.addr),
            seq.wr_data.eq(write.data),
            norm.wr_en.eq(write.en & (write.mem == Mem.NORM)),
            norm.wr_addr.eq(write.addr),
            norm.wr_data.eq(write.data),
        ]

        m.d.comb += [
            columns.dot.eq(seq.dot),
            columns.elem.eq(seq.elem),
            columns.passes.eq(seq.passes),
            seq.retire.eq(columns.retire),
            seq.retire_parity.eq(columns.retire_parity),
            norm.start.eq(seq.norm_start),
            norm.post.eq(seq.norm_post),
            norm.table.eq(seq.norm_table),
            seq.norm_done.eq(norm.done),
            columns.mantissa.eq(norm.mantissa),
            columns.norm_shift.eq(norm.shift),
            columns.square_tail.eq(seq.norm_tail),
            sampler.row_valid.eq(columns.row_valid),
            sampler.row_slot.eq(columns.row_slot),
            sampler.last_slot.eq(seq.logits_last),
            sampler.tail.eq(seq.logits_tail),
        ]
        m.d.comb += [norm.sums[p].eq(columns.square_sums[p]) for p in range(g.pipelines)]
        m.d.comb += [sampler.row[c].eq(columns.row[c]) for c in range(g.columns)]

        m.d.comb += [
            seq.start.eq(self.start & ~self.busy),
            seq.token.eq(self.token),
            seq.session_base.eq(self.session_base),
            sampler.start.eq(seq.done & self.emit),
            *(
                getattr(sampler, name).eq(getattr(self, name))
                for name in ("greedy", "inv_m", "inv_s", "top_k", "rng_in")
            ),
            self.next_token.eq(sampler.next_token),
            self.rng_out.eq(sampler.rng_out),
            self.done.eq((seq.done & ~self.emit) | sampler.done),
        ]
        with m.If(self.start & ~self.busy):
            m.d.sync += [self.busy.eq(1), self.cycles.eq(0)]
        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        with m.If(self.done):
            m.d.sync += self.busy.eq(0)

        reading = Signal(ColumnArray.READ_LATENCY)
        m.d.sync += reading.eq(Cat(self.rd_en & ~self.busy, reading[:-1]))
        block, address = Signal.like(self.rd_block), Signal.like(columns.rd_addr)
        with m.If(self.rd_en):
            m.d.sync += [block.eq(self.rd_block), address.eq(self.rd_addr)]
        m.d.comb += [columns.rd_en.eq(~self.busy), columns.rd_block.eq(block), columns.rd_addr.eq(address)]
        m.d.comb += self.rd_data.eq(columns.rd_data)
        m.d.sync += self.rd_valid.eq(reading[-1])
        return m
