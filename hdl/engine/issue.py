"""Issuing units of the sequencer: words of a matrix pass, elements of any pass, and the lane's arbiter."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.fetch import FETCH
from ternac.hdl.engine.pass_control import RESULT_OFFSET
from ternac.hdl.engine.ports import (
    BACK_TO_BACK,
    PACE,
    STREAM_GAP,
    count_bits,
    dot_layout,
    element_layout,
    first_address_bits,
    instruction_layout,
    pass_slots,
)
from ternac.hdl.engine.side_lane import WAITING, x_ready

__all__ = ["IN_LANE_BITS", "DotIssue", "ElementIssue", "LaneArbiter", "most_in_lane", "ticket_layout"]

IN_LANE_BITS = 3
"""Width of the number of a context's passes between their begin and their last x word."""
SHORTER = 1
"""Vectors of fewer slots among those that wait."""
JUST_ENDED = 1
"""Vectors whose stream has ended, but whose last slot is still in the lane."""
LOOK_AHEAD = 3
"""Cycles at most between the arbiter's look at the lane and the first element of the pass that it lets in."""


def most_in_lane(geometry: Geometry, *, dot_delay: int) -> int:
    """Return how many passes of a context there can be between their begin and their last x word, at most.

    A pass that waits for no norm leaves the lane before its place is taken again. So what has no place any
    more are vectors that wait or stream, and one whose stream has just ended.

    Vectors that wait together have room together; at most one of them is shorter than `BACK_TO_BACK`. Other
    passes begin only if the last stream ends before they come, and a fetch apart: with each one more, less
    is left to stream.
    """
    waiting, most = _vectors(geometry.lane_depth), 0
    left = dot_delay + RESULT_OFFSET + LOOK_AHEAD  # slots to stream when the first of the others begins
    for others in range(pass_slots(geometry) + 1):
        vectors = waiting if not others else min(waiting, _vectors(left - FETCH * (others - 1)))
        most = max(most, others + vectors + SHORTER + JUST_ENDED)
    return most


def _vectors(slots: int) -> int:
    """Return how many vectors have slots left, of ``slots`` in all: each is whole but the first."""
    return 1 + (slots - 1) // BACK_TO_BACK if slots > 0 else 0


def ticket_layout(geometry: Geometry) -> data.StructLayout:
    """The part of a pass that `ElementIssue` needs."""
    return data.StructLayout(
        {
            "index": ceil_log2(pass_slots(geometry)),
            "norm": 1,
            "count": count_bits(geometry),
            "a": first_address_bits(geometry),
            "logits": 1,
            "tail": bits_for(geometry.columns),
        }
    )


