"""The contexts of an engine: from a session's start to the end of its token."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Geometry
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.ports import context_bits
from ternac.hdl.link.ports import turnaround

__all__ = ["DONE_GAP", "ISSUE_AHEAD", "Contexts"]

ISSUE_AHEAD = 8
"""Cycles after the last word of a greedy context's logits until another one's may begin."""
DONE_GAP = 8
"""Cycles at least from one ``done`` to the next, where there are several contexts."""


class Contexts(wiring.Component):
    """Opens a context with ``start`` and closes it with ``done``, when its microcode has ended and, with
    ``emit``, a token is chosen. The sampler holds one context's logits at a time.

    Members
    -------
    start : In(1)
        Pulse, ignored while the context is open: open it. The four members below are taken with it.
    start_context : In(2)
        The context.
    again : In(1)
        Its generator stays what it was.
    emit : In(1)
        A token is chosen at the end.
    rng_in : In(32)
        The state of its generator.
    begin : Out(1)
        Pulse: a context opens.
    busy : Out(1)
        A context is open.
    hold_done : In(1)
        Of several contexts none closes.
    done : Out(1)
        Pulse: a context closes.
    done_context : Out(2)
        The context.
    next_token : Out(16)
        The token that was chosen for it.
    rng_out : Out(32)
        The state of its generator.
    clear : In(1)
        Set ``cycles`` to 0.
    cycles : Out(32)
        Clock cycles since ``clear`` in which a context was open.
    halted : In(1)
        Pulse, from the sequencer: the microcode of ``halted_context`` has ended.
    halted_context : In(context)
        The context.
    logits_start : In(1)
        Pulse, from the sequencer: the pass of a context's logits begins.
    logits_issued : In(1)
        Pulse, from the sequencer: its last word is issued.
    logits_hold : Out(1)
        A pass of logits must not begin.
    row_valid : In(1)
        Pulse: the sampler gets a row of logits.
    row_last : In(1)
        It is the last one.
    row_context : In(context)
        Its context.
    greedy : In(1)
        The argmax is chosen.
    sample : Out(1)
        Pulse, to the sampler: begin.
    sample_rng : Out(32)
        The state of the generator for it.
    sampled : In(1)
        Pulse, from the sampler: it is done.
    sampled_token : In(16)
        The token that it chose.
    sampled_rng : In(32)
        The new state of the generator.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        context = context_bits(geometry)
        super().__init__(
            {
                "start": In(1),
                "start_context": In(2),
                "again": In(1),
                "emit": In(1),
                "rng_in": In(32),
                "begin": Out(1),
                "busy": Out(1),
                "hold_done": In(1),
                "done": Out(1),
                "done_context": Out(2),
                "next_token": Out(16),
                "rng_out": Out(32),
                "clear": In(1),
                "cycles": Out(32),
                "halted": In(1),
                "halted_context": In(context),
                "logits_start": In(1),
                "logits_issued": In(1),
                "logits_hold": Out(1),
                "row_valid": In(1),
                "row_last": In(1),
                "row_context": In(context),
                "greedy": In(1),
                "sample": Out(1),
                "sample_rng": Out(32),
                "sampled": In(1),
                "sampled_token": In(16),
                "sampled_rng": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = self.geometry.contexts
        context = self.start_context[: context_bits(self.geometry)]
        opened, ends = Signal(count, name="opened"), Signal(count, name="ends")
        emits, last = Signal(count, name="emits"), Signal(name="last")
        rngs = Array([Signal(32, name=f"rng_{k}") for k in range(count)])
        tokens = Array([Signal(16, name=f"chosen_{k}") for k in range(count)])

        # Opening. Where the link takes its time, no start comes in the cycle of the done before it.
        closed = ~opened if turnaround(self.geometry) else ~(opened & ~ends)
        m.d.comb += [
            self.begin.eq(self.start & closed.bit_select(context, 1)),
            self.busy.eq(opened.any()),
            last.eq(((opened & ~ends) == 0) & ~self.begin),
        ]
        m.d.sync += opened.eq(opened & ~ends | Mux(self.begin, 1 << context, 0))
        with m.If(self.begin):
            m.d.sync += emits.bit_select(context, 1).eq(self.emit)
            with m.If(~self.again):
                m.d.sync += rngs[context].eq(self.rng_in)

        # Sampling begins after the last row of logits. The context is known since its first row.
        sampling = Signal(len(context), name="sampling")
        rows = Signal(name="rows")
        m.d.sync += rows.eq(self.row_valid & self.row_last)
        with m.If(self.row_valid):
            m.d.sync += sampling.eq(self.row_context)
        m.d.sync += self.sample.eq(rows & emits.bit_select(sampling, 1))
        m.d.comb += self.sample_rng.eq(delay(m, rngs[sampling], int(count > 1), name="sample_rng"))
        with m.If(self.sampled):
            m.d.sync += [tokens[sampling].eq(self.sampled_token), rngs[sampling].eq(self.sampled_rng)]

        # Another context's logits must wait. An argmax is known long before its rows can come.
        issued = Signal(ISSUE_AHEAD, name="issued")
        m.d.sync += issued.eq(Cat(self.logits_issued, issued[:-1]))
        drawn = self.sampled | (rows & ~emits.bit_select(sampling, 1))
        with m.If(self.logits_start):
            m.d.sync += self.logits_hold.eq(1)
        with m.Elif(Mux(self.greedy, issued[-1], drawn)):
            m.d.sync += self.logits_hold.eq(0)

        # Closing, the lowest context first; the next one a while later.
        halted, sampled = Signal(count, name="halted"), Signal(count, name="sampled")
        complete = Signal(count, name="complete")
        pause = Signal(range(DONE_GAP), name="pause")
        m.d.comb += complete.eq(halted & (sampled | ~emits))
        may_close = ~self.hold_done if count > 1 else Const(1)
        with m.If(pause.any()):
            m.d.sync += pause.eq(pause - 1)
        with m.Elif(complete.any() & may_close):
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
            halted.eq(halted & ~ends | Mux(self.halted, 1 << self.halted_context, 0)),
            sampled.eq(sampled & ~ends | Mux(self.sampled, 1 << sampling, 0)),
        ]

        # Cycles, from the one after a start to the one before the done that closes the last context.
        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        with m.Elif(self.busy & ~(self.done & last)):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        return m
