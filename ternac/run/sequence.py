"""Run a program on whole sequences: op by op over all tokens, only the recurrence token by token.

The same integers as :class:`ternac.run.numpy_executor.NumpyExecutor`, which takes all ops for one token.
Here a matrix is unpacked for many tokens and freed again, so that a model of billions of weights runs in the
memory of its trits, and matrix products are large.  For evaluation and reports, not for generating text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import IllegalProgram, UsageError
from ternac.program.legality import check
from ternac.program.numerics import IntArray
from ternac.program.ops import KINDS, Op, op_function, state_read, state_written
from ternac.program.program import Program
from ternac.run.executor import State

ROWS = 4096  # of a matrix that are unpacked at a time
PART = 1 << 22  # elements that go through an op at a time

See = Callable[[str, IntArray], None]


class SequenceExecutor:
    """Runs a program on [B, T] tokens.  Each state must be loaded once and stored once, later.

    Raises IllegalProgram on construction for an illegal program, or one with another use of its states.
    """

    name = "numpy-sequence"

    def __init__(self, program: Program) -> None:
        check(program)
        self.program = program
        self._slices = program.state_slices()
        self._order = _schedule(program)
        self._uses = Counter(name for step in self._order for op in step for name in set(op.ins))
        self._uses[program.logits] += 1

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""
        return np.zeros((batch, self.program.state_words), np.int16)

    def run(self, state: State, tokens: npt.NDArray[Any], see: See = lambda name, values: None) -> IntArray:
        """Feed [B, T] tokens: changes ``state`` in place, returns logits int32 [B, T, vocab].

        ``see`` gets every value by name, int32 [B, T, length], as soon as it is there.
        """
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or state.shape[0] != tokens.shape[0]:
            raise UsageError("tokens are not integers [B, T] for a state of B sessions")
        if tokens.min() < 0 or tokens.max() >= self.program.vocab:
            raise UsageError(f"a token is not in 0..{self.program.vocab - 1}")
        values: dict[str, Any] = {}
        left, length = Counter(self._uses), tokens.shape[1]
        for step in self._order:
            if len(step) > 1:
                made = self._core(step, values, state, length)
            else:
                made = self._one(step[0], values, tokens)
            for name, array in made.items():
                see(name, array)
            values |= made
            for name in {name for op in step for name in set(op.ins)}:
                left[name] -= sum(name in op.ins for op in step)
                if left[name] <= 0:
                    values.pop(name, None)
        logits: IntArray = values[self.program.logits]
        return logits

    def _one(self, op: Op, values: dict[str, Any], tokens: npt.NDArray[Any]) -> dict[str, IntArray]:
        """An op outside the recurrence."""
        consts, kind = self.program.consts, KINDS[op.kind]
        if kind.is_product:
            return {op.out: _product(consts[op.text("weights")], values[op.ins[0]])}
        function = op_function(op, consts)
        if kind.reads_token:
            return {op.out: function(tokens)}
        return {op.out: _in_parts(function, [values[name] for name in op.ins])}

    def _core(
        self, ops: tuple[Op, ...], values: dict[str, Any], state: State, length: int
    ) -> dict[str, IntArray]:
        """LOAD, what lies between, and STORE of one state, token after token."""
        load, *between, store = ops
        part = self._slices[store.out]
        functions = [(op, op_function(op, self.program.consts)) for op in between]
        made: dict[str, list[Any]] = {op.out: [] for op in (load, *between)}
        now = state[:, part].astype(np.int32)
        outside = {name for op in between for name in op.ins if name not in made}
        for t in range(length):
            at: dict[str, Any] = {name: values[name][:, t] for name in outside} | {load.out: now}
            for op, function in functions:
                at[op.out] = function(*(at[name] for name in op.ins))
            for name, series in made.items():
                series.append(at[name])
            now = at[store.ins[0]]
        state[:, part] = now
        return {name: np.stack(series, axis=1) for name, series in made.items()}


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


def _schedule(program: Program) -> list[tuple[Op, ...]]:
    """Single ops, and for each state one tuple LOAD, ops in between, STORE; in an order that can run."""
    cores = {name: _core_of(program, name) for name in program.states}
    inside = {id(op) for core in cores.values() for op in core}
    order: list[tuple[Op, ...]] = []
    waiting: list[tuple[Op, ...]] = []
    ready: set[str] = set()

    def settle(step: tuple[Op, ...]) -> None:
        made = {op.out for op in step}
        needs = {name for op in step if state_read(op) is None for name in op.ins} - made
        if not needs <= ready:
            waiting.append(step)
            return
        order.append(step)
        ready.update(made)
        again, waiting[:] = list(waiting), []
        for other in again:
            settle(other)

    for op in program.ops:
        if id(op) not in inside:
            settle((op,))
        elif (state := state_written(op)) is not None:
            settle(cores[state])
    if waiting:
        raise IllegalProgram(f"op {waiting[0][0].out}: states wait for each other")
    return order


def _core_of(program: Program, state: str) -> tuple[Op, ...]:
    """LOAD of ``state``, the ops through which it reaches its STORE, STORE."""
    uses = [op for op in program.ops if state in (state_read(op), state_written(op))]
    if [state_read(op) for op in uses] != [state, None]:
        raise IllegalProgram(f"state {state} is not loaded once and then stored once")
    load, store = uses
    ops = program.ops[program.ops.index(load) + 1 : program.ops.index(store)]
    behind = {load.out}
    for op in ops:
        if behind & set(op.ins):
            behind.add(op.out)
    needed, core = set(store.ins), [store]
    for op in reversed(ops):
        if op.out in needed and op.out in behind:
            if KINDS[op.kind].is_product or state_read(op) is not None:
                raise IllegalProgram(f"op {op.out}: {op.kind} inside the recurrence of {state}")
            core.append(op)
            needed.update(op.ins)
    if load.out not in needed or len(core) == 1:
        raise IllegalProgram(f"state {state}: what is stored does not come of what was loaded")
    return (load, *reversed(core[:]))
