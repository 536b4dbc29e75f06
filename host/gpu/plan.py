"""Plan a program as phases, one kernel launch each: what each thread block computes, what blocks share.

A phase has three parts. ``whole``: ops on whole vectors, done again by every block that needs them (the norm
of a residual is cheaper computed than waited for). ``products``: ternary matrices of one height, each block
taking some rows of all. ``own``: ops on these rows. So the language model's layer is four phases, and no two
blocks ever add to one number: every sum is taken by one block, in integers.

With ``split`` the same program is planned for many rows (tokens of a prompt, or sessions) at a time, where
products run on tensor cores: a phase is then only ``whole``, or one product with ``own`` ops, or a *scan*:
``own`` ops between the first and last touch of a state, which go through the tokens in order.

Loops are unrolled before: a plan is for one number of runs. An op that *gathers* (GATHERS) reads elements of
vectors at places of its own, so it finds these vectors in memory, made by an earlier phase. A phase touches a
memory with one op at most, so no block reads rows that another changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ternac.program.allocate import Lifetimes
from ternac.program.legality import infer
from ternac.program.loops import RUN_MARK, MemoryPart, Step, unroll
from ternac.program.ops import (
    BYTES,
    KINDS,
    Op,
    Value,
    memory_of,
    memory_written,
    state_read,
    state_written,
)
from ternac.program.program import Program

MOVE = "MOVE"
"""Kind of an op that only plans have: a LOAD of a state that the phase itself has stored."""
GATHERS = ("WINNERS", "MASK", "MEM_READ", "MEM_UPDATE")
"""Kinds of ops that read elements of vectors, or rows, at places of their own."""
LINE = 64
"""Bytes; a place begins and ends at a multiple."""


def scalar_input(op: Op) -> int | None:
    """Index of the input that is one number for the whole vector."""
    return None if op.kind == MOVE else KINDS[op.kind].scalar


@dataclass(frozen=True)
class Unrolled:
    """What one token runs, without LOOP: each part of a state or memory has a name of its own.

    ``values``: the type of every value. ``states``: words of the session's state. ``memories``: rows in it.
    """

    ops: list[Op]
    values: dict[str, Value]
    states: dict[str, slice]
    memories: dict[str, MemoryPart]
    logits: str


def unrolled(program: Program, loops: int | None) -> Unrolled:
    """Unroll a legal program for ``loops`` runs (None: as it says). Raises IllegalProgram."""
    types = infer(program)
    found = Unrolled([], {}, {}, {}, program.logits)
    for step in unroll(program, loops):
        op = _in_parts(step, program)
        if KINDS[op.kind].result:
            found.values[op.out] = types[program.ops[step.index].out]
        state, memory = state_read(op) or state_written(op), memory_of(op)
        if state is not None and step.state is not None:
            found.states[state] = step.state
        if memory is not None and step.memory is not None:
            found.memories[memory] = step.memory
        found.ops.append(op)
    return found


def _in_parts(step: Step, program: Program) -> Op:
    """The op of a step, with the name of its part of a state or memory where that is not the whole."""
    op, kind = step.op, KINDS[step.op.kind]
    if step.state is not None:
        state = state_read(op) or state_written(op) or ""
        if step.state.stop - step.state.start < program.states[state]:
            part = f"{state}{RUN_MARK}{step.state.start}"
            return replace(op, ins=(part,)) if kind.state == "in" else replace(op, out=part)
    if step.memory is not None:
        (attr,) = kind.memories
        if step.memory.memory.rows < program.memories[op.text(attr)].rows:
            part = f"{op.text(attr)}{RUN_MARK}{step.memory.start}"
            return replace(op, attrs={**op.attrs, attr: part})
    return op


@dataclass
class Places:
    """Places of values that outlive their phase, in one area of memory per row for each dtype.

    ``offset``: of each value in its area, in elements. ``sizes``: elements of a row, by area.
    """

    offset: dict[str, int]
    sizes: dict[str, int]

    def row_bytes(self) -> int:
        """Memory of one row."""
        return sum(size * BYTES[area] for area, size in self.sizes.items())


@dataclass
class Phase:
    """One launch. ``rows``: of its matrices, or of the vectors of ``own``; 0 where there are only ``whole``
    ops. ``stores``: state to (value, part). ``memories``: those that it touches, to whether it changes them.
    ``outs``: values that a later phase reads.
    """

    whole: list[Op] = field(default_factory=list)
    products: list[Op] = field(default_factory=list)
    own: list[Op] = field(default_factory=list)
    stores: dict[str, tuple[str, str]] = field(default_factory=dict)
    loads: dict[str, str] = field(default_factory=dict)
    memories: dict[str, bool] = field(default_factory=dict)
    rows: int = 0
    scan: bool = False
    tail: bool = False
    outs: list[str] = field(default_factory=list)
    part: dict[str, str] = field(default_factory=dict)
    """Value to "whole" or "own", of those that the phase makes."""

    @property
    def empty(self) -> bool:
        """True if nothing is in it."""
        return not (self.whole or self.products or self.own or self.stores)

    @property
    def alone(self) -> bool:
        """True for a scan of one state, which can stay in registers."""
        return self.scan and len({*self.loads, *self.stores}) == 1

    def ops(self) -> Iterator[Op]:
        """All ops but the STOREs."""
        yield from (*self.whole, *self.products, *self.own)

    def reads(self) -> set[str]:
        """Names that it reads and does not make; states among them."""
        names = {name for op in self.ops() for name in op.ins}
        return (names | {name for name, _ in self.stores.values()}) - set(self.part)


@dataclass(frozen=True)
class Plan:
    """Phases, the place of every value that outlives its phase, and what `Unrolled` says of the program.

    ``loops``: ranges [first, last] of phases that go token by token where several tokens of a session run
    at a time, because a state is touched in more than one phase, or outside of a scan, or a memory is.
    """

    phases: list[Phase]
    values: dict[str, Value]
    states: dict[str, slice]
    memories: dict[str, MemoryPart]
    places: Places
    loops: list[tuple[int, int]]


def make_plan(program: Program, *, split: bool = False, keep: bool = False, loops: int | None = None) -> Plan:
    """Plan a legal program; ``keep``: every value has a place to the end, for a trace.

    ``loops``: runs of every LOOP without levels (None: as the program says).

    Raises IllegalProgram if the program breaks a rule.
    """
    token = unrolled(program, loops)
    phases = _Partition(token, split).phases
    _outs(phases, token, keep)
    _tails(phases)
    places = _places(phases, token, keep)
    return Plan(phases, token.values, token.states, token.memories, places, _loops(phases, split))


class _Partition:
    """Takes ops in order; an op that the open phase cannot hold closes it."""

    def __init__(self, token: Unrolled, split: bool) -> None:
        self.values, self.split, self.token = token.values, split, token
        self.phases: list[Phase] = []
        self.open = Phase()
        self.index = 0
        self.last_touch = {
            state: index
            for index, op in enumerate(token.ops)
            for state in (state_read(op), state_written(op))
            if state is not None
        }
        for self.index, op in enumerate(token.ops):
            if not self._take(op):
                self.phases.append(self.open)
                self.open = Phase()
                taken = self._take(op)
                assert taken, op
        self.phases.append(self.open)

    def _take(self, op: Op) -> bool:
        """Put the op into the open phase; False, and nothing done, if it does not go there."""
        kind, loaded = KINDS[op.kind], state_read(op)
        if kind.is_product:
            return self._product(op)
        if state_written(op) is not None:
            return self._store(op)
        if loaded is not None:
            stored = self.open.stores.get(loaded)
            return self._load(op) if stored is None else self._map(Op(MOVE, op.out, stored[:1]))
        if op.kind in GATHERS:
            return self._gather(op)
        if not kind.elementwise:
            return self._whole(op) if self.open.part.get(op.ins[0]) != "own" else False
        return self._map(op)

    def _product(self, op: Op) -> bool:
        phase, rows = self.open, self.values[op.out].length
        if phase.part.get(op.ins[0]) == "own" or (phase.rows and (phase.rows != rows or not phase.products)):
            return False
        if self.split and not phase.empty:
            return False
        phase.products.append(op)
        phase.rows, phase.part[op.out] = rows, "own"
        return True

    def _map(self, op: Op) -> bool:
        phase, length = self.open, self.values[op.out].length
        scalar = scalar_input(op)
        if scalar is not None and phase.part.get(op.ins[scalar]) == "own":
            return False
        vectors = {phase.part.get(name) for i, name in enumerate(op.ins) if i != scalar}
        if "own" in vectors:
            return "whole" not in vectors and self._own(op)
        if "whole" not in vectors and phase.rows == length:
            return self._own(op)
        return self._whole(op)

    def _whole(self, op: Op) -> bool:
        if self.split and self.open.rows:
            return False
        self.open.whole.append(op)
        self.open.part[op.out] = "whole"
        return True

    def _own(self, op: Op) -> bool:
        if self.open.scan and not self._pending():
            return False
        self.open.own.append(op)
        self.open.part[op.out] = "own"
        return True

    def _pending(self) -> bool:
        """True if a state that the open phase has touched is touched again later."""
        return any(self.last_touch[state] > self.index for state in (*self.open.loads, *self.open.stores))

    def _gather(self, op: Op) -> bool:
        phase, memory = self.open, memory_of(op)
        declared = zip(op.ins, KINDS[op.kind].inputs_of(op), strict=True)
        if memory in phase.memories or any(one.whole and name in phase.part for name, one in declared):
            return False
        if not (self._update(op) if memory_written(op) else self._whole(op)):
            return False
        if memory is not None and memory in self.token.memories:
            phase.memories[memory] = memory_written(op) is not None
        return True

    def _update(self, op: Op) -> bool:
        """MEM_UPDATE: each block changes its own elements of the rows."""
        phase, e = self.open, op.ins[-1]
        length = self.values[e].length
        if phase.part.get(e) == "whole" or phase.rows not in (0, length) or (self.split and not phase.empty):
            return False
        phase.rows = length
        phase.own.append(op)
        return True

    def _load(self, op: Op) -> bool:
        phase, (state,) = self.open, op.ins
        length = self.values[op.out].length
        if self.split:
            if not self._may_scan(length):
                return False
        elif phase.rows != length:
            phase.loads[state] = "whole"
            return self._whole(op)
        if phase.loads.setdefault(state, "own") != "own":
            return False
        phase.own.append(op)
        phase.part[op.out] = "own"
        return True

    def _store(self, op: Op) -> bool:
        phase, (value,) = self.open, op.ins
        length = self.values[value].length
        part = phase.part.get(value, "own" if phase.rows == length else "whole")
        if self.split:
            if phase.part.get(value) == "whole" or not self._may_scan(length):
                return False
            part = "own"
        if phase.loads.get(op.out, part) != part or phase.loads.get(op.out) == "whole":
            return False  # another block might read the state after this one has written it
        phase.stores[op.out] = (value, part)
        return True

    def _may_scan(self, length: int) -> bool:
        """True if the open phase is a scan over vectors of that length, or has become one."""
        phase = self.open
        if phase.empty:
            phase.scan, phase.rows = True, length
        return phase.scan and phase.rows == length


def _outs(phases: list[Phase], token: Unrolled, keep: bool) -> None:
    """Find the values that each phase must leave in memory."""
    read = {token.logits, *(name for phase in phases for name in phase.reads())}
    for phase in phases:
        phase.outs = [op.out for op in phase.ops() if op.out in phase.part and (keep or op.out in read)]


def _places(phases: list[Phase], token: Unrolled, keep: bool) -> Places:
    """Places by first fit; one is free again in the phase after the last that reads it."""
    last = {name: index for index, phase in enumerate(phases) for name in (*phase.reads(), *phase.outs)}
    last[token.logits] = len(phases)
    areas = {dtype: Lifetimes(LINE // size) for dtype, size in BYTES.items()}
    offset: dict[str, int] = {}
    for index, phase in enumerate(phases):
        for name in phase.outs:
            value = token.values[name]
            line = LINE // BYTES[value.dtype]
            size, end = -(-value.length // line) * line, len(phases) if keep else last[name]
            offset[name] = areas[value.dtype].place(size, index, end)
    return Places(offset, {dtype: area.top for dtype, area in areas.items()})


def _tails(phases: list[Phase]) -> None:
    """Mark the phases on which no state or memory of a later token depends."""
    needed: set[str] = set()
    for phase in reversed(phases):
        changes = phase.stores or any(phase.memories.values())
        phase.tail = not changes and not needed.intersection(phase.outs)
        if not phase.tail:
            needed.update(phase.reads())


def _loops(phases: list[Phase], split: bool) -> list[tuple[int, int]]:
    """Ranges of phases that must go token by token."""
    touched: dict[str, list[int]] = {}
    for index, phase in enumerate(phases):
        for name in {*phase.loads, *phase.stores, *phase.memories}:
            touched.setdefault(name, []).append(index)
    ranges = [
        (indices[0], indices[-1])
        for indices in touched.values()
        if not (split and len(indices) == 1 and phases[indices[0]].alone)
    ]
    merged: list[tuple[int, int]] = []
    for first_phase, last_phase in sorted(ranges):
        if merged and first_phase <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last_phase))
        else:
            merged.append((first_phase, last_phase))
    return merged
