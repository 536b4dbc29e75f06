"""What is found over a whole vector as it passes the lanes: its sum of squares and its largest magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.hdl.cells.registers import delay
from ternac.program.numerics import I16_MAX

__all__ = ["PeakUnit", "SquareSum"]

_SQUARE_BITS = 31
SUM_BITS = 47


class SquareSum(wiring.Component):
    """Sum of the squares of a vector and ``eps``; ``latency`` cycles behind the last word ``ss`` is there.

    :param lanes: elements of a word.

    Members
    -------
    first : In(1)
        The word is the vector's first: ``eps`` is added to it.
    keep : In(lanes)
        The elements that count.
    squares : In(ArrayLayout(31, lanes))
        A word of squares of i16.
    eps : In(47)
        What the sum begins with; taken ``latency`` - 1 cycles after the first word.
    ss : Out(47)
        The sum.
    """

    @staticmethod
    def latency_of(lanes: int) -> int:
        """Return the ``latency`` for words of ``lanes`` elements."""
        return ceil_log2(lanes) + 1

    def __init__(self, lanes: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        self.lanes = lanes
        self.latency = self.latency_of(lanes)
        super().__init__(
            {
                "first": In(1),
                "keep": In(lanes),
                "squares": In(data.ArrayLayout(_SQUARE_BITS, lanes)),
                "eps": In(SUM_BITS),
                "ss": Out(SUM_BITS),
            }
        )

    def model(self, x: Sequence[int], eps: int) -> int:
        """The sum of one vector."""
        return sum(v * v for v in x) + eps

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        level: list[Value] = [Mux(self.keep[i], self.squares[i], 0) for i in range(self.lanes)]
        depth = 0
        while len(level) > 1:
            sums = []
            for i in range(0, len(level), 2):
                pair = level[i] if i + 1 == len(level) else level[i] + level[i + 1]
                register = Signal(_SQUARE_BITS + depth + 1, name=f"sum{depth}_{i // 2}", reset_less=True)
                m.d.sync += register.eq(pair)
                sums.append(register)
            level, depth = sums, depth + 1
        first = delay(m, self.first, depth, name="first_late")
        any_ = delay(m, self.keep.any(), depth, name="any_late")
        with m.If(any_):
            m.d.sync += self.ss.eq(Mux(first, self.eps, self.ss) + level[0])
        return m


class PeakUnit(wiring.Component):
    """``min(max |y|, 32767)`` of a vector; ``latency`` cycles behind the last word ``peak`` is there.

    The magnitude of a negative value is its complement, with a bit that says that one more is due: so
    magnitudes are compared, and only the largest is added to.

    :param lanes: elements of a word.

    Members
    -------
    first : In(1)
        The word is the vector's first.
    keep : In(lanes)
        The elements that count.
    y : In(ArrayLayout(signed(16), lanes))
        A word.
    peak : Out(15)
        The largest magnitude.
    """

    @staticmethod
    def latency_of(lanes: int) -> int:
        """Return the ``latency`` for words of ``lanes`` elements."""
        return ceil_log2(lanes) + 3

    def __init__(self, lanes: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        self.lanes = lanes
        self.latency = self.latency_of(lanes)
        super().__init__(
            {
                "first": In(1),
                "keep": In(lanes),
                "y": In(data.ArrayLayout(signed(16), lanes)),
                "peak": Out(15),
            }
        )

    def model(self, y: Sequence[int]) -> int:
        """The peak of one vector."""
        return min(max(abs(v) for v in y), I16_MAX)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        # A magnitude is (complement or value) * 2 + sign: of equal ones the negative is larger by one.
        level: list[Value] = []
        for i in range(self.lanes):
            register = Signal(16, name=f"size_{i}", reset_less=True)
            value = Value.cast(self.y[i])
            size = Cat(value[-1], value[:-1] ^ value[-1].replicate(15))
            m.d.sync += register.eq(Mux(self.keep[i], size, 0))
            level.append(register)
        depth = 1
        while len(level) > 1:
            largest = []
            for i in range(0, len(level), 2):
                x, y = level[i], level[min(i + 1, len(level) - 1)]
                register = Signal(16, name=f"largest{depth}_{i // 2}", reset_less=True)
                m.d.sync += register.eq(Mux(x > y, x, y))
                largest.append(register)
            level, depth = largest, depth + 1
        first = delay(m, self.first, depth, name="first_late")
        any_ = delay(m, self.keep.any(), depth, name="any_late")
        most = Signal(16, name="most", reset_less=True)
        with m.If(any_):
            m.d.sync += most.eq(Mux(first | (level[0] > most), level[0], most))
        # |y| is the complement and one for a negative; 32768 stays 32767.
        up = Signal(16, name="up")
        m.d.comb += up.eq(most[1:] + most[0])
        m.d.sync += self.peak.eq(Mux(up[-1], I16_MAX, up[:15]))
        return m
