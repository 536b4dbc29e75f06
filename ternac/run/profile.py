"""Find where a program loses: ranges, saturation, zeros, use of tables, the cost of each layer's rounding.

Ranges and counts come from the values of the NumPy executor on a text (:class:`Observer`; in a LOOP those of
its last run, but saturation of all), costs from
running the same text with the rounding of one group of ops at a time taken away (:func:`cost`).  Nothing here
knows the op order of one architecture: a layer is what stands before the first dot of a value's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.legality import infer, shapes
from ternac.program.loops import loops_of
from ternac.program.memory_ops import updated
from ternac.program.numerics import IntArray
from ternac.program.ops import KINDS, RANGES, Op, memory_written, op_function
from ternac.program.program import Program
from ternac.run import evaluate as ev
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.real import RealExecutor, has_real_rule


def layer_of(name: str) -> str:
    """The layer of a value or constant: its name up to the first dot."""
    return name.split(".", 1)[0]


@dataclass
class ValueStats:
    """One value over a text: extremes, and shares of its elements (0..1).

    Of a MEM_UPDATE, under its name: the addressed rows as they are after it, ``length`` elements a row.
    """

    name: str
    kind: str
    dtype: str
    length: int
    low: int
    high: int
    rms: float
    zeros: float
    saturated: float  #: elements that the op's saturation changed; 0 where it has none
    used: float  #: largest magnitude as a share of what the dtype holds (acc: of the range it provably keeps)


@dataclass
class TableStats:
    """Use of a TABLE: ``codes`` counts its 256 codes, ``ends`` is the share at -128 and 127."""

    name: str
    table: str
    low: int
    high: int
    entries: int
    ends: float
    codes: npt.NDArray[np.int64]


class Observer:
    """Collects statistics of traces, one step of any batch at a time."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.types, self._bounds = shapes(program), infer(program)
        self._ops = [op for op in program.ops if KINDS[op.kind].result]
        self._unsaturated = {
            op.out: op_function(op, program.consts, saturated=False)
            for op in self._ops
            if KINDS[op.kind].saturates and not KINDS[op.kind].states
        }
        self._updates = {op.out: op for op in program.ops if memory_written(op)}
        self._in_loops = {
            program.ops[index].out: self._unsaturated.pop(program.ops[index].out)
            for loop in loops_of(program.ops)
            for index in loop.body
            if program.ops[index].out in self._unsaturated
        }
        self._sums: dict[str, npt.NDArray[np.float64]] = {}  # count, zeros, saturated, squares
        self._clipped: dict[str, npt.NDArray[np.float64]] = {}  # count, saturated: of all runs of a loop
        self._ends: dict[str, tuple[int, int]] = {}
        self._codes = {op.out: np.zeros(256, np.int64) for op in program.ops if op.kind == "TABLE"}

    def see(self, trace: Mapping[str, IntArray]) -> None:
        """Add one step's values."""
        for op in self._ops:
            values, raw, clipped = trace[op.out], self._unsaturated.get(op.out), 0
            if raw is not None:
                clipped = int(np.count_nonzero(raw(*(trace[name] for name in op.ins)) != values))
            self._count(op.out, values, clipped)
            if op.kind == "TABLE":
                self._codes[op.out] += np.bincount(trace[op.ins[0]].reshape(-1) + 128, minlength=256)

    def watch(self, op: Op, ins: tuple[Any, ...], views: Mapping[str, Any]) -> None:
        """Count what the values of a step do not tell: saturation inside of loops and in rows."""
        if op.out in self._in_loops:
            raw = self._in_loops[op.out](*ins)
            low, high = RANGES[op.text("dtype")]
            row = np.array([raw.size, np.count_nonzero((raw < low) | (raw > high))])
            self._clipped[op.out] = self._clipped.get(op.out, np.zeros(2)) + row
        elif op.out in self._updates:
            (*digits, e), memory = ins, views["memory"]
            a, b = (*digits, None)[:2]
            raw = updated(a, b, e, memory, op.integer("bits"), op.integer("keep"))
            rows = np.clip(raw, *RANGES["i8" if memory.itemsize == 1 else "i16"])
            self._count(op.out, rows, int(np.count_nonzero(rows != raw)))

    def _count(self, name: str, values: npt.NDArray[Any], clipped: int) -> None:
        squares = float(np.sum(np.square(values, dtype=np.float64)))
        row = np.array([values.size, np.count_nonzero(values == 0), clipped, squares])
        self._sums[name] = self._sums.get(name, np.zeros(4)) + row
        low, high = self._ends.get(name, (1 << 31, -(1 << 31)))
        self._ends[name] = (min(low, int(values.min())), max(high, int(values.max())))

    def _type(self, op: Op) -> tuple[str, int]:
        """Dtype and length of a value, or of a row that is updated."""
        written = memory_written(op)
        if written is None:
            return self.types[op.out]
        memory = self.program.memories[written]
        return memory.dtype, memory.width

    def values(self) -> list[ValueStats]:
        """Every value and every update that was seen, in program order."""
        found = []
        for op in self.program.ops:
            if op.out not in self._sums or not (KINDS[op.kind].result or op.out in self._updates):
                continue
            dtype, length = self._type(op)
            count, zeros, clipped, squares = self._sums[op.out]
            runs, clipped_in_runs = self._clipped.get(op.out, (0.0, 0.0))
            low, high = self._ends[op.out]
            product = KINDS[op.kind].is_product
            room = 128 * self.types[op.ins[0]][1] if product else -RANGES[dtype][0]
            if op.kind == "MEM_READ":
                room = max(-self._bounds[op.out].low, self._bounds[op.out].high, 1)
            stats = ValueStats(
                op.out,
                op.kind,
                dtype,
                length,
                low,
                high,
                math.sqrt(squares / count),
                zeros / count,
                clipped_in_runs / runs if runs else clipped / count,
                max(-low, high) / room,
            )
            found.append(stats)
        return found

    def tables(self) -> list[TableStats]:
        """Every TABLE op, in program order."""
        found = []
        for op in self.program.ops:
            if op.kind == "TABLE":
                codes = self._codes[op.out]
                hit = np.flatnonzero(codes)
                ends = float(codes[0] + codes[255]) / max(1, int(codes.sum()))
                low, high = int(hit[0]) - 128, int(hit[-1]) - 128
                found.append(TableStats(op.out, op.text("table"), low, high, len(hit), ends, codes))
        return found


