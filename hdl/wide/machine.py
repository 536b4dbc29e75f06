"""Instructions of the wide unit executed in NumPy, in the cycles of `WideEngine`.

It reads the instructions and the constants, never the ops of the program. The cycles are those of the RTL
with a memory that sends a beat a cycle; see docs/wide.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.stream_layout import Encoding, matrix_words
from ternac.compile.wide import (
    LOGITS,
    Curve,
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
from ternac.hdl.array.dot import dot_latency
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.stream.lanes import StreamLanes
from ternac.hdl.stream.reader import bursts
from ternac.hdl.wide.core import MATRICES
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.lane import WideLane
from ternac.hdl.wide.reduce import PeakUnit, SquareSum
from ternac.hdl.wide.rescale import RescaleUnit
from ternac.hdl.wide.sequencer import PEAK_BITS
from ternac.hdl.wide.vector import VectorUnit
from ternac.program.import_ops import CURVE_POINTS
from ternac.program.numerics import rshift_round, sat8, sat16

__all__ = ["Step", "WideMachine"]

Ints = npt.NDArray[np.int64]
_DECODE = 1 + BlockRam.LATENCY
"""Cycles from an instruction's decoding to the next one's, at least."""
_GROUPS = 8
"""Row groups whose sums may wait in `StreamMatVec`."""
_ROW_ASKED = 21
"""Cycles from a token to the first address of its row."""
_BEAT = 3
"""From the cycle of an address, but for the memory's latency, to the word at the other side of the FIFO."""


@dataclass
class Step:
    """A token's cycles, from its begin: when the last result is there, words of weights, cycles that products
    waited, and for what; words that the lanes took.
    """

    cycles: int = 0
    beats: int = 0
    waited: int = 0
    lanes_busy: int = 0
    waits: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class _Clock:
    """Cycles of a token so far."""

    decode: int = _DECODE  # when the current instruction is decoded
    lanes: int = 0  # when the lanes take the next issue
    last_word: int = 0  # when the last issue's last word went in
    reduced: int = 0  # when no sum and no peak is on its way
    written: int = 0  # when all activations are written
    closed: int = -2  # when the last group of products did
    sent: int = 0  # when the last sum went into the rescale unit
    writes: list[int] = field(default_factory=list)  # of words of matrices into vector memory
    written_in: set[int] = field(default_factory=set)  # the same cycles
    returns: deque[int] = field(default_factory=deque)  # when the sums of the last groups had gone
    ends: list[int] = field(default_factory=list)  # when the last result of each matrix came
    row: int = 0

    def end(self, cycle: int) -> None:
        """The instruction ends in a cycle."""
        self.decode = max(cycle + 1, self.decode + _DECODE)


