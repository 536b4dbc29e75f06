"""Cycles of a whole token of a published model, from the shapes alone: streams, vector lanes, scalars.

An estimate, op by op, of what docs/wide.md describes: no memory pauses in it, and nothing of it is simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ternac.compile.stream_layout import Encoding, matrix_words
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.wide.curve import CurveMemory
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.lane import WideLane
from ternac.program.import_ops import CURVE_POINTS
from ternac.program.mmfree import Shape

__all__ = ["Timing", "Token", "closed_form", "constant_bytes", "token_schedule"]

TAKE = 3
"""Cycles from a written activation to the first product, and from a matrix to the next (one of them)."""
ARRAY_LATENCY = 16
"""From the last word of a row group to its last sum: memory, chains, adder tree, a sum a cycle."""
_HAND_OVER = 8
"""From a vector's last word to the recurrence, and from its result to the lanes."""
ROW_LATENCY = 100
"""From the address of an embedding row to its first beat."""


@dataclass(frozen=True)
class Timing:
    """The wide unit's cycles.

    ``lanes`` elements a cycle; ``strip`` rows whose elementwise ops run together as their sums come;
    ``op`` from an op's first elements leaving memory to their results being readable; ``root`` from a sum of
    squares to its inverse root; ``inverse`` from a peak to its inverse; ``rescale`` from a sum to its 16
    bits in vector memory, one every ``rescale_every`` cycles.
    """

    lanes: int = 8
    strip: int = 64
    op: int = 1 + BlockRam.LATENCY + CurveMemory.LATENCY + WideLane.LATENCY + 1
    root: int = InverseUnit.ROOT_CYCLES + _HAND_OVER
    inverse: int = InverseUnit.PEAK_CYCLES + _HAND_OVER
    rescale: int = 16
    rescale_every: int = 7


@dataclass
class _Session:
    """When the first and the last element of a session's newest vector can be read."""

    first: int = 0
    last: int = 0


@dataclass
class Token:
    """What `token_schedule` finds; all in cycles, ``beats`` and ``constant_beats`` in words of the port.

    ``waits`` by what the products wait for: cycles without a product. ``steps`` lists the ops of such a wait,
    once each, as (what is waited for, op, elements of a session, cycles it adds).
    """

    cycles: int = 0
    beats: int = 0
    constant_beats: int = 0
    lanes_busy: int = 0
    waits: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, str, int, int]] = field(default_factory=list)

    @property
    def port_busy(self) -> float:
        """Beats a cycle."""
        return (self.beats + self.constant_beats) / self.cycles


