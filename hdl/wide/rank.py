"""Find the k-th smallest of many bytes: a count of each value, then a walk over the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["ByteRank"]

_BANKS = 4
"""Counters of a byte, taken in turn, so that a counter is read again only when its new count is written."""
_COUNT_BITS = 17
_SETTLE = 4


class ByteRank(wiring.Component):
    """Counts bytes, one a cycle; a walk finds the byte of the ``need``-th smallest, and clears all counts.

    A byte may come every cycle. A walk takes ``CYCLES``, from ``walk`` to ``done``. In it no byte
    may come. After a reset the counts are unknown until a walk is over.

    Members
    -------
    valid : In(1)
        Count ``byte``.
    byte : In(8)
        The byte.
    walk : In(1)
        Pulse: find the byte.
    need : In(17)
        Which one in the order of size, from 1; stable until ``done``.
    done : Out(1)
        Pulse: ``found`` and ``below`` are there, until the next walk, and the counts are 0.
    found : Out(8)
        The byte; undefined if fewer than ``need`` were counted.
    below : Out(17)
        Bytes that are smaller.
    """

    CYCLES = _SETTLE + 256 * _BANKS + BlockRam.LATENCY + 2

    def __init__(self, *, tech: Technology = Technology.PORTABLE) -> None:
        self.tech = tech
        super().__init__(
            {
                "valid": In(1),
                "byte": In(8),
                "walk": In(1),
                "need": In(17),
                "done": Out(1),
                "found": Out(8),
                "below": Out(17),
            }
        )

    @staticmethod
    def model(values: Sequence[int], need: int) -> tuple[int, int]:
        """``found`` and ``below`` of bytes."""
        found = sorted(values)[need - 1]
        return found, sum(value < found for value in values)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        counts = BlockRam(_COUNT_BITS, 256 * _BANKS, tech=self.tech, memory="counts")
        m.submodules.counts = counts
        bank = Signal(range(_BANKS), name="bank")
        walking, at = Signal(name="walking"), Signal(range(256 * _BANKS), name="at")
        m.d.sync += bank.eq(bank + 1)
        m.d.comb += counts.rd_addr.eq(Mux(walking, at, Cat(bank, self.byte)))
        with m.If(delay(m, self.walk, _SETTLE, name="settled")):
            m.d.sync += [walking.eq(1), at.eq(0)]
        with m.If(walking):
            m.d.sync += at.eq(at + 1)
            with m.If(at == 256 * _BANKS - 1):
                m.d.sync += walking.eq(0)

        # Cycle 2: the count; in a walk it is cleared. 3: one more is written.
        came = delay(m, Cat(self.valid, walking), BlockRam.LATENCY, name="came")
        place = delay(m, counts.rd_addr, BlockRam.LATENCY, name="place", reset_less=True)
        more = Signal(_COUNT_BITS, name="more", reset_less=True)
        writes, written = Signal(name="writes"), Signal.like(place, name="written")
        m.d.sync += [more.eq(Mux(came[1], 0, counts.rd_data + 1)), writes.eq(came.any()), written.eq(place)]
        m.d.comb += [counts.wr_en.eq(writes), counts.wr_addr.eq(written), counts.wr_data.eq(more)]

        # Cycle 3 of a walk: how many up to here; ``before``: up to the byte before.
        total, before, hit = Signal(17, name="total"), Signal(17, name="before"), Signal(name="hit")
        with m.If(came[1]):
            m.d.sync += total.eq(total + counts.rd_data)
            with m.If(place[: len(bank)] == 0):
                m.d.sync += before.eq(total)
        walked = delay(m, came[1], name="walked")
        with m.If(walked & ~hit & (total >= self.need)):
            m.d.sync += [hit.eq(1), self.found.eq(written[len(bank) :]), self.below.eq(before)]
        with m.If(self.walk):
            m.d.sync += [hit.eq(0), total.eq(0)]
        m.d.sync += self.done.eq(walked & ~came[1])
        return m
