"""The side lane between pipelines and x buffer: one more product, or the norm of a whole vector."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import Lane
from ternac.hdl.cells.carry import Gate, add
from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.hdl.cells.registers import delay, duplicate_register
from ternac.hdl.cells.requant import Requant
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.norm import NormUnit, norm_latency
from ternac.hdl.engine.ports import STREAM_GAP, lane_layout

LATENCY = 9
"""Cycles from a result at the lane's entrance to the cycle that writes it to the x buffer."""


def x_ready(geometry: Geometry) -> int:
    """Cycles from a result at the lane's entrance until a matrix pass may begin that reads it.

    The x buffer takes a cycle more than `LATENCY` to write it; where weights pass a register, the first word
    is read a cycle later, too.
    """
    return LATENCY - geometry.weight_register


SQUARED = 9
"""Cycles from a vector's last result to its sums of squares."""
NEIGHBOURS = 4
"""Columns that share a read address."""
WAITING = 4
"""Vectors that may wait for their norm."""


class SideColumn(wiring.Component):
    """One column of the side lane.

    An element enters at cycle 0, from ``y`` or, with ``stream``, from word ``rd_addr`` of the buffer that
    ``y`` was written to; ``x`` is ``sat8(rshift_round(value * factor, shift))`` at cycle `LATENCY`, with
    factor = ``mantissa`` with ``stream``, else the side word at ``slot`` with ``side``, else 1. The shift
    comes in two parts, ``coarse`` (shift >> 3) at cycle 5 and ``fine`` (shift & 7) at cycle 6.

    ``square_sum`` is the sum of ``sat8(rshift_round(y, pre)) ** 2`` over a vector: ``square_en`` with
    ``square_first`` and ``square_last`` at cycle 8 of each element, ``pre_coarse`` at cycle 0 and
    ``pre_fine`` at cycle 1. Where ``drop_last`` is high the last one is left out.

    Members: ``y`` signed(16), ``buffer_en``, ``wr_addr``, ``rd_addr``, ``side_en`` (write y's low byte at
    ``slot``), ``slot``, ``stream``, ``side``, ``mantissa``(8), ``coarse``, ``fine``, ``pre_coarse``,
    ``pre_fine``, ``square_*``, ``drop_last`` : In.   ``x`` signed(8), ``square_sum`` : Out.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        # 15 bits of a square, and as many as the slots of the deepest vector add
        self.square_bits = 15 + ceil_log2(g.lane_depth)
        super().__init__({
            "y": In(signed(16)),
            "buffer_en": In(1),
            "wr_addr": In(ceil_log2(g.lane_depth)), "rd_addr": In(ceil_log2(g.lane_depth)),
            "side_en": In(1), "slot": In(ceil_log2(g.side_depth)),
            "stream": In(1), "side": In(1), "mantissa": In(8), "coarse": In(2), "fine": In(3),
            "pre_coarse": In(2), "pre_fine": In(3),
            "square_en": In(1), "square_first": In(1), "square_last": In(1), "drop_last": In(1),
            "x": Out(signed(8)),
            "square_sum": Out(self.square_bits),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        g = self.geometry
        attrs = {"ram_style": "distributed"} if self.tech == Technology.ECP5 else {}
        m.submodules.buffer = buffer = Memory(shape=16, depth=g.lane_depth, init=[], attrs=attrs)
        m.submodules.side = side = Memory(shape=8, depth=g.side_depth, init=[], attrs=attrs)
        write, read = write_port(buffer), read_port(buffer, domain="comb")
        side_write = write_port(side, name="side_write")
        side_read = read_port(side, domain="comb", name="side_read")
        m.d.comb += [
            write.en.eq(self.buffer_en), write.addr.eq(self.wr_addr), write.data.eq(self.y),
            read.addr.eq(self.rd_addr),
            side_write.en.eq(self.side_en), side_write.addr.eq(self.slot), side_write.data.eq(self.y[:8]),
            side_read.addr.eq(self.slot),
        ]  # fmt: skip

        # cycles 0 and 1: the factor goes to the multiplier a cycle before the value
        m.submodules.multiply = multiply = ShiftAddMultiplier(16, 9, tech=self.tech)
        m.submodules.requant = requant = Requant(25, wide=False)
        value, later, factor = (
            Signal(signed(16), name="value"),
            Signal(signed(16), name="later"),
            Signal(signed(9), name="factor"),
        )
        alone = Mux(self.side, side_read.data.as_signed(), Const(1, signed(8)))
        m.d.sync += [
            value.eq(Mux(self.stream, read.data, self.y)),
            later.eq(value),
            factor.eq(Mux(self.stream, Cat(self.mantissa, Const(0, 1)).as_signed(), alone)),
        ]
        m.d.comb += [
            multiply.b.eq(factor), multiply.a.eq(later),
            requant.x.eq(multiply.p), requant.coarse.eq(self.coarse), requant.fine.eq(self.fine),
            self.x.eq(requant.y),
        ]  # fmt: skip

        # squares: cycle 4 the rounded value, cycle 8 its square
        m.submodules.scale = scale = Requant(16, wide=False)
        m.submodules.square = square = ShiftAddMultiplier(8, 9, tech=self.tech)
        small = Signal(signed(8), name="small")
        m.d.comb += [
            scale.x.eq(self.y), scale.coarse.eq(self.pre_coarse), scale.fine.eq(self.pre_fine),
            square.b.eq(scale.y), square.a.eq(small),
        ]  # fmt: skip
        m.d.sync += small.eq(scale.y)
        drop = self.square_last & self.drop_last
        total = add(
            m,
            self.tech,
            "square_add",
            self.square_bits,
            Cat(square.p[:15], Const(0, 1)),
            Cat(self.square_sum, Const(0, 1)),
            Gate.KEEP,
            c=~self.square_first,
        )
        with m.If(self.square_en & drop & self.square_first):
            m.d.sync += self.square_sum.eq(0)
        with m.Elif(self.square_en & ~drop):
            m.d.sync += self.square_sum.eq(total)
        return m


class SideLane(wiring.Component):
    """The side lane of all columns and the norm unit in it.

    A result ``y`` of every column enters with ``valid`` and its pass's settings. DIRECT and SIDE results go
    through; those of a NORM pass are kept and squared, and when the norm is known the vector streams
    through, slot after slot, `STREAM_GAP` cycles after its last result. Nothing else may enter then: the
    sequencer sees to that, and claims room for a vector before it comes.

    Members
    -------
    y : In, signed(16) a column.   valid(1), to_side(1), slot, settings : In, see `lane_layout`.
    claim(1), claim_slots : In;  room : Out.
    x_en(1), x_word, x_chunk, x : Out, write port of the x buffer, 8 bits a column.
    retire(1), retire_context : Out, two cycles before a matrix pass may begin that reads the pass's last x
    word.
    norm_wr_en, norm_wr_addr, norm_wr_data(8) : In, loader's port of the rsqrt tables.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        # the first slot streams in the cycle in which the norm unit is done
        self.gap = SQUARED + norm_latency(g.columns)
        if self.gap >= STREAM_GAP:
            raise ValueError(f"{g.columns} columns need a gap of {self.gap + 1} cycles, not {STREAM_GAP}")
        self.chunks = g.lanes // g.columns
        bank = ceil_log2(g.bank_depth)
        super().__init__({
            "y": In(signed(16)).array(g.columns),
            "valid": In(1), "to_side": In(1), "slot": In(bank), "settings": In(lane_layout(g)),
            "claim": In(1), "claim_slots": In(bits_for(max(g.bank_depth, g.bias_depth))),
            "room": Out(bits_for(g.lane_depth)),
            "x_en": Out(1), "x_word": Out(max(1, ceil_log2(g.x_depth))),
            "x_chunk": Out(max(1, ceil_log2(self.chunks))), "x": Out(data.ArrayLayout(8, g.columns)),
            "retire": Out(1), "retire_context": Out(lane_layout(g)["context"].shape),
            "norm_wr_en": In(1), "norm_wr_addr": In(ceil_log2(g.norm_tables * 256)), "norm_wr_data": In(8),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        g, s = self.geometry, self.settings
        m.submodules.norm = norm = NormUnit(columns=g.columns, tables=g.norm_tables)
        is_norm = Signal(name="is_norm")
        m.d.comb += [
            is_norm.eq(self.valid & (s.lane == Lane.NORM)),
            norm.wr_en.eq(self.norm_wr_en),
            norm.wr_addr.eq(self.norm_wr_addr),
            norm.wr_data.eq(self.norm_wr_data),
        ]

        # vectors that wait for their norm, in a ring: entered at `entered`, their norm begun at `begun`,
        # out at `gone`
        layout = data.StructLayout(
            {name: s.shape()[name].shape for name in ("post", "norm_table", "tail", "x_dst", "context")}
            | {"slots": bits_for(g.lane_depth)}
        )
        waiting = Array([Signal(layout, name=f"waiting_{i}") for i in range(WAITING)])
        pointer = ceil_log2(WAITING)
        entered, begun, gone = (
            Signal(pointer, name="entered"),
            Signal(pointer, name="begun"),
            Signal(pointer, name="gone"),
        )
        wr_addr, rd_next = (
            Signal(ceil_log2(g.lane_depth), name="wr_addr"),
            Signal(ceil_log2(g.lane_depth), name="rd_next"),
        )
        rd_addr = duplicate_register(m, rd_next, g.columns // NEIGHBOURS, self.tech, "rd_addr")
        slots = Signal(bits_for(g.lane_depth), name="slots")
        with m.If(is_norm):
            m.d.sync += [wr_addr.eq(wr_addr + 1), slots.eq(Mux(s.first, 1, slots + 1))]
            with m.If(s.last):
                m.d.sync += entered.eq(entered + 1)
                for name in ("post", "norm_table", "tail", "x_dst", "context"):
                    m.d.sync += Value.cast(waiting[entered][name]).eq(getattr(s, name))
                m.d.sync += waiting[entered]["slots"].eq(Mux(s.first, 1, slots + 1))

        # squares follow their element by 8 cycles
        track = Signal(3, name="track")
        m.d.comb += track.eq(Cat(is_norm, s.first, s.last))
        squares = delay(m, track, SQUARED - 1)
        fine = Signal(3, name="fine")
        m.d.sync += fine.eq(s.pre[:3])
        start = Signal(name="start")
        m.d.sync += start.eq(squares[0] & squares[2])
        m.d.comb += [
            norm.start.eq(start),
            norm.post.eq(waiting[begun]["post"]),
            norm.table.eq(waiting[begun]["norm_table"]),
        ]
        with m.If(start):
            m.d.sync += begun.eq(begun + 1)

        # the stream: from the cycle after the one in which the norm is done
        left = Signal(bits_for(g.lane_depth), name="left")
        stream, stream_first, stream_last = (
            Signal(name="stream"),
            Signal(name="stream_first"),
            Signal(name="stream_last"),
        )
        out = waiting[gone]
        # a vector may end in the cycle in which the next one's norm is done
        next_out = waiting[Mux(stream & stream_last, gone + 1, gone)[:pointer]]
        # the norm unit is faster with fewer columns; what comes out of it waits
        ready = delay(m, norm.done, STREAM_GAP - self.gap - 1)
        result = delay(m, Cat(norm.mantissa, norm.shift), STREAM_GAP - self.gap)
        mantissa, shift = Signal(8, name="mantissa"), Signal(5, name="shift")
        m.d.comb += Cat(mantissa, shift).eq(result)
        m.d.sync += stream_first.eq(ready)
        with m.If(ready):
            m.d.sync += [left.eq(next_out["slots"]), stream.eq(1), stream_last.eq(next_out["slots"] == 1)]
        with m.Elif(stream):
            m.d.sync += [left.eq(left - 1), stream.eq(~stream_last), stream_last.eq(left == 2)]
        m.d.comb += rd_next.eq(rd_addr[0] + stream)
        with m.If(stream):
            with m.If(stream_last):
                m.d.sync += gone.eq(gone + 1)
        free = Signal(range(g.lane_depth + 1), init=g.lane_depth, name="free")
        m.d.sync += free.eq(free - Mux(self.claim, self.claim_slots, 0) + stream)
        m.d.comb += self.room.eq(free)

        # what goes down the lane
        passing = Signal(name="passing")
        m.d.comb += passing.eq(self.valid & ~is_norm)
        layout = data.StructLayout(
            {
                "valid": 1,
                "first": 1,
                "last": 1,
                "shift": 5,
                "x_dst": s.x_dst.shape(),
                "context": s.context.shape(),
            }
        )
        entry = Signal(layout, name="entry")
        m.d.comb += [
            entry.valid.eq(stream | passing),
            entry.first.eq(Mux(stream, stream_first, s.first)),
            entry.last.eq(Mux(stream, stream_last, s.last)),
            entry.shift.eq(Mux(stream, shift, Mux(s.lane == Lane.SIDE, s.post, 0))),
            entry.x_dst.eq(Mux(stream, out["x_dst"], s.x_dst)),
            entry.context.eq(Mux(stream, out["context"], s.context)),
        ]
        stages = [entry]
        for k in range(1, LATENCY):
            stage = Signal(layout, name=f"lane_{k}")
            m.d.sync += stage.eq(stages[-1])
            stages.append(stage)
        ahead = stages[LATENCY - 1]
        m.d.sync += self.x_en.eq(ahead.valid)
        with m.If(ahead.valid):
            with m.If(ahead.first):
                m.d.sync += [self.x_word.eq(ahead.x_dst), self.x_chunk.eq(0)]
            with m.Elif(self.x_chunk == self.chunks - 1):
                m.d.sync += [self.x_word.eq(self.x_word + 1), self.x_chunk.eq(0)]
            with m.Else():
                m.d.sync += self.x_chunk.eq(self.x_chunk + 1)
        before = stages[x_ready(g) - 2]
        m.d.comb += [self.retire.eq(before.valid & before.last), self.retire_context.eq(before.context)]

        for c in range(g.columns):
            m.submodules[f"column_{c}"] = column = SideColumn(g, tech=self.tech)
            m.d.comb += [
                column.y.eq(self.y[c]), column.buffer_en.eq(is_norm), column.wr_addr.eq(wr_addr),
                column.rd_addr.eq(rd_addr[c * len(rd_addr) // g.columns]),
                column.side_en.eq(self.to_side), column.slot.eq(self.slot),
                column.stream.eq(stream), column.side.eq(s.lane == Lane.SIDE), column.mantissa.eq(mantissa),
                column.coarse.eq(stages[5].shift[3:]), column.fine.eq(stages[6].shift[:3]),
                column.pre_coarse.eq(s.pre[3:]), column.pre_fine.eq(fine),
                column.square_en.eq(squares[0]), column.square_first.eq(squares[1]),
                column.square_last.eq(squares[2]), column.drop_last.eq(waiting[begun]["tail"] <= c),
                norm.sums[c].eq(column.square_sum), self.x[c].eq(column.x),
            ]  # fmt: skip
        return m
