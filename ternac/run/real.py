"""Run a program in real numbers where asked, and by the integer rules elsewhere, to see what rounding costs.

An op that is *relaxed* neither rounds nor saturates; its result is the real number behind its rule.  A TABLE
is then interpolated between its entries (and keeps its ends), a NORM sees its input instead of the 8-bit copy
and interpolates its table.  An op that is *coarse* rounds to even codes, one bit less than it has.  All
other ops round and saturate as docs/numerics.md says, also when they read a real number.  With nothing
relaxed or coarse it is the program, bit for bit.  Kinds without a rule in real numbers (`has_real_rule`)
always compute by their integer rule, on inputs rounded to integers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UnsupportedOp
from ternac.program import numerics as nu
from ternac.program.legality import infer
from ternac.program.loops import Step, unroll
from ternac.program.memory_ops import row_numbers
from ternac.program.ops import BYTES, KINDS, RANGES, Op, Value, memory_of, op_function
from ternac.program.program import Program

Real = npt.NDArray[np.float64]
Consts = Mapping[str, npt.NDArray[Any]]


class RealExecutor:
    """Like `NumpyExecutor`, with state and logits float64; ``relaxed`` and ``coarse`` name values."""

    name = "numpy, float64"

    def __init__(self, program: Program, relaxed: Collection[str] = (), coarse: Collection[str] = ()) -> None:
        values = infer(program)
        for index, op in enumerate(program.ops):
            if KINDS[op.kind].states:
                raise UnsupportedOp(f"op {index} ({op.kind} {op.out}): {op.kind} has no rule in real numbers")
        self.program = program
        self._rows = _places_of_rows(program)
        functions: dict[int, Callable[..., Any]] = {}
        self._plan: list[tuple[Step, Callable[..., Any]]] = []
        for step in unroll(program):
            op = program.ops[step.index]
            if step.index not in functions:
                functions[step.index] = _function(op, program, values, op.out in relaxed, op.out in coarse)
            self._plan.append((step, functions[step.index]))

    def open(self, batch: int = 1) -> Real:
        """State of ``batch`` new sessions: float64 zeros [batch, elements of states and memories]."""
        rows = sum(memory.rows * memory.width for memory in self.program.memories.values())
        return np.zeros((batch, sum(self.program.states.values()) + rows))

    def step(self, state: Real, tokens: Iterable[int] | npt.NDArray[Any]) -> Real:
        """Feed one token to each session: changes ``state`` in place, returns logits float64 [B, vocab]."""
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens), np.intp)
        values: dict[str, Real] = {}
        for step, function in self._plan:
            op, kind = step.op, KINDS[step.op.kind]
            if kind.state == "in":
                values[op.out] = state[:, step.state].copy()
            elif kind.state == "out":
                state[:, step.state] = values[op.ins[0]]
            elif kind.reads_token:
                values[op.out] = function(ids)
            elif step.memory is not None:
                result = function(self._view(step, state), *(values[name] for name in op.ins))
                if kind.result:
                    values[op.out] = result
            else:
                values[op.out] = function(*(values[name] for name in op.ins))
        return values[self.program.logits]

    def _view(self, step: Step, state: Real) -> Real:
        """The rows that a step works on, [B, rows, width], where they lie in ``state``."""
        name, part = memory_of(step.op), step.memory
        assert name is not None and part is not None
        first, words = self._rows[name], part.start - self.program.memory_slices()[name].start
        start, memory = first + words * 2 // BYTES[part.memory.dtype], part.memory
        return state[:, start : start + memory.rows * memory.width].reshape(-1, memory.rows, memory.width)


def _places_of_rows(program: Program) -> dict[str, int]:
    """First element of each memory in a state of one element a place."""
    places, start = {}, sum(program.states.values())
    for name, memory in program.memories.items():
        places[name] = start
        start += memory.rows * memory.width
    return places


def has_real_rule(op: Op) -> bool:
    """True if the rounding of ``op`` can be taken away, so that a cost can be laid on it."""
    return op.kind in _RULES or op.kind == "MEM_UPDATE"


def _rounded(real: Any, dtype: str, step: float = 1.0) -> Real:
    """To multiples of ``step``, half up, saturated: with step 1 the integer rule on a real number."""
    result: Real = np.clip(np.floor(real / step + 0.5) * step, *RANGES[dtype])
    return result


def _function(
    op: Op, program: Program, values: Mapping[str, Value], relaxed: bool, coarse: bool
) -> Callable[..., Any]:
    """The op as a function of its input vectors, of the tokens that it reads, or of rows and inputs."""
    consts, kind = program.consts, KINDS[op.kind]
    memory = program.memories.get(memory_of(op) or "")
    if kind.state:
        return lambda x: x
    if kind.is_product:
        columns = consts[op.text("weights")].T.astype(np.float64)
        return lambda x: x @ columns
    if memory is not None:
        return _memory_function(op, memory.dtype, relaxed, coarse)
    if op.kind in _RULES:
        rule = _RULES[op.kind](op, consts, relaxed)
        if relaxed:
            return rule
        dtype, step = kind.dtype_of(op), 2.0 if coarse else 1.0
        return lambda *inputs: _rounded(rule(*inputs), dtype, step)
    function = op_function(op, consts)
    if kind.reads_token:
        return lambda ids: function(ids).astype(np.float64)
    dtypes = [values[name].dtype for name in op.ins]
    return lambda *inputs: function(
        *(_rounded(x, dtype).astype(np.int64) for x, dtype in zip(inputs, dtypes, strict=True))
    ).astype(np.float64)


def _memory_function(op: Op, dtype: str, relaxed: bool, coarse: bool) -> Callable[..., Any]:
    """MEM_READ or MEM_UPDATE as a function of the rows [B, N, D], its digits and ``e``."""
    bits, reads = op.integer("bits"), op.kind == "MEM_READ"
    keep = 0 if reads else op.integer("keep")

    def places(digits: tuple[Real, ...]) -> tuple[Any, Any]:
        whole = [_rounded(digit, "i16").astype(np.int64) for digit in digits]
        numbers = row_numbers(whole[0], whole[1] if len(whole) > 1 else None, bits)
        return np.arange(len(numbers))[:, None], numbers

    def read(rows: Real, *digits: Real) -> Real:
        found: Real = rows[places(digits)].sum(axis=1)
        return found

    def update(rows: Real, *ins: Real) -> None:
        at = places(ins[:-1])
        old = rows[at]
        fading = old * 2.0**-keep if keep else np.zeros_like(old)
        new = old - (fading if relaxed else np.floor(fading + 0.5)) - ins[-1][:, None]
        rows[at] = new if relaxed else _rounded(new, dtype, 2.0 if coarse else 1.0)

    return read if reads else update


# ---- rules without the last rounding and saturation ---------------------------------------------------


def _requant(op: Op, consts: Consts, relaxed: bool) -> Callable[[Real], Real]:
    multiplier, shift = op.integer("multiplier", 1), op.integer("shift")

    def rule(x: Real) -> Real:
        if multiplier != 1 and np.array_equal(x, np.floor(x)):  # up to 54 bits: float64 would round them
            return nu.rshift_round(x.astype(np.int64) * multiplier, shift).astype(np.float64)
        return x * (multiplier * 2.0**-shift)

    return rule


def _table(op: Op, consts: Consts, relaxed: bool) -> Callable[[Real], Real]:
    entries, codes = consts[op.text("table")].astype(np.float64), np.arange(-128.0, 128.0)
    return lambda x: np.interp(x, codes, entries)


def _norm(op: Op, consts: Consts, relaxed: bool) -> Callable[[Real], Real]:
    pre, post = op.integer("pre"), op.integer("post")
    table = consts[op.text("table")].astype(np.float64)

    def rule(x: Real) -> Real:
        q = x * 2.0**-pre if relaxed else _rounded(x * 2.0**-pre, "i8")
        ss = np.sum(q * q, axis=-1, keepdims=True)
        exponent = np.maximum(0, (np.frexp(np.maximum(ss, 1.0))[1] - 1) // 2)
        index = ss * 64.0 * 4.0**-exponent
        if relaxed:
            mantissa = np.interp(index, np.arange(256.0), table)
        else:
            mantissa = table[np.floor(index).astype(np.intp)]
        return x * mantissa * 2.0 ** -(post + exponent)

    return rule


def _mul(op: Op, consts: Consts, relaxed: bool) -> Callable[[Real, Real], Real]:
    scale = 2.0 ** -op.integer("shift")
    return lambda a, b: a * b * scale


_RULES: dict[str, Callable[[Op, Consts, bool], Callable[..., Real]]] = {
    "NORM": _norm,
    "REQUANT": _requant,
    "TABLE": _table,
    "MUL": _mul,
    "ADD": lambda op, consts, relaxed: lambda a, b: a + b,
    "SUB": lambda op, consts, relaxed: lambda a, b: a - b,
    "LERP": lambda op, consts, relaxed: lambda h, c, f: c + f * (h - c) / 256.0,
}