def zeros_in_trits(program: Program) -> dict[str, float]:
    """Share of zeros of each ternary matrix."""
    roles = program.roles()
    return {name: float((v == 0).mean()) for name, v in program.consts.items() if roles[name] == "trits"}


def _losses(
    executor: Any, tokens: npt.NDArray[Any], parts: ev.Streams, seen: Callable[[Any, Any], Any]
) -> npt.NDArray[np.float64]:
    """Return the nats of every predicted token in a fixed order; ``seen(state, tokens)`` makes a step."""
    state = executor.open(len(parts.start))
    scale = 2.0**-executor.program.logit_scale_bits
    rows = np.arange(len(parts.start))
    found = []
    for step in range(parts.steps):
        at = np.minimum(parts.start + step, len(tokens) - 2)
        logits = seen(state, tokens[at]) * scale
        live = (parts.start + step == at) & (at + 1 >= parts.first) & (at + 1 < parts.last)
        logits -= logits.max(axis=1, keepdims=True)
        nats = np.log(np.exp(logits).sum(axis=1)) - logits[rows, tokens[at + 1]]
        found.append(nats[live])
    return np.concatenate(found)


def observe(program: Program, tokens: npt.NDArray[Any], parts: ev.Streams) -> tuple[Observer, Any]:
    """Run the NumPy executor on the text; returns an observer of its values and the nats of each token."""
    observer = Observer(program)
    executor = NumpyExecutor(program, observer.watch)

    def step(state: Any, ids: Any) -> Any:
        trace: dict[str, IntArray] = {}
        logits = executor.step(state, ids, trace)
        observer.see(trace)
        return logits

    return observer, _losses(executor, tokens, parts, step)


@dataclass
class Cost:
    """Cost of the rounding of a group of ops, in nats per token.

    ``nats``: the loss as it is minus the loss with these ops in real numbers (neither rounded nor saturated).
    ``coarser``: the loss with these ops rounded to even codes, one bit less, minus the loss as it is.
    The errors are standard errors of these means over the text's tokens (of the paired differences).
    """

    group: str
    ops: int
    nats: float
    nats_error: float
    coarser: float
    coarser_error: float


def groups(program: Program, by: str = "layer") -> dict[str, list[str]]:
    """Group name to the values whose ops round, in program order: a ``"layer"`` or a single ``"op"`` each."""
    found: dict[str, list[str]] = {}
    for op in program.ops:
        if has_real_rule(op):
            found.setdefault(layer_of(op.out) if by == "layer" else op.out, []).append(op.out)
    return found


def cost(
    program: Program, tokens: npt.NDArray[Any], parts: ev.Streams, base: Any, group: str, ops: list[str]
) -> Cost:
    """The cost of one group; ``base`` are the nats that :func:`observe` gave for the same text."""
    real, coarse = RealExecutor(program, relaxed=set(ops)), RealExecutor(program, coarse=set(ops))
    without = _mean(base - _losses(real, tokens, parts, real.step))
    coarser = _mean(_losses(coarse, tokens, parts, coarse.step) - base)
    return Cost(group, len(ops), *without, *coarser)


def _mean(differences: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and its standard error."""
    count = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return float(differences.mean()), error


def by_layer(program: Program, values: list[ValueStats], trits: dict[str, float]) -> list[dict[str, Any]]:
    """Return one row per layer, in order of appearance; ``trits``: share of zeros per matrix."""
    rows: dict[str, dict[str, Any]] = {}
    for value in values:
        row = rows.setdefault(
            layer_of(value.name),
            {
                "layer": layer_of(value.name),
                "values": 0,
                "trits": 0,
                "trit_zeros": 0.0,
                "elements": 0,
                "zeros": 0.0,
                "most_saturated": "",
                "saturated": 0.0,
            },
        )
        row["values"] += 1
        if value.dtype == "i8" and value.kind != "MEM_UPDATE":
            row["zeros"] += value.zeros * value.length
            row["elements"] += value.length
        if value.saturated > row["saturated"]:
            row["most_saturated"], row["saturated"] = value.name, value.saturated
    for op in program.ops:
        if op.kind == "TMATVEC":
            row, name = rows[layer_of(op.out)], op.text("weights")
            row["trits"] += program.consts[name].size
            row["trit_zeros"] += trits[name] * program.consts[name].size
    for row in rows.values():
        row["trit_zeros"] = row["trit_zeros"] / row["trits"] if row["trits"] else None
        elements = row.pop("elements")
        row["i8_zeros"] = row.pop("zeros") / elements if elements else None
    return list(rows.values())
