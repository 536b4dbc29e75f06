"""The wide unit whole: instructions in, activations out, sums of matrices in, logits out."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.rescale import RescaleUnit
from ternac.hdl.wide.sequencer import INSTRUCTION_BITS, WideSequencer
from ternac.hdl.wide.vector import VectorUnit

__all__ = ["WideCore"]

MATRICES = 8
"""Matrices whose products may not have ended."""
_LOGITS = 16
_LOGITS_SPARE = 4
"""Sums that may be in the rescale unit when the logits' FIFO is found full."""


class WideCore(wiring.Component):
    """Sequencer, lanes with their memory, digit recurrences and rescale unit: all but the products.

    Its model is `WideMachine`: the same logits, vectors and cycles.

    :param lanes: elements a cycle.
    :param depth: words of vector memory; ``code_depth``: instructions.
    :param slots: curves that are held.
    :param digits: of the rescale unit, a cycle.

    Members
    -------
    code_en : In(1)
        Write an instruction, while ``idle``.
    code_addr : In(range(code_depth))
        Where.
    code_data : In(INSTRUCTION_BITS)
        The instruction.
    start : In(1)
        Pulse, while ``idle``: run a token.
    idle : Out(1)
        No token runs.
    done : Out(1)
        Pulse: the last logit and all state are there.
    constants : In(stream.Signature(word_layout))
        Gains and points of curves, in the order in which they are taken.
    row : In(stream.Signature(word_layout))
        The token's row of the embedding.
    x_valid : Out(1)
        Pulse: a word of activations.
    x_addr : Out(range(depth))
        Its address.
    x_data : Out(8 * lanes)
        The activations.
    x_last : Out(1)
        It is its vector's last, or a strip's.
    begin : Out(1)
        Pulse: the activations of the next matrix have been given out.
    sums : In(stream.Signature(sum_layout))
        The sums of each matrix, ``last`` with its last row.
    logits : Out(stream.Signature(logit_layout))
        ``y`` of each row, ``last`` with the last one.
    wr_en, wr : In
        While ``idle``, write a word of vector memory, as `VectorUnit`.
    peek : In(range(depth))
        While ``idle``, the address of a word of vector memory.
    peeked : Out(word_layout)
        The word, BlockRam.LATENCY cycles later.
    """

    def __init__(
        self,
        lanes: int,
        depth: int,
        *,
        code_depth: int = 2048,
        slots: int = 2,
        digits: int = 2,
        tech: Technology = Technology.PORTABLE,
    ) -> None:
        self.lanes, self.depth, self.code_depth, self.tech = lanes, depth, code_depth, tech
        self.vector = VectorUnit(lanes, depth, slots=slots, tech=tech)
        self.rescale = RescaleUnit(digits=digits)
        self.sequencer = WideSequencer(self.vector, code_depth)
        self.word_layout = self.vector.word_layout
        self.sum_layout = self.rescale.sum_layout
        self.logit_layout = data.StructLayout({"y": signed(16), "last": 1})
        super().__init__({
            "code_en": In(1), "code_addr": In(range(code_depth)), "code_data": In(INSTRUCTION_BITS),
            "start": In(1), "idle": Out(1), "done": Out(1),
            "constants": In(stream.Signature(self.word_layout)),
            "row": In(stream.Signature(self.word_layout)),
            "x_valid": Out(1), "x_addr": Out(range(depth)), "x_data": Out(8 * lanes), "x_last": Out(1),
            "begin": Out(1),
            "sums": In(stream.Signature(self.sum_layout)),
            "logits": Out(stream.Signature(self.logit_layout)),
            "wr_en": In(1), "wr": In(self.vector.write_layout),
            "peek": In(range(depth)), "peeked": Out(self.word_layout),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.vector = vector = self.vector
        m.submodules.sequencer = sequencer = self.sequencer
        m.submodules.inverse = inverse = InverseUnit()
        m.submodules.rescale = self.rescale
        m.submodules.code = code = BlockRam(INSTRUCTION_BITS, self.code_depth, tech=self.tech, memory="code")
        wiring.connect(m, sequencer.issue, vector.issue)
        wiring.connect(m, sequencer.gains, vector.gains)
        wiring.connect(m, wiring.flipped(self.constants), sequencer.constants)
        wiring.connect(m, wiring.flipped(self.row), sequencer.row)
        names = ("reading", "squared", "peaked", "ss", "peak", "x_last")
        m.d.comb += [getattr(sequencer, name).eq(getattr(vector, name)) for name in names]
        points = ("curve_en", "curve_slot", "curve_point", "curve_data")
        m.d.comb += [getattr(vector, name).eq(getattr(sequencer, name)) for name in points]
        m.d.comb += [
            inverse.start.eq(sequencer.inverse_start), inverse.root.eq(sequencer.inverse_root),
            inverse.v.eq(sequencer.inverse_v),
            sequencer.inverse_done.eq(inverse.done), sequencer.inverse_r.eq(inverse.r),
            code.rd_addr.eq(sequencer.code_addr), sequencer.code_data.eq(code.rd_data),
            code.wr_en.eq(self.code_en), code.wr_addr.eq(self.code_addr), code.wr_data.eq(self.code_data),
            sequencer.start.eq(self.start), self.idle.eq(sequencer.idle), self.done.eq(sequencer.done),
            self.x_valid.eq(vector.x_valid), self.x_addr.eq(vector.x_addr), self.x_data.eq(vector.x_data),
            self.x_last.eq(vector.x_last), self.begin.eq(sequencer.begin),
            vector.peek.eq(self.peek), self.peeked.eq(vector.peeked),
        ]  # fmt: skip
        self._results(m)
        return m

    def _results(self, m: Module) -> None:
        """Factors to the rescale unit; its results, word by word, to vector memory, or out as logits."""
        sequencer, rescale, vector = self.sequencer, self.rescale, self.vector
        layout = sequencer.factor_layout
        m.submodules.factors = factors = SyncFIFO(width=layout.size, depth=MATRICES)
        m.submodules.places = places = SyncFIFO(width=layout["out"].width + 1, depth=MATRICES)
        m.submodules.logits = logits = SyncFIFO(width=self.logit_layout.size, depth=_LOGITS)
        both = factors.w_rdy & places.w_rdy
        head = data.View(layout, factors.r_data)
        out, is_logits = places.r_data[:-1], places.r_data[-1]
        room = Signal(name="room")  # for the logits of all sums that the unit has taken
        m.d.sync += room.eq(logits.w_level <= _LOGITS - _LOGITS_SPARE)
        open_ = room | ~head.logits
        m.d.comb += [
            sequencer.factors.ready.eq(both),
            factors.w_data.eq(sequencer.factors.payload), factors.w_en.eq(sequencer.factors.valid & both),
            places.w_data.eq(Cat(sequencer.factors.payload.out, sequencer.factors.payload.logits)),
            places.w_en.eq(factors.w_en),
            rescale.factors.valid.eq(factors.r_rdy), factors.r_en.eq(rescale.factors.ready),
            rescale.factors.payload.factor.eq(head.factor), rescale.factors.payload.shift.eq(head.shift),
            rescale.sums.payload.eq(self.sums.payload),
            rescale.sums.valid.eq(self.sums.valid & open_), self.sums.ready.eq(rescale.sums.ready & open_),
            places.r_en.eq(rescale.valid & rescale.last),
            logits.w_data.eq(Cat(rescale.y, rescale.last)), logits.w_en.eq(rescale.valid & is_logits),
            self.logits.payload.eq(logits.r_data), self.logits.valid.eq(logits.r_rdy),
            logits.r_en.eq(self.logits.ready),
        ]  # fmt: skip
        # A result goes to its place in the word; the word goes out a cycle after its last.
        lane = Signal(range(max(2, self.lanes)), name="lane")
        word, keep = Signal(self.word_layout, name="word"), Signal(self.lanes, name="keep")
        address, place = Signal(range(self.depth), name="address"), Signal(range(self.depth), name="place")
        full, ended, fresh = Signal(name="full"), Signal(name="ended"), Signal(name="fresh", init=1)
        at_end = (lane == self.lanes - 1) | rescale.last
        m.d.sync += [
            full.eq(rescale.valid & at_end & ~is_logits),
            ended.eq(rescale.valid & rescale.last),
        ]
        with m.If(rescale.valid):
            m.d.sync += [
                lane.eq(Mux(at_end, 0, lane + 1)),
                keep.eq(Mux(lane == 0, 1, keep << 1 | 1)),
                fresh.eq(rescale.last),
                address.eq(Mux(fresh, out, place)),
                place.eq(Mux(fresh, out, place) + at_end),
            ]
            with m.Switch(lane):
                for i in range(self.lanes):
                    with m.Case(i):
                        m.d.sync += word[i].eq(rescale.y)
        own: Value = sequencer.wr_en
        m.d.comb += [
            vector.wr_en.eq(full | own | self.wr_en),
            vector.wr.address.eq(Mux(full, address, sequencer.wr_addr)),
            vector.wr.keep.eq(Mux(full, keep, (1 << self.lanes) - 1)),
            vector.wr.data.eq(Mux(full, word, sequencer.wr_data)),
        ]
        with m.If(self.wr_en):
            m.d.comb += vector.wr.eq(self.wr)
        # The sequencer counts a cycle later, and an issue reads in the cycle after it is taken.
        landed = delay(m, Cat(full, ended), vector.latency - 2, name="landed")
        m.d.comb += [sequencer.landed.eq(landed[0]), sequencer.ended.eq(landed[1])]
