"""Instructions of the wide unit executed in NumPy, with the cycle in which each element can be read.

It reads the instructions and the constants, never the ops of the program. The cycles are those of the
components with the order of docs/wide.md; a memory that sends a beat a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.stream_layout import Encoding, matrix_words
from ternac.compile.wide import (
    LOGITS,
    Gain,
    Group,
    Inverse,
    Issue,
    Matrix,
    Number,
    Operand,
    Row,
    Scalar,
    Vector,
    WideImage,
)
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.schedule import ARRAY_LATENCY, ROW_LATENCY, TAKE, Timing
from ternac.program.import_ops import CURVE_POINTS
from ternac.program.numerics import rshift_round, sat8, sat16

__all__ = ["Step", "WideMachine"]

Ints = npt.NDArray[np.int64]
_UNITS = InverseUnit()


@dataclass
class Step:
    """A token's cycles: when the last logit is there, words of weights, cycles that products waited."""

    cycles: int = 0
    beats: int = 0
    waited: int = 0
    lanes_busy: int = 0
    waits: list[tuple[str, int]] = field(default_factory=list)


class WideMachine:
    """A wide unit and an array that hold ``image``; `step` runs a token of the session in its memories.

    ``vectors`` int64 [words of vector memory], ``logits`` the last ones.
    """

    def __init__(
        self,
        image: WideImage,
        *,
        port_bits: int = 128,
        encoding: Encoding = Encoding.FIVE,
        timing: Timing | None = None,
    ) -> None:
        self.image, self.encoding = image, encoding
        self.port_bytes = port_bits // 8
        self.timing = timing or Timing()
        self.vectors: Ints = np.zeros(image.vectors, np.int64)
        self.activations: Ints = np.zeros(image.activations, np.int64)
        self.values, self.inverses = [0] * image.scalars, [0] * image.scalars
        self.logits: Ints = np.zeros(0, np.int64)
        consts = image.program.consts
        self.consts = {
            name: np.asarray(x, x.dtype if x.ndim == 2 else np.int64) for name, x in consts.items()
        }

    def state(self) -> npt.NDArray[np.int16]:
        """The session's state, as executors keep it."""
        places = self.image.states
        parts = [self.vectors[at : at + self.image.program.states[name]] for name, at in places.items()]
        return np.concatenate(parts).astype(np.int16)

    def step(self, token: int) -> Step:
        """Feed a token."""
        found = Step()
        # Cycles in which elements and scalars can be read, and in which the units are free.
        self.ready = np.zeros(self.image.vectors, np.int64)
        self.active = np.zeros(self.image.activations, np.int64)
        self.scalar_ready = [0] * self.image.scalars
        self.inverse_ready = [0] * self.image.scalars
        self.lanes_free = self.scalar_free = self.array_free = 0
        for each in self.image.code:
            match each:
                case Row():
                    self._row(each, token)
                case Group():
                    self._group(each, found)
                case Inverse():
                    self._inverse(each)
                case Matrix():
                    self._matrix(each, found)
        found.cycles += 1
        return found

    def _row(self, row: Row, token: int) -> None:
        """A beat a cycle into vector memory."""
        span = slice(row.out, row.out + row.length)
        self.vectors[span] = self.consts[row.name][token]
        self.ready[span] = ROW_LATENCY + 2 * np.arange(row.length) // self.port_bytes

    def _group(self, group: Group, found: Step) -> None:
        strip = group.strip or group.length
        for begin in range(0, group.length, strip):
            for issue in group.issues:
                self._issue(issue, begin, min(group.length, begin + strip), found)

    def _operand(self, x: Operand, begin: int, end: int) -> tuple[Ints, Ints]:
        """The elements and when each can be read."""
        count, now = end - begin, np.zeros(end - begin, np.int64)
        match x:
            case Vector(at=at):
                return self.vectors[at + begin : at + end], self.ready[at + begin : at + end]
            case Gain(name=name):
                return self.consts[name][begin:end], now
            case Scalar(at=at):
                return np.full(count, self.inverses[at]), now + self.inverse_ready[at]
            case Number(value=value):
                return np.full(count, value, np.int64), now

    def _issue(self, issue: Issue, begin: int, end: int, found: Step) -> None:
        """A word of elements a cycle, as soon as all can be read when their turn comes."""
        timing = self.timing
        turn = np.arange(end - begin) // timing.lanes
        words = int(turn[-1]) + 1
        operands = [issue.a, issue.b, issue.c, *([issue.minus] if issue.minus else [])]
        (a, *others), times = zip(*(self._operand(x, begin, end) for x in operands), strict=True)
        start = max(self.lanes_free, *(int((time - turn).max()) for time in times))
        self.lanes_free = start + words
        found.lanes_busy += words
        b, c = others[0] - (others[2] if issue.minus else 0), others[1]
        if issue.curve:
            a, b, c = self._curve(issue.curve, a)
        y = rshift_round(a * b, issue.shift) + c
        y = sat8(y) if issue.narrow else sat16(y)
        done = start + turn + timing.op
        if issue.squares is not None:
            self._reduce(issue.squares, int((a * b).sum()) + (issue.eps if begin == 0 else 0), begin, done)
        if issue.peak is not None:
            peak = min(int(np.abs(y).max()), 32767)
            before = 0 if begin == 0 else self.values[issue.peak]
            self._reduce(issue.peak, max(peak, before) - before, begin, done)
        if issue.out is not None:
            memory, ready = (self.activations, self.active) if issue.narrow else (self.vectors, self.ready)
            memory[issue.out + begin : issue.out + end] = y
            ready[issue.out + begin : issue.out + end] = done

    def _reduce(self, at: int, more: int, begin: int, done: Ints) -> None:
        """Add to a register; the first strip replaces what was in it."""
        self.values[at] = more + (self.values[at] if begin else 0)
        self.scalar_ready[at] = int(done.max())

    def _curve(self, name: str, x: Any) -> tuple[Ints, Ints, Ints]:
        """``a``, ``b`` and ``c`` of INTERP."""
        points = self.consts[name]
        assert len(points) == CURVE_POINTS
        k, rest = (x + 32768) >> 6, (x + 32768) & 63
        return rest, points[k + 1] - points[k], points[k]

    def _inverse(self, inverse: Inverse) -> None:
        at, timing = inverse.at, self.timing
        start = max(self.scalar_free, self.scalar_ready[at])
        self.scalar_free = start + (timing.root if inverse.root else timing.inverse)
        self.inverses[at] = _UNITS.model(self.values[at], int(inverse.root))
        self.inverse_ready[at] = self.scalar_free

    def _matrix(self, matrix: Matrix, found: Step) -> None:
        """Products begin when the activations are there and the matrix before has ended."""
        rows, columns = matrix.rows, matrix.columns
        span = slice(matrix.x, matrix.x + columns)
        begin = max(self.array_free, int(self.active[span].max()) + TAKE)
        if begin > self.array_free:
            found.waits.append((matrix.name, begin - self.array_free))
            found.waited += begin - self.array_free
        beats = matrix_words(rows, columns, self.port_bytes, self.encoding)
        words, group = -(-columns // self.port_bytes), self.encoding.rows
        pace = max(words, group * self.timing.rescale_every)
        found.beats += beats
        self.array_free = begin + beats // words * pace + 1
        row = np.arange(rows)
        come = begin + (row // group + 1) * pace + row % group * self.timing.rescale_every
        ready = come + ARRAY_LATENCY + self.timing.rescale
        factor = matrix.multiplier * (1 if matrix.scale is None else self.values[matrix.scale])
        # Exact: every partial sum is an integer below 2**24.
        trits, x = self.consts[matrix.name].astype(np.float32), self.activations[span].astype(np.float32)
        sums = (trits @ x).astype(np.int64)
        y = sat16(rshift_round(sums * factor, matrix.shift))
        if matrix.out == LOGITS:
            self.logits = y
        else:
            self.vectors[matrix.out : matrix.out + rows] = y
            self.ready[matrix.out : matrix.out + rows] = ready
        found.cycles = max(found.cycles, int(ready[-1]))