class DotIssue(wiring.Component):
    """Issues the words of a matrix pass, one a cycle, row after row.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last word until its sums are there.

    Members
    -------
    begin : In(1)
        Pulse, not while ``running``: issue a pass from the next cycle on.
    next : In(instruction_layout)
        The instruction, taken with ``begin``.
    is_logits : In(1)
        Its results are logits, taken with ``begin``.
    dot_ready : In(1)
        Where weights stream: there is a word of them, taken in a cycle with ``dot.valid``.
    dot : Out(dot_layout)
        The words.
    running : Out(1)
        Words of the pass are left.
    logits_issued : Out(1)
        Pulse: the last word of a context's logits.
    row : Out(1)
        Pulse: the sums of a row are there.
    """

    def __init__(self, geometry: Geometry, *, dot_delay: int) -> None:
        g = self.geometry = geometry
        self.dot_delay = dot_delay
        super().__init__(
            {
                "begin": In(1),
                "next": In(instruction_layout(g)),
                "is_logits": In(1),
                "dot": Out(dot_layout(g)),
                "running": Out(1),
                "logits_issued": Out(1),
                "row": Out(1),
                **({"dot_ready": In(1)} if g.streams else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        given = self.next
        rows_left = Signal(given.count.shape(), name="rows_left")
        words_left = Signal(given.words.shape(), name="words_left")
        words = Signal(given.words.shape(), name="words")
        weight = Signal(given.weight.shape(), name="weight")
        word = Signal(given.x_src.shape(), name="word")
        start_word = Signal(given.x_src.shape(), name="start_word")
        first_word, is_logits = Signal(name="first_word"), Signal(name="logits")

        # A word goes out every cycle, or whenever there is a word of streamed weights.
        goes = self.running & self.dot_ready if self.geometry.streams else self.running
        m.d.comb += [
            self.dot.valid.eq(goes),
            self.dot.first.eq(first_word),
            self.dot.last.eq(words_left == 1),
            self.dot.weight.eq(weight),
            self.dot.word.eq(word),
        ]
        with m.If(goes):
            m.d.sync += [
                weight.eq(weight + 1),
                word.eq(word + 1),
                words_left.eq(words_left - 1),
                first_word.eq(0),
            ]
            # Every row reads the x buffer from the same word on.
            with m.If(self.dot.last):
                m.d.sync += [
                    word.eq(start_word),
                    words_left.eq(words),
                    rows_left.eq(rows_left - 1),
                    first_word.eq(1),
                ]
                with m.If(rows_left == 1):
                    m.d.sync += self.running.eq(0)
                    m.d.comb += self.logits_issued.eq(is_logits)
        with m.If(self.begin):
            m.d.sync += [
                self.running.eq(1),
                rows_left.eq(given.count),
                words_left.eq(given.words),
                words.eq(given.words),
                weight.eq(given.weight),
                word.eq(given.x_src),
                start_word.eq(given.x_src),
                first_word.eq(1),
                is_logits.eq(self.is_logits),
            ]

        rows = Signal(self.dot_delay, name="rows")
        m.d.sync += rows.eq(Cat(self.dot.valid & self.dot.last, rows[:-1]))
        m.d.comb += self.row.eq(rows[-1])
        return m


class ElementIssue(wiring.Component):
    """Issues the elements of one pass after the other, and keeps a matrix pass whose elements are next.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last word until its sums are there.

    Members
    -------
    ticket : In(ticket_layout)
        The pass that may begin, taken with ``queue`` or ``bank``.
    queue : In(1)
        Pulse, not while ``queued``: it is a matrix pass, whose elements follow those of the one before.
    bank : In(1)
        Pulse, while ``idle``: its elements come at once.
    paced : In(1)
        One element every `PACE` cycles, with rows every ``pace`` cycles; taken with ``bank``.
    pace : In(words)
        With rows: the cycles from one element of a paced pass to the next, taken with ``bank``.
    stat : In(1)
        It is a statistics pass, taken with ``bank``.
    row : In(1)
        Pulse: the sums of a row of the matrix pass are there.
    elem : Out(element_layout)
        The elements.
    idle : Out(1)
        No pass is left, neither issuing nor queued.
    room : Out(1)
        A matrix pass may begin now: its rows do not overtake the elements still to be issued.
    finishing : Out(1)
        Pulse: the last element of a pass.
    is_stat : Out(1)
        The pass that is issuing is a statistics pass.
    norm_ends : Out(1)
        Pulse: the last element of a pass for the side lane's norm.
    norm_open : Out(1)
        Elements of such a pass are left.
    slots : Out(count)
        Slots of the pass that is issuing.
    logits_last : Out(slot)
        The last slot of the logits' pass.
    logits_tail : Out(tail)
        The columns that it fills.
    """

    def __init__(self, geometry: Geometry, *, dot_delay: int) -> None:
        g = self.geometry = geometry
        self.dot_delay = dot_delay
        super().__init__(
            {
                "ticket": In(ticket_layout(g)),
                "queue": In(1),
                "bank": In(1),
                "paced": In(1),
                "stat": In(1),
                "row": In(1),
                "elem": Out(element_layout(g)),
                "idle": Out(1),
                "room": Out(1),
                "finishing": Out(1),
                "is_stat": Out(1),
                "norm_ends": Out(1),
                "norm_open": Out(1),
                "slots": Out(count_bits(g)),
                "logits_last": Out(ceil_log2(g.bank_depth)),
                "logits_tail": Out(bits_for(g.columns)),
                **({"pace": In(LAYOUT["words"][2])} if g.rows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        active, from_dot, paced = Signal(name="active"), Signal(name="from_dot"), Signal(name="paced_pass")
        first, is_last, norm = Signal(name="first"), Signal(name="is_last"), Signal(name="norm")
        queued, waiting = Signal(name="queued"), Signal(ticket_layout(g), name="waiting")
        phase = Signal(LAYOUT["words"][2] if g.rows else range(PACE), name="phase")
        address = Signal(first_address_bits(g), name="address")
        left = Signal(count_bits(g), name="left")
        # Rows must not overtake a bank pass that is still issuing: at most so many of its slots are left.
        near_slots = (self.dot_delay - 2) // g.share
        near = Signal(init=1, name="near")
        turn = Signal(max(1, ceil_log2(g.share)), name="turn")
        go, last_turn = Signal(name="go"), Signal(name="last_turn")

        # An element goes out: of a matrix pass with its row, of another one every cycle, or when paced.
        now = phase == PACE - 1
        if g.rows:  # an update takes a cycle for each of its heads
            last_phase = Signal.like(phase, name="last_phase", init=PACE - 1)
            now = phase == last_phase
            with m.If(self.bank):
                m.d.sync += last_phase.eq(self.pace - 1)
        m.d.comb += [
            last_turn.eq(turn == g.share - 1),
            go.eq(active & Mux(from_dot, self.row | (turn != 0), ~paced | now)),
            self.finishing.eq(go & is_last & last_turn),
            self.norm_ends.eq(self.finishing & norm),
            self.norm_open.eq((active & norm) | (queued & waiting.norm)),
            self.idle.eq(~queued & ~active),
            self.room.eq(~queued & (~active | from_dot | (near & ~paced))),
            self.elem.valid.eq(go),
            self.elem.first.eq(first),
            self.elem.last.eq(is_last),
            self.elem.a.eq(address),
            self.elem.turn.eq(turn),
        ]
        m.d.sync += phase.eq(phase + 1)
        if g.rows:
            with m.If(go):
                m.d.sync += phase.eq(0)
        with m.If(go):
            m.d.sync += [first.eq(0), turn.eq(Mux(last_turn, 0, turn + 1))]
            with m.If(last_turn):
                m.d.sync += [
                    address.eq(address + 1),
                    left.eq(left - 1),
                    is_last.eq(left == 2),
                    near.eq(left <= near_slots + 1),
                ]
        with m.If(self.finishing):
            m.d.sync += active.eq(0)

        # The next pass: the one that is queued, as soon as the one before ends, or else a bank pass.
        with m.If(self.queue):
            m.d.sync += [queued.eq(1), waiting.eq(self.ticket)]
        take = Signal(name="take")
        m.d.comb += take.eq((queued & (~active | self.finishing)) | self.bank)
        chosen = data.View(ticket_layout(g), Mux(queued, waiting.as_value(), self.ticket.as_value()))
        with m.If(take):
            m.d.sync += [
                active.eq(1),
                self.elem.index.eq(chosen.index),
                from_dot.eq(queued),
                self.is_stat.eq(self.stat & ~queued),
                norm.eq(chosen.norm),
                self.slots.eq(chosen.count),
                paced.eq(self.paced & ~queued),
                phase.eq(0),
                first.eq(1),
                turn.eq(0),
                left.eq(chosen.count),
                is_last.eq(chosen.count == 1),
                near.eq(chosen.count <= near_slots),
                address.eq(chosen.a),
            ]
            with m.If(queued):
                m.d.sync += queued.eq(0)
            with m.If(chosen.logits):
                m.d.sync += [self.logits_last.eq(chosen.count - 1), self.logits_tail.eq(chosen.tail)]
        return m


class LaneArbiter(wiring.Component):
    """Says when the next pass may use the side lane, which carries one vector at a time.

    Parameters
    ----------
    geometry : with a side lane.
    dot_delay : cycles from a row's last word until its sums are there.

    Members
    -------
    to_x : In(1)
        The next pass writes the x buffer.
    is_norm : In(1)
        Its vector waits in the lane for its norm.
    is_dot : In(1)
        It is a matrix pass.
    count : In(count)
        Its slots.
    accept : In(1)
        Pulse: it begins.
    norm_ends : In(1)
        Pulse: the last element of a NORM pass is issued.
    norm_open : In(1)
        Elements of a NORM pass are still to be issued.
    slots : In(count)
        Slots of the pass whose elements are issued.
    room : In(lane_depth)
        Slots that are free in the lane.
    claim : Out(1)
        Pulse: a NORM pass takes room in the lane.
    claim_slots : Out(count)
        How many slots it takes.
    free : Out(1)
        The next pass may use the lane in the way that it wants to.
    """

    def __init__(self, geometry: Geometry, *, dot_delay: int) -> None:
        g = self.geometry = geometry
        self.dot_delay = dot_delay
        vectors, most = _vectors(g.lane_depth), most_in_lane(g, dot_delay=dot_delay)
        if vectors > WAITING:
            raise ValueError(f"{g.lane_depth} slots of the lane hold {vectors} vectors, {WAITING} may wait")
        if x_ready(g) > FETCH + 1:
            raise ValueError(
                f"a result is {x_ready(g)} cycles in the lane, its place is free for {FETCH + 1}"
            )
        if most >= 1 << IN_LANE_BITS:
            counted = (1 << IN_LANE_BITS) - 1
            raise ValueError(
                f"{most} passes can be in the lane with a delay of {dot_delay} cycles, {counted} are counted"
            )
        super().__init__(
            {
                "to_x": In(1),
                "is_norm": In(1),
                "is_dot": In(1),
                "count": In(count_bits(g)),
                "accept": In(1),
                "norm_ends": In(1),
                "norm_open": In(1),
                "slots": In(count_bits(g)),
                "room": In(bits_for(g.lane_depth)),
                "claim": Out(1),
                "claim_slots": Out(count_bits(g)),
                "free": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Cycles until the last stream has entered the lane.
        busy_for = Signal(range(STREAM_GAP + (1 << len(self.slots))), name="busy_for")
        with m.If(busy_for.any()):
            m.d.sync += busy_for.eq(busy_for - 1)
        with m.If(self.norm_ends):
            m.d.sync += busy_for.eq(self.slots + (STREAM_GAP - 2))

        # A NORM pass claims its room when it begins.
        least = Signal(len(self.slots), name="least")
        claims = self.accept & self.to_x & self.is_norm
        m.d.sync += [self.claim.eq(claims), self.claim_slots.eq(self.count)]
        with m.If(claims):
            m.d.sync += least.eq(self.count)

        # A NORM pass may follow a shorter one at once: its stream comes after that one's. Another pass must
        # not meet a stream in the lane.
        idle = ~self.norm_open & ~busy_for.any()
        follows = (self.count >= least) & (self.count >= BACK_TO_BACK)
        norm_free = (self.count <= delay(m, self.room)) & (idle | follows)
        in_time = ~self.norm_open & (busy_for <= Mux(self.is_dot, self.dot_delay, 0))
        m.d.comb += self.free.eq(~self.to_x | Mux(self.is_norm, norm_free, in_time))
        return m
