"""Start and end of each pass: the engine's cycle count without simulation, equal to the RTL's.

A recurrence over the passes in the order in which they are issued, of one context or of several that take
turns. Cycle 0 is that of the ``start`` pulse; "seen" is the first cycle in which a register shows a change.
Where weights stream it is a lower bound: as if there were always a word of them, and no less than the cycles
in which they all come through the memory's port.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ternac.compile.image import Image
from ternac.compile.isa import WORDS, Instruction, Lane, Opcode, Source
from ternac.compile.moves import is_move, waits_for_rows
from ternac.compile.row_store import BURST, MoveTime
from ternac.hdl.array.dot import array_latency
from ternac.hdl.engine.contexts import DONE_GAP, ISSUE_AHEAD
from ternac.hdl.engine.fetch import FETCH
from ternac.hdl.engine.norm import norm_latency
from ternac.hdl.engine.pass_control import RESULT_OFFSET
from ternac.hdl.engine.ports import BACK_TO_BACK, MOVE_AHEAD, PACE, STREAM_GAP, pass_slots, row_late
from ternac.hdl.engine.sampler import sampler_latency
from ternac.hdl.engine.side_lane import x_ready
from ternac.hdl.link.batch import BATCH_STAGGER
from ternac.hdl.link.ports import turnaround


@dataclass(frozen=True)
class PassTime:
    """One instruction: name, cycle of its start, cycles until the next starts, dot words issued."""

    name: str
    start: int
    cycles: int
    dot_words: int


@dataclass(frozen=True)
class Schedule:
    """All passes of one token, as if no weight were ever waited for; those of a loop as often as they run."""

    passes: tuple[PassTime, ...]
    unstalled: int
    """The value of the engine's ``cycles`` port at ``done``, if so."""
    stream: int = 0
    """Cycles in which the port of a memory that streams gives all weights, a word a cycle."""

    @property
    def exact(self) -> bool:
        """Return whether the engine counts exactly ``cycles``, or (streamed weights) at least as many."""
        return not self.stream

    @property
    def cycles(self) -> int:
        """The least value of the engine's ``cycles`` port at ``done``."""
        return max(self.unstalled, self.stream)

    @property
    def dot_words(self) -> int:
        """Cycles in which the dot units take a word of weights."""
        return sum(p.dot_words for p in self.passes)