class WideMachine:
    """An engine that holds ``image``; `step` runs a token of the session in its memories.

    ``latency``: cycles from an address to the memory's first beat. ``digits``, ``chain``: of the rescale unit
    and of the products. ``vectors`` int64 [elements of vector memory], ``logits`` the last ones.
    """

    def __init__(
        self,
        image: WideImage,
        *,
        lanes: int = 8,
        port_bits: int = 128,
        encoding: Encoding = Encoding.FIVE,
        digits: int = 2,
        chain: int = 4,
        latency: int = 40,
    ) -> None:
        self.image, self.lanes, self.encoding, self.latency = image, lanes, encoding, latency
        self.port_bytes = port_bits // 8
        self.joined = max(1, 2 * lanes // self.port_bytes)  # beats of a word of constants
        self.op, self.operands = VectorUnit.LATENCY, VectorUnit.OPERANDS
        self.every = RescaleUnit.steps(digits)
        self.rescale = self.every + RescaleUnit.BEHIND
        self.products = StreamLanes.LATENCY + dot_latency(self.port_bytes, chain)
        self.sum_late = self.operands + WideLane.PRODUCT_LATENCY + SquareSum.latency_of(lanes)
        self.peak_late = self.operands + WideLane.LATENCY + PeakUnit.latency_of(lanes)
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
        found, self._clock = Step(), _Clock()
        self._ready: Ints = np.zeros(self.image.vectors, np.int64)  # by element: when an issue may be taken
        for each in self.image.code:
            match each:
                case Row():
                    self._row(each, token)
                case Group():
                    self._group(each, found)
                case Inverse():
                    self._inverse(each)
                case Curve():
                    self._load_curve()
                case Matrix():
                    self._matrix(each, found)
        clock = self._clock
        ended = clock.ends[-1] + self.op if clock.ends else 0
        found.cycles = max(clock.decode + 1, ended, clock.reduced, clock.written)
        return found

    def _row(self, row: Row, token: int) -> None:
        """Word by word as the memory sends it; then until the last word can be read."""
        self.vectors[row.out : row.out + row.length] = self.consts[row.name][token]
        clock, size = self._clock, 2 * self.lanes
        words = -(-row.length // self.lanes)
        last = max(clock.decode + 1, self._row_words(token, words, size)[-1])
        clock.end(last + self.op)

    def _row_words(self, token: int, words: int, size: int) -> list[int]:
        """The cycle in which each word of the row is taken."""
        beats = -(-words * size // self.port_bytes)
        base = token * beats * self.port_bytes
        parts = bursts(base, beats, self.port_bytes, 32)
        came: list[int] = []
        address = _ROW_ASKED
        for i, (_, length) in enumerate(parts):
            if i:
                address += 3
            if i >= 2:  # the FIFO holds two bursts, or what of them has been taken
                before = sum(n for _, n in parts[: i - 1]) - (64 - length) + parts[i - 1][1]
                address = max(address, came[before - 1] + 3)
            begin = max(address + max(1, self.latency) + _BEAT, came[-1] + 1 if came else 0)
            came += range(begin, begin + length)
        if size >= self.port_bytes:
            per = size // self.port_bytes
            return [came[(i + 1) * per - 1] for i in range(words)]
        taken: list[int] = []
        for i in range(words):
            taken.append(max(came[i * size // self.port_bytes], taken[-1] + 1 if taken else 0))
        return taken

    def _group(self, group: Group, found: Step) -> None:
        strip = group.strip or group.length
        for begin in range(0, group.length, strip):
            for issue in group.issues:
                self._issue(issue, begin, min(group.length, begin + strip), found)

    def _operand(self, x: Operand, begin: int, end: int) -> tuple[Ints, int]:
        """The elements and when an issue that reads them may be taken."""
        match x:
            case Vector(at=at):
                place = slice(at + begin, at + end)
                return self.vectors[place], int(self._ready[place].max())
            case Gain(name=name):
                return self.consts[name][begin:end], 0
            case Scalar(at=at):
                return np.full(end - begin, self.inverses[at]), 0
            case Number(value=value):
                return np.full(end - begin, value, np.int64), 0

    def _issue(self, issue: Issue, begin: int, end: int, found: Step) -> None:
        """Taken when the lanes and the results of matrices are ready; then a word of elements a cycle."""
        operands = [issue.a, issue.b, issue.c, *([issue.minus] if issue.minus else [])]
        (a, *others), ready = zip(*(self._operand(x, begin, end) for x in operands), strict=True)
        self._begin(max(ready), -(-(end - begin) // self.lanes), issue)
        found.lanes_busy += -(-(end - begin) // self.lanes)
        b, c = others[0] - (others[2] if issue.minus else 0), others[1]
        if issue.curve:
            a, b, c = self._curve(issue.curve, a)
        y = rshift_round(a * b, issue.shift) + c
        y = sat8(y) if issue.narrow else sat16(y)
        if issue.squares is not None:
            before = self.values[issue.squares] if begin else issue.eps
            self.values[issue.squares] = before + int((a * b).sum())
        if issue.peak is not None:
            peak = min(int(np.abs(y).max()), 32767)
            self.values[issue.peak] = max(peak, self.values[issue.peak] if begin else 0)
        if issue.out is not None:
            memory = self.activations if issue.narrow else self.vectors
            memory[issue.out + begin : issue.out + end] = y
            if not issue.narrow:
                self._ready[issue.out + begin : issue.out + end] = 0

    def _begin(self, ready: int, words: int, issue: Issue) -> None:
        """Cycles of an issue: a word of a matrix that is written meanwhile takes the place of one of its."""
        clock = self._clock
        taken = max(clock.decode + 1, clock.lanes, ready)
        clock.end(taken)
        if isinstance(issue.b, Gain) and self.joined > 1:
            last = taken + 1
            for k in range(words):
                last += self.joined if k else 0
                while last in clock.written_in:
                    last += 1
        else:
            last, behind = taken + words, bisect_right(clock.writes, taken)
            while bisect_right(clock.writes, last) - behind > last - taken - words:
                last = taken + words + bisect_right(clock.writes, last) - behind
        clock.lanes = last + max(0, self.op - words)
        clock.last_word = last
        late = self.peak_late if issue.squares is None else self.sum_late
        clock.reduced = max(clock.reduced, last + late + 1)
        if issue.narrow:
            clock.written = last + self.op

    def _curve(self, name: str, x: Any) -> tuple[Ints, Ints, Ints]:
        """``a``, ``b`` and ``c`` of INTERP."""
        points = self.consts[name]
        assert len(points) == CURVE_POINTS
        k, rest = (x + 32768) >> 6, (x + 32768) & 63
        return rest, points[k + 1] - points[k], points[k]

    def _load_curve(self) -> None:
        """A point a cycle, when no issue reads any more."""
        clock = self._clock
        cycles = CURVE_POINTS + (CURVE_POINTS - 1) // self.lanes * (self.joined - 1)
        clock.end(max(clock.decode + 1, clock.last_word + 1 + self.operands) + cycles)

    def _inverse(self, inverse: Inverse) -> None:
        at, clock = inverse.at, self._clock
        start = max(clock.decode + 1, clock.reduced)
        clock.end(start + (InverseUnit.ROOT_CYCLES if inverse.root else InverseUnit.PEAK_CYCLES))
        self.inverses[at] = InverseUnit.model(self.values[at], int(inverse.root))

    def _matrix(self, matrix: Matrix, found: Step) -> None:
        """Products begin when the activations are there and the matrix before has ended."""
        clock, rows, columns = self._clock, matrix.rows, matrix.columns
        begin = max(clock.decode + 1, clock.written)
        factor = begin + 2
        if matrix.scale is not None:
            factor = max(begin + 1, clock.reduced) + 1 + PEAK_BITS
        if len(clock.ends) >= MATRICES:
            factor = max(factor, clock.ends[-MATRICES] + 1)
        clock.end(factor)
        first = max(begin + 2, clock.closed + 2)
        if first > clock.closed + 2:
            found.waits.append((matrix.name, first - clock.closed - 2))
            found.waited += first - clock.closed - 2
        beats = matrix_words(rows, columns, self.port_bytes, self.encoding)
        found.beats += beats
        results = self._sums(rows, beats, first, factor + 1)
        clock.ends.append(results[-1])
        words = [*results[self.lanes - 1 :: self.lanes], *(results[-1:] if rows % self.lanes else [])]
        value = matrix.multiplier * (1 if matrix.scale is None else self.values[matrix.scale])
        x = self.activations[matrix.x : matrix.x + columns]
        # Exact: every partial sum is an integer below 2**24.
        trits = self.consts[matrix.name].astype(np.float32)
        y = sat16(rshift_round((trits @ x.astype(np.float32)).astype(np.int64) * value, matrix.shift))
        if matrix.out == LOGITS:
            self.logits = y
            return
        self.vectors[matrix.out : matrix.out + rows] = y
        clock.writes += [cycle + 1 for cycle in words]
        clock.written_in.update(cycle + 1 for cycle in words)
        # Words come in order: an issue waits for the last one that it reads.
        taken = np.repeat(np.array(words) + self.op, self.lanes)[:rows]
        self._ready[matrix.out : matrix.out + rows] = taken

    def _sums(self, rows: int, beats: int, first: int, factor: int) -> list[int]:
        """The cycle in which each row's result leaves the rescale unit."""
        clock, group, every = self._clock, self.encoding.rows, self.every
        words = beats // -(-rows // group)
        results, sent, closed = [], clock.sent, first - 1
        for at in range(0, rows, group):
            closed += words
            if len(clock.returns) == _GROUPS:
                closed = max(closed, clock.returns.popleft() + 1)
            come = closed + self.products + 1
            for _ in range(min(group, rows - at)):
                sent = max(come, sent + every, factor)
                results.append(sent + self.rescale)
            clock.returns.append(sent)
        clock.sent, clock.closed = sent, closed
        return results
