"""The NumPy executor: the living definition of what a program computes, batched over sessions.

The arithmetic is :mod:`ternac.program.numerics`; here are only the order of things and two exact short
cuts. A ternary product is taken as a float32 matrix product: every partial sum is an integer of at most
65535 * 128 < 2**24, where float32 is exact. And matrices that read the same vector are stacked into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program import numerics as nu
from ternac.program import wide
from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, State

Values = dict[str, Any]
_Step = Callable[[Values, State, npt.NDArray[np.intp]], None]


class NumpyExecutor(ExecutorBase):
    """Runs one program for any number of sessions at a time; IllegalProgram if it breaks a rule."""

    name = "numpy"
    origin = "NumPy on this host, measured"

    def __init__(self, program: Program) -> None:
        check(program)
        self.program = program
        slices = program.state_slices()
        self._plan = [_bind(op, program, slices) for op in program.ops]
        self._stack_products()

    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, nu.IntArray] | None = None,
    ) -> nu.IntArray:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``tokens`` are B integers.  With ``trace``, every value of the program is put there by name, int32
        [B, length].  A bad token or state raises UsageError before anything is changed.
        """
        ids = self.check_tokens(tokens).astype(np.intp)
        self.check_state(state, len(ids))
        values: Values = {}
        for run in self._plan:
            run(values, state, ids)
        if trace is not None:
            for op in self.program.ops:
                if op.kind != "STORE":
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


def _bind(op: Op, program: Program, slices: dict[str, slice]) -> _Step:
    """The op as a function of (values, state, token ids) that stores its result under ``op.out``."""
    consts, out = program.consts, op.out
    match op.kind:
        case "GATHER":
            rows = nu.gather(consts[op.text("embed")], op.integer("shift"))
            return lambda v, s, ids: v.__setitem__(out, rows[ids])
        case "GATHER16":
            wide_rows = consts[op.text("embed")]
            return lambda v, s, ids: v.__setitem__(out, wide_rows[ids].astype(np.int32))
        case "LOAD":
            part = slices[op.ins[0]]
            return lambda v, s, ids: v.__setitem__(out, s[:, part].astype(np.int32))
        case "STORE":
            (value,), part = op.ins, slices[out]
            return lambda v, s, ids: s.__setitem__((slice(None), part), v[value])
        case "TMATVEC":
            return _product(op.ins[0], [out], [consts[op.text("weights")]])
    function = pure(op, consts)
    if len(op.ins) == 1:
        (x,) = op.ins
        return lambda v, s, ids: v.__setitem__(out, function(v[x]))
    names = op.ins
    return lambda v, s, ids: v.__setitem__(out, function(*(v[name] for name in names)))


def pure(op: Op, consts: Any) -> Callable[..., nu.IntArray]:
    """An op that only maps input vectors to an output vector, as a function of these vectors."""
    match op.kind:
        case "NORM":
            pre, post = op.integer("pre"), op.integer("post")
            mantissas = consts[op.text("table")].astype(np.int32)
            return lambda x: nu.norm(x, pre, post, mantissas)
        case "REQUANT":
            shift, dtype, multiplier = op.integer("shift"), op.text("dtype"), op.integer("multiplier", 1)
            return lambda x: nu.requant(x, shift, dtype, multiplier)
        case "TABLE":
            entries = consts[op.text("table")].astype(np.int32)
            return lambda x: nu.table(x, entries)
        case "MUL":
            shift, dtype = op.integer("shift"), op.text("dtype")
            return lambda a, b: nu.mul(a, b, shift, dtype)
        case "ADD":
            dtype = op.text("dtype")
            return lambda a, b: nu.add(a, b, dtype)
        case "LERP":
            return nu.lerp
    return _pure_wide(op, consts)


def _pure_wide(op: Op, consts: Any) -> Callable[..., nu.IntArray]:
    """As :func:`pure`, for the wide ops."""
    match op.kind:
        case "RMSNORM":
            eps, shift = op.integer("eps"), op.integer("shift")
            return lambda x: wide.rmsnorm(x, eps, shift)
        case "SCALE":
            gain, shift = consts[op.text("gain")].astype(np.int64), op.integer("shift")
            return lambda x: wide.scale(x, gain, shift)
        case "PEAK":
            return wide.peak
        case "QUANT":
            return wide.quant
        case "RESCALE":
            multiplier, shift, dtype = op.integer("multiplier"), op.integer("shift"), op.text("dtype")
            return lambda x, m: wide.rescale(x, m, multiplier, shift, dtype)
        case "INTERP":
            points = consts[op.text("curve")].astype(np.int64)
            return lambda x: wide.interp(x, points)
        case "MUL16":
            shift, dtype = op.integer("shift"), op.text("dtype")
            return lambda a, b: wide.mul16(a, b, shift, dtype)
        case "BLEND":
            return wide.blend
    raise AssertionError(f"no rule for {op.kind}")  # check() refuses every other kind
