"""A program run in real numbers where asked, and by the integer rules elsewhere: what does rounding cost?

An op that is *relaxed* neither rounds nor saturates; its result is the real number behind its rule.  A TABLE
is then interpolated between its entries (and keeps its ends), a NORM sees its input instead of the 8-bit copy
and interpolates its table.  An op that is *coarse* rounds to even codes, one bit less than it has.  All
other ops round and saturate as docs/numerics.md says, also when they read a real number.  With nothing
relaxed or coarse it is the program, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program import numerics as nu
from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program

Real = npt.NDArray[np.float64]


class RealExecutor:
    """Like `NumpyExecutor`, with state and logits float64; ``relaxed`` and ``coarse`` name values."""

    name = "numpy, float64"

    def __init__(self, program: Program, relaxed: Collection[str] = (), coarse: Collection[str] = ()) -> None:
        check(program)
        self.program = program
        self._slices = program.state_slices()
        self._plan = [(op, _rule(op, program, op.out in relaxed, op.out in coarse)) for op in program.ops]

    def open(self, batch: int = 1) -> Real:
        """State of ``batch`` new sessions: float64 zeros [batch, state_words]."""
        return np.zeros((batch, self.program.state_words))

    def step(self, state: Real, tokens: Iterable[int] | npt.NDArray[Any]) -> Real:
        """Feed one token to each session: changes ``state`` in place, returns logits float64 [B, vocab]."""
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens), np.intp)
        values: dict[str, Real] = {}
        for op, rule in self._plan:
            if op.kind == "GATHER":
                values[op.out] = rule(ids)
            elif op.kind == "LOAD":
                values[op.out] = state[:, self._slices[op.ins[0]]].copy()
            elif op.kind == "STORE":
                state[:, self._slices[op.out]] = values[op.ins[0]]
            else:
                values[op.out] = rule(*(values[name] for name in op.ins))
        return values[self.program.logits]


def _rounded(real: Any, dtype: str, step: float = 1.0) -> Real:
    """To multiples of ``step``, half up, saturated: with step 1 the integer rule on a real number."""
    result: Real = nu.saturate(np.floor(real / step + 0.5) * step, dtype)
    return result


def _rule(op: Op, program: Program, relaxed: bool, coarse: bool) -> Callable[..., Any]:
    """The op as a function of its input vectors (GATHER: of the tokens)."""
    rule = _raw(op, program, relaxed)
    if relaxed or op.kind in ("GATHER", "TMATVEC", "LOAD", "STORE"):
        return rule
    dtype = {"NORM": "i8", "TABLE": "i16", "LERP": "i16"}.get(op.kind) or op.text("dtype")
    step = 2.0 if coarse else 1.0
    return lambda *inputs: _rounded(rule(*inputs), dtype, step)


def _raw(op: Op, program: Program, relaxed: bool) -> Callable[..., Any]:
    """The op without its last rounding and saturation."""
    consts = program.consts
    match op.kind:
        case "GATHER":
            rows = nu.gather(consts[op.text("embed")], op.integer("shift")).astype(np.float64)
            return lambda ids: rows[ids]
        case "TMATVEC":
            columns = consts[op.text("weights")].T.astype(np.float64)
            return lambda x: x @ columns
        case "REQUANT":
            return _requant(op.integer("multiplier", 1), op.integer("shift"))
        case "TABLE":
            entries, codes = consts[op.text("table")].astype(np.float64), np.arange(-128.0, 128.0)
            return lambda x: np.interp(x, codes, entries)
        case "MUL":
            scale = 2.0 ** -op.integer("shift")
            return lambda a, b: a * b * scale
        case "ADD":
            return lambda a, b: a + b
        case "LERP":
            return lambda h, c, f: c + f * (h - c) / 256.0
        case "NORM":
            pre, post = op.integer("pre"), op.integer("post")
            table = consts[op.text("table")].astype(np.float64)
            return lambda x: _norm(x, pre, post, table, relaxed)
    return lambda x: x  # LOAD, STORE


def _requant(multiplier: int, shift: int) -> Callable[..., Any]:
    def rule(x: Real) -> Real:
        if multiplier != 1 and np.array_equal(x, np.floor(x)):  # up to 54 bits: float64 would round them
            return nu.rshift_round(x.astype(np.int64) * multiplier, shift).astype(np.float64)
        return x * (multiplier * 2.0**-shift)

    return rule


def _norm(x: Real, pre: int, post: int, table: Real, relaxed: bool) -> Real:
    q = x * 2.0**-pre if relaxed else _rounded(x * 2.0**-pre, "i8")
    ss = np.sum(q * q, axis=-1, keepdims=True)
    exponent = np.maximum(0, (np.frexp(np.maximum(ss, 1.0))[1] - 1) // 2)
    index = ss * 64.0 * 4.0**-exponent
    if relaxed:
        mantissa = np.interp(index, np.arange(256.0), table)
    else:
        mantissa = table[np.floor(index).astype(np.intp)]
    return x * mantissa * 2.0 ** -(post + exponent)
