"""The NumPy executor: the definition of what a program computes, batched over sessions.

The arithmetic is that of :mod:`ternac.program.ops`; this module adds evaluation order and two exact
optimisations. A ternary product is taken as a float32 matrix product: every partial sum is an integer of at
most 65535 * 128 < 2**24, where float32 is exact. And matrices that read the same vector are stacked.
Rows of memories are read and changed where they lie in the states.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.legality import check
from ternac.program.loops import Loop, MemoryPart, loops_of
from ternac.program.ops import KINDS, Op, memory_of, memory_written, op_function
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, Logits, State, Tokens, memory_view

Values = dict[str, Any]
_Step = Callable[[Values, State, npt.NDArray[np.intp], int], None]
"""(values so far, states, token ids, run of the loop that it is in): puts its result under its name."""


Watch = Callable[[Op, tuple[Any, ...], dict[str, Any]], None]
"""Called before an op computes, with its inputs and with views of the states and rows that it uses."""


class NumpyExecutor(ExecutorBase):
    """Runs one program for any number of sessions at a time. Raises IllegalProgram if it breaks a rule.

    ``watch`` is called before every op that saturates, in every run of a loop.
    """

    name = "numpy"
    origin = "NumPy on this host, measured"

    def __init__(self, program: Program, watch: Watch | None = None) -> None:
        check(program)
        self.program = program
        self._parts: list[_Part] = []
        end = 0
        for loop in loops_of(program.ops):
            self._parts.append(_Part(_plan(program, range(end, loop.first), None, watch), None))
            self._parts.append(_Part(_plan(program, loop.body, loop, watch), loop))
            end = loop.index + 1
        self._parts.append(_Part(_plan(program, range(end, len(program.ops)), None, watch), None))

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        ids = self.check_tokens(tokens).astype(np.intp)
        self.check_state(state, len(ids))
        self.check_loops(loops)
        values: Values = {}
        for part in self._parts:
            part.run(values, state, ids, loops)
        if trace is not None:
            for op in self.program.ops:
                if KINDS[op.kind].result:
                    trace[op.out] = np.ascontiguousarray(values[op.out], np.int32)
        return np.array(values[self.program.logits], np.int32)


@dataclass(frozen=True)
class _Part:
    """Ops that run once, or the body of a loop."""

    steps: Sequence[_Step]
    loop: Loop | None

    def run(self, values: Values, state: State, ids: npt.NDArray[np.intp], loops: int | None) -> None:
        """Run them, as often as ``loops`` says."""
        carry = self.loop.carry if self.loop else ()
        before = {old: values[old] for old, _ in carry}
        for number in range(self.loop.runs(loops) if self.loop else 1):
            if number:
                values.update({old: values[new] for old, new in carry})
            for step in self.steps:
                step(values, state, ids, number)
        values.update(before)


def _plan(program: Program, indices: range, loop: Loop | None, watch: Watch | None) -> list[_Step]:
    """The ops as functions, with the products of one vector as one stacked product at the first of them."""
    ops = [program.ops[index] for index in indices]
    plan = [_bind(op, program, loop, watch) for op in ops]
    groups: dict[str, list[int]] = {}
    for at, op in enumerate(ops):
        if op.kind == "TMATVEC":
            groups.setdefault(op.ins[0], []).append(at)
    dead: set[int] = set()
    for source, places in groups.items():
        weights = [program.consts[ops[at].text("weights")] for at in places]
        plan[places[0]] = _product(source, [ops[at].out for at in places], weights)
        dead.update(places[1:])
    return [step for at, step in enumerate(plan) if at not in dead]


def _product(source: str, outs: list[str], weights: list[npt.NDArray[Any]]) -> _Step:
    """TMATVEC of one vector with several matrices, exact (see the module docstring)."""
    matrix = np.concatenate(weights).astype(np.float32)
    cuts = np.cumsum([0, *(w.shape[0] for w in weights)]).tolist()
    parts = [(out, slice(cuts[i], cuts[i + 1])) for i, out in enumerate(outs)]
    transposed = matrix.T

    def run(values: Values, state: State, ids: npt.NDArray[np.intp], number: int) -> None:
        x = values[source].astype(np.float32)
        if len(x) == 1:  # matrix times vector reads the rows in order, which is what BLAS does best
            acc = np.dot(matrix, x[0])[None].astype(np.int32)
        else:
            acc = np.dot(x, transposed).astype(np.int32)
        for out, part in parts:
            values[out] = acc[:, part]

    return run


def _bind(op: Op, program: Program, loop: Loop | None, watch: Watch | None) -> _Step:
    """The op as a function that stores its result under ``op.out``."""
    out, kind, parts = op.out, KINDS[op.kind], loop.times if loop and loop.levels else 1
    if kind.state == "in":
        loaded = _words(program, op.ins[0], parts)
        return lambda v, s, ids, run: v.__setitem__(out, s[:, loaded[run % parts]].astype(np.int32))
    if kind.state == "out":
        (value,), stored = op.ins, _words(program, op.out, parts)
        return lambda v, s, ids, run: s.__setitem__((slice(None), stored[run % parts]), v[value])
    function, names = op_function(op, program.consts), op.ins
    if watch is not None and (kind.saturates or memory_written(op)):
        function = _watched(op, function, watch)
    memory = memory_of(op)
    if kind.states or memory in program.memories:
        words = {attr: _words(program, op.text(attr), parts) for attr in kind.states}
        rows = {attr: _rows(program, op.text(attr), parts) for attr in kind.memories}

        def changing(v: Values, s: State, ids: npt.NDArray[np.intp], run: int) -> None:
            views = {attr: s[:, places[run % parts]] for attr, places in words.items()}
            views |= {attr: memory_view(s, places[run % parts]) for attr, places in rows.items()}
            result = function(*(v[name] for name in names), **views)
            if kind.result:
                v[out] = result

        return changing
    if kind.reads_token:
        return lambda v, s, ids, run: v.__setitem__(out, function(ids))
    if len(names) == 1:
        (x,) = names
        return lambda v, s, ids, run: v.__setitem__(out, function(v[x]))
    return lambda v, s, ids, run: v.__setitem__(out, function(*(v[name] for name in names)))


def _watched(op: Op, function: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    def watched(*ins: Any, **views: Any) -> Any:
        watch(op, ins, views)
        return function(*ins, **views)

    return watched


def _words(program: Program, state: str, parts: int) -> list[slice]:
    """The words of each part of a state."""
    start, size = program.state_slices()[state].start, program.states[state] // parts
    return [slice(start + part * size, start + (part + 1) * size) for part in range(parts)]


def _rows(program: Program, memory: str, parts: int) -> list[MemoryPart]:
    """Each part of a memory."""
    whole, start = program.memories[memory], program.memory_slices()[memory].start
    own = replace(whole, rows=whole.rows // parts)
    return [MemoryPart(start + part * own.words, own) for part in range(parts)]