class _Unit:
    """Lanes and digit recurrences, each one op after the other; ``batch`` sessions take turns in each op."""

    def __init__(self, timing: Timing, batch: int, start: int = 0) -> None:
        self.timing = timing
        self.sessions = [_Session(start, start) for _ in range(batch)]
        self.lanes_free, self.scalar_free, self.busy = start, start, 0

    def op(self, elements: int) -> int:
        """Issue an op over ``elements`` of every session; returns the cycle in which all can be read."""
        cycles = -(-elements // self.timing.lanes)
        for each in self.sessions:
            start = max(self.lanes_free, each.first)
            self.lanes_free = start + cycles
            self.busy += cycles
            each.first = start + self.timing.op
            each.last = max(each.last, start + cycles - 1 + self.timing.op)
        return max(each.last for each in self.sessions)

    def scalar(self, cycles: int) -> int:
        """Find a scalar of every session's whole vector."""
        for each in self.sessions:
            self.scalar_free = max(self.scalar_free, each.last) + cycles
            each.first = each.last = self.scalar_free
        return self.scalar_free

    def arrive(self, cycle: int) -> None:
        """Let every session's next elements be readable no earlier than ``cycle``."""
        for each in self.sessions:
            each.first = max(each.first, cycle)
            each.last = max(each.last, cycle)


@dataclass(frozen=True)
class _Stream:
    """The port and its arrays: words of a matrix of ``rows`` and ``columns``, and when its rows come."""

    port_bytes: int
    ports: int
    encoding: Encoding
    timing: Timing

    def beats(self, rows: int, columns: int) -> int:
        """Words in the unit with the largest share of the rows."""
        groups = -(-rows // self.encoding.rows)
        return matrix_words(
            -(-groups // self.ports) * self.encoding.rows, columns, self.port_bytes, self.encoding
        )

    def cycles(self, rows: int, columns: int) -> int:
        """A word a cycle, unless sums leave more slowly than they come."""
        words = -(-columns // self.port_bytes)
        slowest = max(words, self.encoding.rows * self.timing.rescale_every)
        return self.beats(rows, columns) // words * slowest

    def arrivals(self, begin: int, rows: int, columns: int) -> list[tuple[int, int]]:
        """(cycle, rows) of each strip of sums that is 16 bits wide in vector memory."""
        cycles, found = self.cycles(rows, columns), []
        delay = ARRAY_LATENCY + self.timing.rescale
        for at in range(0, rows, self.timing.strip):
            end = min(rows, at + self.timing.strip)
            found.append((begin + -(-cycles * end // rows) + delay, end - at))
        return found


class _Walk:
    """Walks a token phase by phase; ``at`` is the cycle in which the array is free."""

    def __init__(self, shape: Shape, stream: _Stream, timing: Timing, batch: int) -> None:
        self.shape, self.stream, self.timing = shape, stream, timing
        self.unit = _Unit(timing, batch)
        self.token = Token()
        self.at = 0

    def wait(self, what: str, strip: Sequence[str], ops: Sequence[tuple[str, int]]) -> None:
        """Run the ops that the next matrix waits for; ``strip``: those of the last strip, which are done."""
        begin, done = self.at, max(each.last for each in self.unit.sessions)
        steps = [(what, " ".join(("last sums:", *strip)), self.timing.strip, done - begin)] if strip else []
        for name, elements in ops:
            before = done
            if name in ("root", "inverse"):
                done = self.unit.scalar(self.timing.root if name == "root" else self.timing.inverse)
            else:
                done = self.unit.op(elements)
            steps.append((what, name, elements, done - before))
        self.at = done + TAKE
        if what not in self.token.waits:
            self.token.steps += steps
        self.token.waits[what] = self.token.waits.get(what, 0) + self.at - begin

    def matrix(self, rows: int, columns: int, strip_ops: int) -> None:
        """Stream a matrix; ``strip_ops`` elementwise ops run on each strip of its sums."""
        begin = self.at
        self.at += self.stream.cycles(rows, columns) + 1
        self.token.beats += self.stream.beats(rows, columns)
        for cycle, count in self.stream.arrivals(begin, rows, columns):
            self.unit.arrive(cycle)
            for _ in range(strip_ops):
                self.unit.op(count)

    def ready(self, cycle: int, what: str) -> None:
        """Let the array wait for the activations of an overlapped op."""
        if cycle > self.at:
            self.token.waits[what] = self.token.waits.get(what, 0) + cycle - self.at
            self.at = cycle

    def norms(self, what: str, strip: Sequence[str]) -> None:
        """NORMS and the first LINEAR behind them, up to its activations."""
        d = self.shape.d
        block = [("root", 0), ("RMSNORM", d), ("SCALE", d), ("SUMSQ", d)]
        self.wait(what, strip, [*block, ("root", 0), ("RMSNORM", d), *_quantize(d)])

    def layer(self) -> None:
        """One layer, from its activations for the first matrix to the last strip of the last one's sums."""
        d, m, unit = self.shape.d, self.shape.m, self.unit
        # g first: its norm and its weights are overlapped with the two other matrices.
        quantized = []
        for _ in range(2):
            unit.op(d)
            unit.scalar(self.timing.inverse)
            quantized.append(unit.op(d))
        self.matrix(d, d, 1)
        self.ready(quantized[0], "i, f")
        unit.scalar(self.timing.root)
        unit.op(d)
        unit.op(d)
        self.matrix(d, d, 1)
        self.ready(quantized[1], "i, f")
        strip = ("INTERP", "SCALE", "BLEND", "INTERP", "MUL16", "SUMSQ")
        self.matrix(d, d, len(strip))
        self.wait("o", strip, [("root", 0), ("RMSNORM", d), *_quantize(d)])
        residual = ("REQUANT", "ADD", "SUMSQ")
        self.matrix(d, d, len(residual))
        self.norms("gate, up", residual)
        self.matrix(m, d, 1)
        product = ("MUL16", "SUMSQ")
        self.matrix(m, d, len(product))
        self.wait("down", product, [("root", 0), ("RMSNORM", m), *_quantize(m)])
        self.matrix(d, m, len(residual))
        self.norms("g, i, f", residual)  # behind the last layer: the head


def _quantize(n: int) -> list[tuple[str, int]]:
    """From a normalized vector to activations; PEAK is found as SCALE writes."""
    return [("SCALE", n), ("inverse", 0), ("QUANT", n)]


def constant_bytes(shape: Shape) -> tuple[int, int]:
    """Bytes of gains and curves that a token reads, and of its embedding row."""
    gains = shape.layers * (9 * shape.d + shape.m) + 2 * shape.d
    curves = shape.layers * 4 * CURVE_POINTS
    return 2 * (gains + curves), 2 * shape.d


def token_schedule(
    shape: Shape,
    *,
    port_bits: int = 128,
    ports: int = 1,
    encoding: Encoding = Encoding.FIVE,
    batch: int = 1,
    timing: Timing | None = None,
) -> Token:
    """Schedule one token of ``batch`` sessions that share one pass over the weights.

    Each of ``ports`` has an array for each session. Gains, curves and embedding rows come through the ports,
    and count as if they never came while the products wait; states stay on chip. A memory that sends a beat
    a cycle.
    """
    timing = timing or Timing()
    stream = _Stream(port_bits // 8, ports, encoding, timing)
    walk = _Walk(shape, stream, timing, batch)
    token = walk.token
    constants, row = constant_bytes(shape)
    wide = ports * port_bits // 8
    token.constant_beats = -(-(constants + batch * row) // wide)
    begin = ROW_LATENCY + -(-batch * row // wide)
    walk.unit.arrive(begin)
    walk.unit.op(shape.d)  # SUMSQ of the embedding row
    walk.norms("first", ())
    for _ in range(shape.layers):
        walk.layer()
    walk.matrix(shape.vocab, shape.d, 0)
    end = walk.at + ARRAY_LATENCY + timing.rescale
    token.waits["logits"] = end - walk.at
    token.cycles = end + -(-constants // wide)
    token.lanes_busy = walk.unit.busy
    return token


def closed_form(token: Token, bound: float) -> dict[str, Any]:
    """What ``ternac bench stream --whole`` reports of a schedule; ``bound``: bytes of weights over ports."""
    return {
        "port_busy": token.port_busy,
        "cycles_per_token": token.cycles,
        "bound_cycles_per_token": bound,
        "over_bound": token.cycles / bound,
        "weight_beats": token.beats,
        "constant_beats": token.constant_beats,
        "wait_cycles": token.waits,
        "lanes_busy": token.lanes_busy / token.cycles,
        "steps": [
            {"before": what, "op": op, "elements": elements, "cycles": cycles}
            for what, op, elements, cycles in token.steps
        ],
    }
