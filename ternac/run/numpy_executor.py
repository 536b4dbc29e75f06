"""The NumPy executor: the definition of what a program computes, batched over sessions.

The arithmetic is that of :mod:`ternac.program.ops`; this module adds evaluation order and two exact
optimisations. A ternary product is taken as a float32 matrix product: every partial sum is an integer of at
most 65535 * 128 < 2**24, where float32 is exact. And matrices that read the same vector are stacked.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.legality import check
from ternac.program.ops import KINDS, Op, op_function
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, Logits, State, Tokens

Values = dict[str, Any]
_Step = Callable[[Values, State, npt.NDArray[np.intp]], None]


class NumpyExecutor(ExecutorBase):
    """Runs one program for any number of sessions at a time. Raises IllegalProgram if it breaks a rule."""

    name = "numpy"
    origin = "NumPy on this host, measured"

    def __init__(self, program: Program) -> None:
        check(program)
        self.program = program
        self._plan = [_bind(op, program) for op in program.ops]
        self._stack_products()

    def step(self, state: State, tokens: Tokens, trace: MutableMapping[str, Logits] | None = None) -> Logits:
        ids = self.check_tokens(tokens).astype(np.intp)
        self.check_state(state, len(ids))
        values: Values = {}
        for run in self._plan:
            run(values, state, ids)
        if trace is not None:
            for op in self.program.ops:
                if KINDS[op.kind].result:
                    trace[op.out] = np.ascontiguousarray(values[op.out], np.int32)
        return np.array(values[self.program.logits], np.int32)

    def _stack_products(self) -> None:
        """Replace the products of one vector by a single stacked product at the first of them."""
        groups: dict[str, list[int]] = {}
        for index, op in enumerate(self.program.ops):
            if op.kind == "TMATVEC":
                groups.setdefault(op.ins[0], []).append(index)
        dead: set[int] = set()
        for source, indices in groups.items():
            ops = [self.program.ops[i] for i in indices]
            weights = [self.program.consts[op.text("weights")] for op in ops]
            self._plan[indices[0]] = _product(source, [op.out for op in ops], weights)
            dead.update(indices[1:])
        self._plan = [run for index, run in enumerate(self._plan) if index not in dead]


def _product(source: str, outs: list[str], weights: list[npt.NDArray[Any]]) -> _Step:
    """TMATVEC of one vector with several matrices, exact (see the module docstring)."""
    matrix = np.concatenate(weights).astype(np.float32)
    cuts = np.cumsum([0, *(w.shape[0] for w in weights)]).tolist()
    parts = [(out, slice(cuts[i], cuts[i + 1])) for i, out in enumerate(outs)]
    transposed = matrix.T

    def run(values: Values, state: State, ids: npt.NDArray[np.intp]) -> None:
        x = values[source].astype(np.float32)
        if len(x) == 1:  # matrix times vector reads the rows in order, which is what BLAS does best
            acc = np.dot(matrix, x[0])[None].astype(np.int32)
        else:
            acc = np.dot(x, transposed).astype(np.int32)
        for out, part in parts:
            values[out] = acc[:, part]

    return run


def _bind(op: Op, program: Program) -> _Step:
    """The op as a function of (values, state, token ids) that stores its result under ``op.out``."""
    out, slices = op.out, program.state_slices()
    kind = KINDS[op.kind]
    if kind.state == "in":
        part = slices[op.ins[0]]
        return lambda v, s, ids: v.__setitem__(out, s[:, part].astype(np.int32))
    if kind.state == "out":
        (value,), part = op.ins, slices[op.out]
        return lambda v, s, ids: s.__setitem__((slice(None), part), v[value])
    function, names = op_function(op, program.consts), op.ins
    if kind.states:
        parts = {attr: slices[op.text(attr)] for attr in kind.states}
        return lambda v, s, ids: v.__setitem__(
            out, function(*(v[name] for name in names), **{attr: s[:, part] for attr, part in parts.items()})
        )
    if kind.reads_token:
        return lambda v, s, ids: v.__setitem__(out, function(ids))
    if len(names) == 1:
        (x,) = names
        return lambda v, s, ids: v.__setitem__(out, function(v[x]))
    return lambda v, s, ids: v.__setitem__(out, function(*(v[name] for name in names)))