@dataclass
class _Timeline:
    """The state on which the sequencer decides when an instruction starts."""

    image: Image
    issued: int = 0  # last dot word
    taken: int = 0
    finished: list[int] = field(default_factory=list)  # last element of each pass
    retired: list[int] = field(default_factory=list)  # each pass is seen to have been written
    rows_until: int = 0  # no pass uses rows or reads the list
    winners_until: int = 0  # no pass looks for winners
    bank_until: int = 0  # a dot pass may begin no earlier: a bank pass is still issuing
    settled: int = 0  # the norm unit of a statistics pass is done
    rows: int = 0  # the last row of logits reaches the sampler
    written: dict[int, int] = field(default_factory=dict)  # by context: all its passes have been written
    norm: tuple[int, int, int] = (0, 0, 0)  # taken, finished and slots of the last NORM in the side lane
    streams: list[tuple[int, int, int]] = field(default_factory=list)  # claimed, streaming from, slots
    mover: MoveTime = field(default_factory=MoveTime)
    moved: dict[int, int] = field(default_factory=dict)  # by context: all its moves have ended

    def __post_init__(self) -> None:
        g = self.image.geometry
        self.delay = array_latency(g)
        self.slots = pass_slots(g)
        self.mover.restart(0)

    def free_place(self) -> int:
        """First cycle in which the next pass's place in `passes` is seen free."""
        before = len(self.retired) - self.slots
        return self.retired[before] - 1 if before >= 0 else 0

    def lane(self, inst: Instruction, at: int) -> int:
        """First cycle from ``at`` in which the side lane lets ``inst`` start."""
        g = self.image.geometry
        if not g.lane_depth or not inst.to_x:
            return at
        taken, finished, slots = self.norm
        idle = finished + slots + STREAM_GAP if slots else 0
        if inst.lane != Lane.NORM:
            spare = self.delay if _row_by_row(inst) else 0
            return max(at, finished + 1, idle - spare) if slots else at
        if not (inst.count >= slots and inst.count >= BACK_TO_BACK):
            at = max(at, idle)
        while True:
            free = g.lane_depth
            for claimed, first, count in self.streams:
                free -= count if claimed < at else 0
                free += min(max(at - 2 - first, 0), count)
            if free >= inst.count:
                return at
            at += 1

    def issue(self, inst: Instruction, context: int, have: int) -> int:
        """Start ``inst``, complete at ``have``; returns its start. HALT and LOOP only start."""
        g = self.image.geometry
        written = self.written.get(context, 0)
        start = have
        if inst.op == Opcode.LOOP:
            return max(start, self.moved.get(context, 0))
        if is_move(inst):
            return self.move(inst, context, start)
        if inst.op not in (Opcode.VEC, Opcode.MEM):
            return max(start, written, self.settled, self.moved.get(context, 0))
        uses_rows = waits_for_rows(inst)
        if uses_rows:
            start = max(start, self.rows_until)
        if inst.to_list:
            start = max(start, self.winners_until)
        if inst.barrier:
            start = max(start, written)
        start = max(start, self.issued + 1)
        last = self.finished[-1] if self.finished else 0
        if _row_by_row(inst):
            start = self.lane(inst, max(start, self.bank_until, self.taken + 1))
            self.issued = start + inst.count * inst.words
            self.taken = max(start + 1, last)
            finished = self.issued + self.delay + g.share - 1
            self.bank_until = 0
        else:
            if inst.source == Source.BANK and self.finished:  # its port is free
                start = max(start, *self.retired[-self.slots :])
            start = self.lane(inst, max(start, last + 1 if self.finished else 0, self.settled))
            self.taken = start
            pace = max(PACE if inst.paced else 1, inst.words if inst.to_rows else 1)
            finished = start + inst.count * g.share * pace
            near = (self.delay - 2) // g.share
            self.bank_until = finished + 1 if pace > 1 else start + 1 + g.share * max(inst.count - near, 0)
        self.finished.append(finished)
        done = finished + RESULT_OFFSET + row_late(g, inst)
        self.retired.append(done)
        if uses_rows:
            self.rows_until = done
        if inst.arg:
            self.winners_until = done
        if inst.to_logits:
            self.rows = done + g.row_register
        if inst.stat:
            self.settled = done + norm_latency(g.pipelines)
        if inst.to_x and g.lane_depth:
            if inst.lane == Lane.NORM:
                self.norm = (start, finished, inst.count)
                self.streams.append((start, done + STREAM_GAP, inst.count))
                self.streams = self.streams[-8:]
                done += STREAM_GAP + inst.count - 1
            done += x_ready(g)
        self.written[context] = max(written, done)
        return start

    def move(self, inst: Instruction, context: int, have: int) -> int:
        """Start a move of rows, which runs beside passes that do without; returns its start."""
        start = max(have, self.rows_until, self.written.get(context, 0) if inst.barrier else 0)
        out = bool(inst.to_rows)
        done = self.mover.move(start + MOVE_AHEAD, inst.words, BURST << inst.table, out=out)
        self.rows_until = self.moved[context] = done
        return start


def _have(inst: Instruction, fetch: int) -> int:
    return fetch + max(FETCH, 5 + inst.stride)


def _sampling(image: Image, *, greedy: bool, top_k: int) -> int:
    g = image.geometry
    return sampler_latency(g.columns, g.sampler_pace, image.logits.length, greedy=greedy, top_k=top_k)


def schedule(image: Image, *, emit: bool = True, greedy: bool = True, top_k: int = 0) -> Schedule:
    """Cycle-exact schedule of one token of ``image`` alone (`emit`: a token is sampled at the end)."""
    time = _Timeline(image)
    order: list[int] = []
    starts: list[int] = []
    fetch = 1  # first cycle of the instruction's fetch
    runs, at = 0, 0
    while at < len(image.instructions):
        inst = image.instructions[at]
        start = time.issue(inst, 0, _have(inst, fetch))
        order.append(at)
        starts.append(start)
        fetch = max(start + 1, time.free_place())
        at, runs = _after(inst, at, runs)
    ends = [*starts[1:], starts[-1]]
    passes = tuple(
        PassTime(image.names[k], s, e - s, _dot_words(image.instructions[k]))
        for k, s, e in zip(order, starts, ends, strict=True)
    )
    done = starts[-1] + 2
    if emit:
        done = max(done, time.rows + _sampling(image, greedy=greedy, top_k=top_k) + 3)
    return Schedule(passes, done - 1, _stream_cycles(image))


