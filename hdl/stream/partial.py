"""Sums of one row from several ports, each of which has a share of the columns, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["PartialSums"]


class PartialSums(wiring.Component):
    """Adds the sums of ``ports`` streams, row by row, in a tree: a row a cycle, `latency` cycles later.

    The whole sum fits ``bits``, as each part does.

    Members
    -------
    parts : Array(In(stream.Signature(sum_layout)))
        ``sum`` of a row over a port's columns, ``last`` with a matrix's last; taken when all have one.
    sums : Out(stream.Signature(sum_layout))
        ``sum`` of the row, and ``last``.
    fault : Out(1)
        Sticky until ``clear``: a row was the last one of some ports only.
    clear : In(1)
        Pulse: forget the fault.
    """

    def __init__(self, ports: int, *, bits: int = 24) -> None:
        if ports < 1:
            raise ValueError(f"ports must be at least 1, not {ports}")
        self.ports, self.bits = ports, bits
        self.latency = ceil_log2(ports)
        """Cycles from a row that is taken to its sum, if nobody lets it wait."""
        self.sum_layout = data.StructLayout({"sum": signed(bits), "last": 1})
        super().__init__(
            {
                "parts": In(stream.Signature(self.sum_layout)).array(ports),
                "sums": Out(stream.Signature(self.sum_layout)),
                "fault": Out(1),
                "clear": In(1),
            }
        )

    @staticmethod
    def model(parts: Sequence[Sequence[tuple[int, int]]]) -> tuple[list[tuple[int, int]], bool]:
        """(sum, last) of each row from those of each port, and the fault."""
        rows = list(zip(*parts, strict=True))
        sums = [(sum(x for x, _ in row), row[0][1]) for row in rows]
        return sums, any(len({last for _, last in row}) > 1 for row in rows)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = [self.parts[i] for i in range(self.ports)]
        moves, all_here = Signal(name="moves"), Signal(name="all_here")
        m.d.comb += all_here.eq(Cat(port.valid for port in ports).all())
        # The stages move together: whenever the last one is empty or taken.
        level: list[Value] = [port.payload.sum for port in ports]
        valid: Value = all_here
        last: Value = ports[0].payload.last
        depth = 0
        while len(level) > 1:
            following: list[Value] = []
            for i in range(0, len(level), 2):
                register = Signal(signed(self.bits), name=f"sum{depth}_{i // 2}", reset_less=True)
                with m.If(moves):
                    m.d.sync += register.eq(level[i] + level[i + 1] if i + 1 < len(level) else level[i])
                following.append(register)
            valid_late, last_late = Signal(name=f"valid{depth}"), Signal(name=f"last{depth}")
            with m.If(moves):
                m.d.sync += [valid_late.eq(valid), last_late.eq(last)]
            level, valid, last, depth = following, valid_late, last_late, depth + 1
        ends = Cat(port.payload.last for port in ports)
        m.d.comb += [
            self.sums.valid.eq(valid),
            self.sums.payload.sum.eq(level[0]),
            self.sums.payload.last.eq(last),
            moves.eq(~valid | self.sums.ready if depth else self.sums.ready),
            *(port.ready.eq(all_here & moves) for port in ports),
        ]
        held = self.fault & ~self.clear
        m.d.sync += self.fault.eq(held | (all_here & moves & ends.any() & ~ends.all()))
        return m
