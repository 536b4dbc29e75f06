"""RMS norm, the part between the two passes: column sums of squares in, mantissa and shift out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.hdl.cells.memory import read_port, write_port

__all__ = ["NormUnit", "norm_latency"]

_ENTRIES = 256
_NORMALISE = 3  # steps of 16, 8, and 4 with 2 bits
_LOOKUP = 2  # table read, output register


def norm_latency(columns: int) -> int:
    """Cycles from ``start`` to ``done`` of a ``NormUnit`` for this number of column sums."""
    return ceil_log2(columns) + _NORMALISE + _LOOKUP


class NormUnit(wiring.Component):
    """Turns the sums of squares of a NORM statistics pass into the factor of its scaling pass.

    Formula (docs/numerics.md, NORM): ``ss`` = sum of the column sums; ``ss == 0``: E = 0, idx = 0; otherwise
    E = floor(log2 ss) div 2 and idx = ss >> (2E - 6) (to the left for E < 3), so 64 <= idx <= 255;
    mantissa = table[idx], shift = post + E.

    Timing: ``sums``, ``table`` and ``post`` are sampled in the cycle in which ``start`` is high. ``done`` is
    high for one cycle exactly :attr:`latency` cycles later; in that cycle and until the next ``done``,
    ``mantissa`` and ``shift`` hold the result. ``busy`` is high from the cycle after ``start`` to the one
    before ``done``; ``start`` is then ignored and the table must not be written.

    Parameters
    ----------
    columns : number of column sums, 1..256.
    tables : number of rsqrt tables, 1..16.

    ``latency``, from ``start`` to ``done``, is ceil_log2(columns) + 5 cycles (4 columns: 7, 12 columns: 9).
    Area: 113 LUT4 and a block RAM for 2 columns (``synth_ice40``).

    Members
    -------
    sums : In(unsigned(32)).array(columns)
        Sums of squares; their total is below 2**32, true for every legal program.
    start : In(1)
        Pulse: begin.
    post : In(5)
        A shift; post + E is at most 31, a legality rule.
    table : In(table)
        The table of reciprocal square roots.
    busy : Out(1)
        It works.
    done : Out(1)
        Pulse: there is the result.
    mantissa : Out(8)
        The factor.
    shift : Out(5)
        Its shift.
    wr_en : In(1)
        Loader: write an entry of the tables.
    wr_addr : In(addr)
        Loader: table * 256 + index.
    wr_data : In(8)
        Loader: the entry.
    """

    AREA_PART = "norm"

    def __init__(self, *, columns: int, tables: int = 1) -> None:
        if not 1 <= columns <= 256:
            raise ValueError(f"columns must be 1..256, not {columns!r}")
        if not 1 <= tables <= 16:
            raise ValueError(f"tables must be 1..16, not {tables!r}")
        self.columns = columns
        self.tables = tables
        address_bits = ceil_log2(tables * _ENTRIES)
        super().__init__(
            {
                "sums": In(unsigned(32)).array(columns),
                "start": In(1),
                "post": In(5),
                "table": In(max(1, ceil_log2(tables))),
                "busy": Out(1),
                "done": Out(1),
                "mantissa": Out(8),
                "shift": Out(5),
                "wr_en": In(1),
                "wr_addr": In(address_bits),
                "wr_data": In(8),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from ``start`` to ``done``."""
        return norm_latency(self.columns)

    @staticmethod
    def model(sums: Sequence[int], table: np.ndarray, post: int) -> tuple[int, int]:
        """(mantissa, shift) for column sums, one table u8[256] and the op's ``post``."""
        ss = sum(int(value) for value in sums)
        if ss >= 1 << 32:
            raise ValueError(f"sum of squares {ss} does not fit 32 bits")
        exponent = max(ss.bit_length() - 1, 0) // 2
        index = ss >> (2 * exponent - 6) if exponent >= 3 else ss << (6 - 2 * exponent)
        return int(table[index]), post + exponent

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()

        valid = Signal(self.latency, name="valid")
        m.d.comb += [self.busy.eq(valid[:-1].any()), self.done.eq(valid[-1])]
        m.d.sync += valid.eq(Cat(self.start & ~self.busy, valid[:-1]))

        post = Signal.like(self.post, name="post")
        table = Signal.like(self.table, name="table")
        with m.If(self.start & ~self.busy):
            m.d.sync += [post.eq(self.post), table.eq(self.table)]

        # Pipelined adder tree, free running: `valid` says when its root means something.
        level = list(self.sums)
        depth = 0
        while len(level) > 1:
            following = []
            for i in range(0, len(level), 2):
                node = Signal(32, name=f"tree_{depth}_{i // 2}")
                m.d.sync += node.eq(sum(level[i + 1 : i + 2], start=level[i]))
                following.append(node)
            level = following
            depth += 1

        # Shift left by 16, 8, 4, 2 where the top is empty: the top 8 bits become idx, the shifts taken
        # are 15 - E. An empty sum takes every shift and so ends at E = 0, idx = 0 by itself. Bits that cannot
        # reach the top are dropped on the way.
        def step(value: Signal, width: int, amount: int) -> tuple[Signal, Signal]:
            empty = Signal(name=f"empty_{amount}")
            shifted = Signal(width, name=f"shifted_{amount}")
            moved = Cat(Const(0, amount), value[:-amount])
            m.d.comb += empty.eq(~value[-amount:].any())
            m.d.comb += shifted.eq(Mux(empty, moved[-width:], value[-width:]))
            return shifted, empty

        shifted, empty16 = step(level[0], 22, 16)
        after16, taken16 = Signal(22, name="after16"), Signal(name="taken16")
        m.d.sync += [after16.eq(shifted), taken16.eq(empty16)]

        shifted, empty8 = step(after16, 14, 8)
        after8, taken8 = Signal(14, name="after8"), Signal(2, name="taken8")
        m.d.sync += [after8.eq(shifted), taken8.eq(Cat(empty8, taken16))]

        shifted, empty4 = step(after8, 10, 4)
        shifted, empty2 = step(shifted, 8, 2)
        index, exponent = Signal(8, name="index"), Signal(4, name="exponent")
        exponent_read = Signal(4, name="exponent_read")
        m.d.sync += [index.eq(shifted), exponent.eq(~Cat(empty2, empty4, taken8)), exponent_read.eq(exponent)]

        m.submodules.table = memory = Memory(shape=8, depth=self.tables * _ENTRIES, init=[])
        write, read = write_port(memory), read_port(memory, domain="comb")
        address_bits = len(self.wr_addr)
        m.d.comb += [
            write.en.eq(self.wr_en),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
            read.addr.eq(Cat(index, table)[:address_bits]),
        ]
        entry = Signal(8, name="entry")
        with m.If(~self.wr_en):  # with this, synthesis knows that the block RAM's ports never collide
            m.d.sync += entry.eq(read.data)
        with m.If(valid[-2]):
            m.d.sync += [self.mantissa.eq(entry), self.shift.eq(post + exponent_read)]
        return m
