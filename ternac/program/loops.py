"""LOOP: which ops run several times, and a program's ops as the flat list that one token runs through.

An executor that knows nothing of LOOP runs what `unroll` returns: every value is defined once there, and
every state and memory is a place in the session's words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ternac.errors import UsageError
from ternac.program.op_kind import Memory, Refused
from ternac.program.ops import KINDS, Op, memory_of, state_read, state_written
from ternac.program.program import Program

RUN_MARK = "@"
"""Stands between a value's name and the number of a run that is not the last; no name has it."""


@dataclass(frozen=True)
class Loop:
    """LOOP op ``index``: ops first..index-1 run ``times`` times, or as often as asked for, up to ``most``.

    ``carry``: pairs (old, new). From the second run on, ``old`` stands in the body for ``new`` of the run
    before. ``levels``: run i has part i of each state and memory that the body uses.
    """

    index: int
    first: int
    times: int
    most: int
    levels: bool
    carry: tuple[tuple[str, str], ...]

    @property
    def body(self) -> range:
        """Indices of the ops that it runs."""
        return range(self.first, self.index)

    def runs(self, loops: int | None) -> int:
        """How often the body runs where a request asks for ``loops`` runs, or for none (None)."""
        return self.times if self.levels or loops is None else loops


def read_loop(index: int, op: Op, free: int) -> Loop:
    """Return the loop that LOOP op ``index`` describes; its body may begin at op ``free`` or later.

    Raises Refused if it breaks a rule of its own; the names of ``carry`` are checked with its body.
    """
    KINDS["LOOP"].check_attrs(op)
    first, length = op.integer("first"), op.integer("length")
    times, most, levels = op.integer("times"), op.integer("most"), op.integer("levels")
    if first + length != index:
        raise Refused(f"its body ends with op {first + length - 1}, needs {index - 1}, the op before it")
    if first < free:
        raise Refused(f"its body begins with op {first}, inside the loop that ends with op {free - 1}")
    if times > most:
        raise Refused(f"times is {times}, most is {most}")
    if levels and most != times:
        raise Refused(f"most is {most}: with levels every run has its own part, so it must be times, {times}")
    if len(op.ins) % 2:
        raise Refused(f"{len(op.ins)} inputs, needs pairs old, new")
    pairs = tuple(zip(op.ins[::2], op.ins[1::2], strict=True))
    if len({old for old, _ in pairs}) != len(pairs):
        raise Refused("a value is carried twice")
    return Loop(index, first, times, most, bool(levels), pairs)


def loops_of(ops: Sequence[Op]) -> list[Loop]:
    """The loops of legal ops, in order."""
    found: list[Loop] = []
    for index, op in enumerate(ops):
        if op.kind == "LOOP":
            found.append(read_loop(index, op, found[-1].index + 1 if found else 0))
    return found


def most_loops(program: Program) -> int:
    """Most runs that a request may ask for; 0 if the program has no LOOP without levels."""
    return min((loop.most for loop in loops_of(program.ops) if not loop.levels), default=0)


def check_loops(program: Program, loops: int | None) -> None:
    """Raises UsageError unless a request may ask for ``loops`` runs (None: as the program says)."""
    if loops is None:
        return
    most = most_loops(program)
    if not most:
        raise UsageError(
            f"loops is {loops!r}, and {program.name} has no LOOP whose runs can be chosen", "leave loops out"
        )
    if type(loops) is not int or not 1 <= loops <= most:
        raise UsageError(f"loops is {loops!r}, {program.name} runs 1..{most}")


@dataclass(frozen=True)
class MemoryPart:
    """Rows that an op reads or changes: ``memory`` has its shape; its words begin at word ``start`` of a
    session's state, and are ``memory.words``.
    """

    start: int
    memory: Memory


@dataclass(frozen=True)
class Step:
    """One op of one run, as a token meets it.

    ``index``: of the op in the program. ``run``: from 0; 0 outside of loops. ``op``: with the names of this
    run; a value of the last run has its own name, one of an earlier run ``name@run``.
    ``state``: words of the session's state that it loads, stores or changes in place, or None.
    ``memory``: the rows that MEM_READ (of a memory) or MEM_UPDATE works on, or None.
    ``last``: it is of the last run, whose values a trace holds.
    """

    index: int
    run: int
    op: Op
    state: slice | None
    memory: MemoryPart | None
    last: bool


def unroll(program: Program, loops: int | None = None) -> list[Step]:
    """Return the ops of a legal program as one token runs them, without LOOP.

    ``loops``: runs of the loops without levels, 1..most (None: ``times`` of each).
    """
    return list(_steps(program, loops))


def _steps(program: Program, loops: int | None) -> Iterator[Step]:
    states, memories = program.state_slices(), program.memory_slices()
    ahead = {loop.first: loop for loop in loops_of(program.ops)}
    index = 0
    while index < len(program.ops):
        loop = ahead.get(index)
        if loop is None:
            op = program.ops[index]
            yield Step(index, 0, op, *_places(op, program, states, memories, 0, 1), True)
            index += 1
            continue
        before: dict[str, str] = {}  # names in the run before, of what it made
        runs = loop.runs(loops)
        for run in range(runs):
            last = run == runs - 1
            now = {old: before[new] for old, new in loop.carry} if run else {}
            made: dict[str, str] = {}
            for at in loop.body:
                op = program.ops[at]
                renamed = _renamed(op, now, "" if last else f"{RUN_MARK}{run}")
                if KINDS[op.kind].result:
                    now[op.out] = made[op.out] = renamed.out
                part = (run, loop.times) if loop.levels else (0, 1)
                yield Step(at, run, renamed, *_places(op, program, states, memories, *part), last)
            before = made
        index = loop.index + 1


def _renamed(op: Op, now: Mapping[str, str], mark: str) -> Op:
    """The op with the names that its inputs have now, and ``mark`` behind that of its result."""
    kind = KINDS[op.kind]
    ins = op.ins if kind.state == "in" else tuple(now.get(name, name) for name in op.ins)
    out = op.out + mark if kind.result else op.out
    return op if (ins, out) == (op.ins, op.out) else replace(op, ins=ins, out=out)


def _places(
    op: Op,
    program: Program,
    states: Mapping[str, slice],
    memories: Mapping[str, slice],
    part: int,
    parts: int,
) -> tuple[slice | None, MemoryPart | None]:
    """The words of the state and of the memory that the op uses, of part ``part`` of ``parts``."""
    state, memory = state_read(op) or state_written(op), memory_of(op)
    words = rows = None
    if state is not None:
        size = program.states[state] // parts
        start = states[state].start + part * size
        words = slice(start, start + size)
    if memory is not None and memory in memories:
        whole = program.memories[memory]
        own = replace(whole, rows=whole.rows // parts)
        rows = MemoryPart(memories[memory].start + part * own.words, own)
    return words, rows
