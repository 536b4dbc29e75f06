"""Runs the wide unit's instructions: fetch, strips, and what each has to wait for."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ternac.compile.wide_code import FIELDS, Kind
from ternac.hdl.cells.memory import BlockRam, read_port, write_port
from ternac.hdl.wide.inverse import INVERSE_RESULT_BITS
from ternac.hdl.wide.reduce import SUM_BITS
from ternac.hdl.wide.rescale import MULTIPLIER_BITS
from ternac.hdl.wide.rounding import SHIFT_BITS
from ternac.hdl.wide.vector import VectorUnit

__all__ = ["INSTRUCTION_BITS", "PEAK_BITS", "WideSequencer"]

INSTRUCTION_BITS = sum(FIELDS.values())
PEAK_BITS = 15
_IN_FLIGHT = 4
"""Sums, or peaks, that may be on their way: issues begin `VectorUnit.latency` cycles apart."""


class WideSequencer(wiring.Component):
    """One instruction after the other; an instruction ends when the next may begin (docs/wide.md).

    It holds the registers of peaks and the newest sum of squares. Nothing is decided from data: the
    same code takes the same cycles for every token.

    :param vector: the unit that it gives issues to.
    :param code_depth: instructions that the memory holds.

    Members
    -------
    start : In(1)
        Pulse, while ``idle``: run the code from its begin.
    idle : Out(1)
        No token runs.
    done : Out(1)
        Pulse: the token's last result is there.
    code_addr : Out(range(code_depth))
        Address of an instruction.
    code_data : In(INSTRUCTION_BITS)
        The instruction, BlockRam.LATENCY cycles later.
    issue, gains, reading, squared, peaked, ss, peak, x_last, curve_*
        As members of `VectorUnit`, from the other side.
    wr_en, wr_addr, wr_data : Out
        A word of the row for vector memory.
    inverse_start, inverse_root, inverse_v, inverse_done, inverse_r
        As members of `InverseUnit`, from the other side.
    constants : In(stream.Signature(word_layout))
        Gains and points of curves, in the order in which they are taken.
    row : In(stream.Signature(word_layout))
        The token's row of the embedding.
    begin : Out(1)
        Pulse: the activations of the next matrix are there.
    factors : Out(stream.Signature(factor_layout))
        ``factor`` and ``shift`` of a matrix's sums, ``out``, where they go, or ``logits``.
    landed : In(1)
        Pulse: a word of a matrix's results can be read.
    ended : In(1)
        Pulse: it was the matrix's last.
    """

    def __init__(self, vector: VectorUnit, code_depth: int) -> None:
        self.lanes, self.drain = vector.lanes, vector.latency
        word = vector.word_layout
        self.factor_layout = data.StructLayout(
            {"factor": MULTIPLIER_BITS, "shift": SHIFT_BITS, "out": range(vector.depth), "logits": 1}
        )
        members = vector.signature.members
        curve = {name: members[name].flip() for name in members if name.startswith("curve_")}
        found = ("squared", "peaked", "ss", "peak", "x_last", "reading")
        super().__init__({
            "start": In(1), "idle": Out(1), "done": Out(1),
            "code_addr": Out(range(code_depth)), "code_data": In(INSTRUCTION_BITS),
            "issue": Out(stream.Signature(vector.issue_layout)),
            "gains": Out(stream.Signature(word)),
            **{name: members[name].flip() for name in found}, **curve,
            "wr_en": Out(1), "wr_addr": Out(range(vector.depth)), "wr_data": Out(word),
            "inverse_start": Out(1), "inverse_root": Out(1), "inverse_v": Out(SUM_BITS),
            "inverse_done": In(1), "inverse_r": In(INVERSE_RESULT_BITS),
            "constants": In(stream.Signature(word)),
            "row": In(stream.Signature(word)),
            "begin": Out(1),
            "factors": Out(stream.Signature(self.factor_layout)),
            "landed": In(1), "ended": In(1),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        layout = data.StructLayout(dict(FIELDS))
        coming, now = data.View(layout, self.code_data), Signal(layout, name="now")
        age = Signal(range(BlockRam.LATENCY + 1), name="age")
        take = Signal(name="take")
        self.point = Signal(FIELDS["words"], name="point")
        with m.If(age < BlockRam.LATENCY):
            m.d.sync += age.eq(age + 1)
        offset = self._strips(m, coming, now, take, age)
        self._scoreboard(m, now, offset)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [self.code_addr.eq(0), age.eq(0)]
                with m.If(self.start):
                    m.next = "DECODE"
            with m.State("DECODE"):
                with m.If(age == BlockRam.LATENCY):
                    m.d.comb += take.eq(1)
                    m.d.sync += self.point.eq(0)
                    with m.Switch(coming.kind):
                        for kind in Kind:
                            with m.Case(kind):
                                m.next = kind.name
            with m.State("ISSUE"):
                m.d.comb += self.issue.valid.eq(self.can_issue)
                with m.If(self.issue.valid & self.issue.ready):
                    m.next = "DECODE"
            with m.State("INVERSE"):
                m.d.comb += self.inverse_start.eq(self.reduced)
                with m.If(self.reduced):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                with m.If(self.inverse_done):
                    m.next = "DECODE"
            with m.State("MATRIX"):
                m.d.comb += self.begin.eq(self.written)
                with m.If(self.written):
                    m.next = "SCALE"
            self._matrix_states(m, now)
            self._word_states(m, now)
            with m.State("END"):
                with m.If((self.begun == self.ends) & self.reduced & self.written):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
        return m

    def _strips(self, m: Module, coming: Any, now: Any, take: Signal, age: Signal) -> Signal:
        """Address of the next instruction: the group's first again, as long as there are strips.

        Returns the offset, in words, of the strip that the current issue runs on.
        """
        following = Signal(FIELDS["words"], name="following")  # offset of the next instruction's strip
        offset, count = Signal.like(following, name="offset"), Signal.like(following, name="count")
        group = Signal.like(self.code_addr, name="group")
        rest, more, issue = Signal.like(following, name="rest"), Signal(name="more"), Signal(name="issue_")
        m.d.comb += [
            rest.eq(coming.words - following),
            more.eq(coming.strip.any() & (rest >= coming.strip)),
            issue.eq(coming.kind == Kind.ISSUE),
        ]
        self.tail = Signal.like(now.tail, name="tail")
        self.count, self.first = count, Signal(name="first")
        with m.If(take):
            m.d.sync += [
                now.eq(coming), age.eq(0), offset.eq(following), self.first.eq(~following.any()),
                count.eq(Mux(more, coming.strip - 1, rest)),
                self.tail.eq(Mux(more, self.lanes - 1, coming.tail)),
                self.code_addr.eq(self.code_addr + 1),
            ]  # fmt: skip
            with m.If(~issue):
                m.d.sync += [group.eq(self.code_addr + 1), following.eq(0)]
            with m.Elif(coming.last & more):
                m.d.sync += [self.code_addr.eq(group), following.eq(following + coming.strip)]
            with m.Elif(coming.last):
                m.d.sync += [group.eq(self.code_addr + 1), following.eq(0)]
        with m.If(self.start):
            m.d.sync += [group.eq(0), following.eq(0)]
        return offset

    def _scoreboard(self, m: Module, now: Any, offset: Signal) -> None:
        """What has come of matrices, sums and peaks; the issue, and whether it may begin."""
        number = FIELDS["wait"]
        self.begun, self.ends = Signal(number, name="begun"), Signal(number, name="ends")
        words, narrow = Signal(FIELDS["words"] + 1, name="landed_words"), Signal(2, name="narrow")
        m.d.sync += self.ends.eq(self.ends + self.ended)
        with m.If(self.landed | self.ended):
            m.d.sync += words.eq(Mux(self.ended, 0, words + 1))
        with m.If(self.start):
            m.d.sync += [self.begun.eq(0), self.ends.eq(0), words.eq(0)]
        issued = self.issue.valid & self.issue.ready
        m.d.sync += narrow.eq(narrow + (issued & now.narrow) - self.x_last)
        # Sums and peaks come in the order of their issues; the first strip's replaces what was there.
        m.submodules.sums = sums = SyncFIFO(width=1, depth=_IN_FLIGHT)
        m.submodules.peaks = peaks = SyncFIFO(width=2 + FIELDS["register"], depth=_IN_FLIGHT)
        m.submodules.registers = registers = Memory(shape=PEAK_BITS, depth=1 << FIELDS["register"], init=[])
        own = read_port(registers, domain="comb", name="own")
        before, after = read_port(registers, domain="comb", name="before"), write_port(registers)
        total = Signal(SUM_BITS, name="total")
        with m.If(self.squared):
            m.d.sync += total.eq(Mux(sums.r_data, 0, total) + self.ss)
        first, kept, register = peaks.r_data[0], peaks.r_data[1], peaks.r_data[2:]
        m.d.comb += [
            sums.w_data.eq(self.first), sums.w_en.eq(issued & now.squares), sums.r_en.eq(self.squared),
            peaks.w_data.eq(Cat(self.first, now.kept, now.register)),
            peaks.w_en.eq(issued & ~now.squares), peaks.r_en.eq(self.peaked),
            before.addr.eq(register), after.addr.eq(register),
            after.en.eq(self.peaked & kept & (first | (self.peak > before.data))), after.data.eq(self.peak),
            own.addr.eq(now.register),
            self.inverse_root.eq(now.root), self.inverse_v.eq(Mux(now.root, total, own.data)),
        ]  # fmt: skip
        self.register = own.data
        self.reduced, self.written = Signal(name="reduced"), Signal(name="written")
        self.can_issue = Signal(name="can_issue")
        came = (self.ends >= now.wait) | ((self.ends + 1 == now.wait) & (words > offset + self.count))
        m.d.comb += [
            self.reduced.eq(~sums.r_rdy & ~peaks.r_rdy),
            self.written.eq(narrow == 0),
            self.can_issue.eq(came & sums.w_rdy & peaks.w_rdy),
        ]
        self._payload(m, now, offset)

    def _payload(self, m: Module, now: Any, offset: Signal) -> None:
        """The issue on one strip."""
        payload = self.issue.payload
        m.d.comb += [
            getattr(payload, name).eq(getattr(now, name) + offset) for name in ("a", "b", "c", "out")
        ]
        same = ("factor", "shift", "slot", "add", "narrow", "store", "squares")
        m.d.comb += [getattr(payload, name).eq(getattr(now, name)) for name in same]
        m.d.comb += [
            payload.words.eq(self.count), payload.tail.eq(self.tail),
            payload.value.eq(Mux(now.inverse, self.inverse_r, now.value)),
            payload.eps.eq(Mux(self.first, now.value, 0)),
        ]  # fmt: skip

    def _matrix_states(self, m: Module, now: Any) -> None:
        """A matrix's factor, times a peak bit by bit: the first sums are on their way for longer."""
        factor = Signal(MULTIPLIER_BITS, name="factor")
        left, bits = Signal(MULTIPLIER_BITS, name="left"), Signal(PEAK_BITS, name="bits")
        step = Signal(range(PEAK_BITS), name="step")
        m.d.comb += [
            self.factors.payload.factor.eq(factor), self.factors.payload.shift.eq(now.shift),
            self.factors.payload.out.eq(now.out), self.factors.payload.logits.eq(now.logits),
        ]  # fmt: skip
        with m.State("SCALE"):
            m.d.sync += [
                left.eq(now.value), bits.eq(self.register), step.eq(PEAK_BITS - 1),
                factor.eq(Mux(now.kept, 0, now.value)),
            ]  # fmt: skip
            with m.If(~now.kept):
                m.next = "FACTOR"
            with m.Elif(self.reduced):
                m.next = "MULTIPLY"
        with m.State("MULTIPLY"):
            m.d.sync += [
                factor.eq(factor + Mux(bits[0], left, 0)),
                left.eq(left << 1), bits.eq(bits >> 1), step.eq(step - 1),
            ]  # fmt: skip
            with m.If(step == 0):
                m.next = "FACTOR"
        with m.State("FACTOR"):
            m.d.comb += self.factors.valid.eq(1)
            with m.If(self.factors.ready):
                m.d.sync += self.begun.eq(self.begun + 1)
                m.next = "DECODE"

    def _word_states(self, m: Module, now: Any) -> None:
        """Words that come from memory: a row of the embedding, points of a curve, gains for an issue."""
        lane = Signal(range(max(2, self.lanes)), name="lane")
        drain = Signal(range(self.drain), name="drain")
        at_end = self.point == now.words
        curve = Signal(name="curve")
        m.d.comb += [
            self.gains.payload.eq(self.constants.payload),
            self.gains.valid.eq(self.constants.valid & ~curve),
            self.constants.ready.eq(
                Mux(curve, (lane == self.lanes - 1) | at_end, self.gains.ready)
            ),
            self.curve_en.eq(curve & self.constants.valid), self.curve_slot.eq(now.slot),
            self.curve_point.eq(self.point),
            self.curve_data.eq(Array(self.constants.payload[i] for i in range(self.lanes))[lane]),
            self.wr_addr.eq(now.out + self.point),
            self.wr_data.eq(self.row.payload), self.wr_en.eq(self.row.valid & self.row.ready),
        ]  # fmt: skip
        with m.State("ROW"):
            m.d.comb += self.row.ready.eq(1)
            m.d.sync += drain.eq(self.drain - 1)
            with m.If(self.row.valid):
                m.d.sync += self.point.eq(self.point + 1)
                with m.If(at_end):
                    m.next = "DRAIN"
        with m.State("DRAIN"):
            m.d.sync += drain.eq(drain - 1)
            with m.If(drain == 0):
                m.next = "DECODE"
        with m.State("CURVE"):
            m.d.sync += lane.eq(0)
            with m.If(~self.reading):
                m.next = "POINTS"
        with m.State("POINTS"):
            m.d.comb += curve.eq(1)
            with m.If(self.constants.valid):
                m.d.sync += [self.point.eq(self.point + 1), lane.eq(lane + 1)]
                with m.If(lane == self.lanes - 1):
                    m.d.sync += lane.eq(0)
                with m.If(at_end):
                    m.next = "DECODE"
