"""Run a program on whole sequences: op by op over all tokens, only recurrences token by token.

The same integers as :class:`ternac.run.numpy_executor.NumpyExecutor`, which takes all ops for one token.
Here a matrix is unpacked for many tokens and freed again, so that a model of billions of weights runs in the
memory of its trits, and matrix products are large.  For evaluation and reports, not for generating text.

A recurrence is what a state or a memory closes from one token to the next: the ops on the way from its LOAD
to its STORE, or all ops of a memory and those between them. What is stored but does not come of what was
loaded is no recurrence: its LOAD is the stored series, one token later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.legality import check
from ternac.program.loops import RUN_MARK, Step, unroll
from ternac.program.numerics import IntArray
from ternac.program.ops import KINDS, op_function
from ternac.program.program import Program
from ternac.run.executor import State, memory_view

ROWS = 4096  # of a matrix that are unpacked at a time
PART = 1 << 22  # elements that go through an op at a time

See = Callable[[str, IntArray], None]


class SequenceExecutor:
    """Runs a program on [B, T] tokens. Raises IllegalProgram on construction if it breaks a rule.

    ``loops``: runs of every LOOP without levels (None: ``times`` of each).
    """

    name = "numpy-sequence"

    def __init__(self, program: Program, *, loops: int | None = None) -> None:
        check(program)
        self.program = program
        self._order = _schedule(unroll(program, loops))
        self._uses = Counter(name for unit in self._order for name in unit.reads)
        self._uses[program.logits] += 1

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""
        return np.zeros((batch, self.program.state_words), np.int16)

    def run(self, state: State, tokens: npt.NDArray[Any], see: See = lambda name, values: None) -> IntArray:
        """Feed [B, T] tokens: changes ``state`` in place, returns logits int32 [B, T, vocab].

        ``see`` gets every value by name, int32 [B, T, length], as soon as it is there; of a LOOP those of its
        last run.
        """
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or state.shape[0] != tokens.shape[0]:
            raise UsageError("tokens are not integers [B, T] for a state of B sessions")
        if tokens.min() < 0 or tokens.max() >= self.program.vocab:
            raise UsageError(f"a token is not in 0..{self.program.vocab - 1}")
        values: dict[str, Any] = {}
        left = Counter(self._uses)
        before: dict[int, IntArray] = {}  # states as they were before this run, by their first word
        for unit in self._order:
            for step in unit.steps:
                if step.state is not None and KINDS[step.op.kind].state == "out":
                    before[step.state.start] = state[:, step.state].astype(np.int32)
            if unit.recurrent:
                made = self._core(unit.steps, values, state, tokens)
            else:
                made = self._one(unit, values, state, tokens, before)
            for name, array in made.items():
                if RUN_MARK not in name:
                    see(name, array)
            values |= made
            for name in unit.reads:
                left[name] -= 1
                if left[name] <= 0:
                    values.pop(name, None)
        logits: IntArray = values[self.program.logits]
        return logits

    def _one(
        self,
        unit: _Unit,
        values: dict[str, Any],
        state: State,
        tokens: npt.NDArray[Any],
        before: dict[int, IntArray],
    ) -> dict[str, IntArray]:
        """An op outside of any recurrence, over all tokens."""
        ((step,), consts) = unit.steps, self.program.consts
        op, kind = step.op, KINDS[step.op.kind]
        if kind.state == "in":
            assert step.state is not None
            held = before.get(step.state.start)
            held = (state[:, step.state].astype(np.int32) if held is None else held)[:, None]
            if unit.series:  # what was stored a token before
                return {op.out: np.concatenate([held, values[unit.series][:, :-1]], axis=1)}
            return {op.out: np.repeat(held, tokens.shape[1], axis=1)}
        if kind.state == "out":
            state[:, step.state] = values[op.ins[0]][:, -1]
            return {}
        if kind.is_product:
            return {op.out: _product(consts[op.text("weights")], values[op.ins[0]])}
        function = op_function(op, consts)
        if kind.reads_token:
            return {op.out: function(tokens)}
        return {op.out: _in_parts(function, [values[name] for name in op.ins])}

    def _core(
        self, steps: Sequence[Step], values: dict[str, Any], state: State, tokens: npt.NDArray[Any]
    ) -> dict[str, IntArray]:
        """The ops of a recurrence, token after token."""
        bound = [(step.op, self._bind(step, state)) for step in steps]
        made: dict[str, list[Any]] = {op.out: [] for op, _ in bound if KINDS[op.kind].result}
        outside = {
            name for op, _ in bound if KINDS[op.kind].state != "in" for name in op.ins if name not in made
        }
        for t in range(tokens.shape[1]):
            at: dict[str, Any] = {name: values[name][:, t] for name in outside}
            for op, function in bound:
                if KINDS[op.kind].reads_token:
                    at[op.out] = function(tokens[:, t])
                    continue
                ins = () if KINDS[op.kind].state == "in" else op.ins
                result = function(*(at[name] for name in ins))
                if op.out in made:
                    at[op.out] = result
            for name, series in made.items():
                series.append(at[name])
        return {name: np.stack(series, axis=1) for name, series in made.items()}

    def _bind(self, step: Step, state: State) -> Callable[..., Any]:
        """The op as a function of its inputs at one token, on the states of all sessions."""
        op, kind = step.op, KINDS[step.op.kind]
        words = None if step.state is None else state[:, step.state]
        if kind.state == "in" and words is not None:
            return lambda: words.astype(np.int32)
        if kind.state == "out" and words is not None:
            return lambda x: words.__setitem__(slice(None), x)
        if kind.is_product:
            weights = self.program.consts[op.text("weights")]
            return lambda x: _product(weights, x)
        function = op_function(op, self.program.consts)
        views: dict[str, npt.NDArray[Any]] = {}
        if words is not None:
            views |= dict.fromkeys(kind.states, words)
        if step.memory is not None:
            views |= dict.fromkeys(kind.memories, memory_view(state, step.memory))
        return lambda *ins: function(*ins, **views)


def _in_parts(function: Callable[..., IntArray], ins: list[IntArray]) -> IntArray:
    """A function of vectors, applied to some tokens at a time: it computes with 64 bits."""
    step = max(1, PART // max(1, max(x[:, 0].size for x in ins)))
    length = ins[0].shape[1]
    parts = [function(*(x[:, at : at + step] for x in ins)) for at in range(0, length, step)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _product(weights: npt.NDArray[Any], x: IntArray) -> IntArray:
    """TMATVEC of many vectors; float32 is exact as in :mod:`ternac.run.numpy_executor`."""
    flat = x.reshape(-1, x.shape[-1]).astype(np.float32)
    out = np.empty((len(flat), len(weights)), np.int32)
    for row in range(0, len(weights), ROWS):
        out[:, row : row + ROWS] = flat @ weights[row : row + ROWS].astype(np.float32).T
    return out.reshape(*x.shape[:-1], -1)


@dataclass(frozen=True)
class _Unit:
    """One op over all tokens, or a recurrence.

    ``reads``: values that it needs from other units. ``series``: of a LOAD, the value that is stored, if that
    does not come of what is loaded.
    """

    steps: tuple[Step, ...]
    recurrent: bool
    reads: frozenset[str]
    series: str = ""


def _schedule(steps: Sequence[Step]) -> list[_Unit]:
    """The units of a program in an order in which each has what it reads."""
    delayed = _delayed(steps)
    order: list[_Unit] = []
    waiting: list[_Unit] = []
    ready: set[str] = set()
    members: dict[int, list[int]] = {}
    part = _recurrences(steps, delayed)
    for at, number in enumerate(part):
        members.setdefault(number, []).append(at)

    def settle(unit: _Unit) -> None:
        if not unit.reads <= ready:
            waiting.append(unit)
            return
        order.append(unit)
        ready.update(step.op.out for step in unit.steps if KINDS[step.op.kind].result)
        again, waiting[:] = list(waiting), []
        for other in again:
            settle(other)

    for at, number in enumerate(part):
        if at == members[number][-1]:
            settle(_unit(steps, members[number], part, delayed))
    assert not waiting, "a unit waits for itself"
    return order


def _unit(steps: Sequence[Step], members: list[int], part: list[int], delayed: dict[int, int]) -> _Unit:
    inside = [steps[at] for at in members]
    made = {step.op.out for step in inside if KINDS[step.op.kind].result}
    reads = {name for step in inside if KINDS[step.op.kind].state != "in" for name in step.op.ins} - made
    (first, *more), series = members, ""
    store = delayed.get(first)
    if not more and store is not None and part[store] != part[first]:
        (series,) = steps[store].op.ins
        reads.add(series)
    stateful = any(step.memory is not None or KINDS[step.op.kind].states for step in inside)
    return _Unit(tuple(inside), bool(more) or stateful, frozenset(reads), series)


def _words(step: Step) -> tuple[str, int] | None:
    """The state or memory that a step uses, by kind and first word; None for a step without."""
    if step.state is not None:
        return "state", step.state.start
    return None if step.memory is None else ("memory", step.memory.start)


def _delayed(steps: Sequence[Step]) -> dict[int, int]:
    """LOAD to STORE of each state that is loaded once and then stored once, and used by nothing else."""
    uses: dict[tuple[str, int], list[int]] = {}
    for at, step in enumerate(steps):
        if (words := _words(step)) is not None:
            uses.setdefault(words, []).append(at)
    pairs = (places for places in uses.values() if len(places) == 2)
    return {
        first: second
        for first, second in pairs
        if (KINDS[steps[first].op.kind].state, KINDS[steps[second].op.kind].state) == ("in", "out")
    }


def _recurrences(steps: Sequence[Step], delayed: dict[int, int]) -> list[int]:
    """For each step the number of its recurrence: its strongly connected component.

    A step needs the steps that make its inputs, a LOAD the STORE of the token before; the uses of any other
    state or memory need each other, for their order is that of the program, token after token.
    """
    needs: list[list[int]] = [[] for _ in steps]
    maker: dict[str, int] = {}
    last: dict[tuple[str, int], int] = {}
    first: dict[tuple[str, int], int] = {}
    paired = {*delayed, *delayed.values()}
    for at, step in enumerate(steps):
        if KINDS[step.op.kind].state != "in":
            needs[at] += [maker[name] for name in step.op.ins]
        if KINDS[step.op.kind].result:
            maker[step.op.out] = at
        words = _words(step)
        if words is not None and at not in paired:
            if words in last:
                needs[at].append(last[words])
            first.setdefault(words, at)
            last[words] = at
    for load, store in delayed.items():
        needs[load].append(store)
    for words, at in first.items():
        needs[at].append(last[words])
    return _components(needs)


def _components(needs: list[list[int]]) -> list[int]:
    """Number of each node's strongly connected component (Tarjan, without recursion)."""
    count = len(needs)
    seen, low, found = [-1] * count, [0] * count, [-1] * count
    stack: list[int] = []
    clock = components = 0
    for root in range(count):
        work = [(root, 0)] if seen[root] < 0 else []
        while work:
            node, edge = work.pop()
            if edge == 0:
                seen[node] = low[node] = clock
                clock += 1
                stack.append(node)
            for position in range(edge, len(needs[node])):
                other = needs[node][position]
                if seen[other] < 0:
                    work += [(node, position + 1), (other, 0)]
                    break
                if found[other] < 0:
                    low[node] = min(low[node], seen[other])
            else:
                if low[node] == seen[node]:
                    while found[node] < 0:
                        found[stack.pop()] = components
                    components += 1
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
    return found