def _row_by_row(inst: Instruction) -> bool:
    """Return whether results come with rows of a matrix, or with sums of rows of a memory."""
    return inst.source == Source.DOT or (inst.op == Opcode.MEM and inst.source == Source.ROWS)


def _after(inst: Instruction, at: int, runs: int) -> tuple[int, int]:
    """Return which instruction follows that at ``at``, and how often the body of a LOOP around it has run."""
    if inst.op != Opcode.LOOP:
        return at + 1, runs
    return (inst.a // WORDS, runs + 1) if runs + 1 < inst.count else (at + 1, 0)


def _dot_words(inst: Instruction) -> int:
    return inst.count * inst.words if inst.op == Opcode.VEC and inst.source == Source.DOT else 0


def _stream_cycles(image: Image) -> int:
    g = image.geometry
    return g.stream_words * sum(map(_dot_words, image.instructions)) if g.streams else 0


def interleaved(
    image: Image, contexts: int, tokens: int, *, stagger: int, turnaround: int = 0, release: int = 0
) -> int:
    """Cycles in which ``contexts`` sessions, started ``stagger`` cycles apart, choose ``tokens`` tokens each,
    by argmax.

    Each is started again ``turnaround`` cycles after the cycle in which its token is chosen (see
    `batch_cycles`), and none is done before cycle ``release``; counted is what the engine's ``cycles`` port
    reads at the end (at least that, where weights stream).
    """
    time = _Timeline(image)
    runs = {k: k * stagger + 1 for k in range(contexts)}  # seen running from
    at = dict.fromkeys(runs, 0)
    loops = dict.fromkeys(runs, 0)
    left = dict.fromkeys(runs, tokens)
    sampled = dict.fromkeys(runs, 0)
    sampling = _sampling(image, greedy=True, top_k=0)
    hold, last_done, current, fetch = 0, -DONE_GAP, 0, 1
    idle = 0  # cycles in which no context is open; they are not counted
    while runs:
        if runs.get(current, math.inf) > fetch:
            # the turn passes in the cycle in which another one is seen, and is seen in the next
            now = max(fetch, min(runs.values()))
            order = [(current + step) % contexts for step in range(contexts)]
            chosen = next(k for k in order if runs.get(k, math.inf) <= now)
            fetch = now if chosen == current else now + 1
            current = chosen
        inst = image.instructions[at[current]]
        have = _have(inst, fetch)
        if inst.op != Opcode.HALT:
            start = time.issue(inst, current, max(have, hold) if inst.to_logits else have)
            if inst.to_logits:
                sampled[current] = time.rows + 2 + sampling
                hold = time.issued + ISSUE_AHEAD + 1
            at[current], loops[current] = _after(inst, at[current], loops[current])
            fetch = max(start + 1, time.free_place())
            if inst.switch:
                current = _next(current, contexts, runs, start)
            continue
        start = time.issue(inst, current, have)
        gap = DONE_GAP if image.geometry.contexts > 1 else 1
        last_done = max(start + 2, sampled[current] + 1, last_done + gap, release)
        del runs[current]
        left[current] -= 1
        at[current] = 0
        if left[current]:
            runs[current] = last_done + 1 + turnaround
        again = min(runs.values(), default=0)
        if again > last_done + 1:
            idle += again - last_done
            time.mover.restart(again - 1)
        current, fetch = _next(current, contexts, runs, start), max(start + 1, time.free_place())
    return max(last_done - 1 - idle, tokens * _stream_cycles(image))


def batch_cycles(image: Image, sessions: int, tokens: int) -> int:
    """Cycles of a BATCH of ``sessions`` sessions and ``tokens`` tokens each by argmax, link included."""
    after = turnaround(image.geometry)
    started = (sessions - 1) * BATCH_STAGGER + 1
    return interleaved(image, sessions, tokens, stagger=BATCH_STAGGER, turnaround=after, release=started)


def _next(current: int, contexts: int, runs: dict[int, int], now: int) -> int:
    """Whose turn it is after ``current``, as decided in cycle ``now``."""
    order = [(current + step) % contexts for step in range(1, contexts + 1)]
    return next((k for k in order if runs.get(k, math.inf) <= now), current)
