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
from ternac.hdl.engine.ports import STREAM_GAP, count_bits, lane_layout

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

    Members
    -------
    y : In(signed(16))
        A result.
    buffer_en : In(1)
        Keep it in the buffer.
    wr_addr : In(lane_depth)
        The word of the buffer for it.
    rd_addr : In(lane_depth)
        The word that streams.
    side_en : In(1)
        Its low byte is the side word at ``slot``.
    slot : In(side_depth)
        The side word.
    stream : In(1)
        The value is the buffer's and the factor ``mantissa``.
    side : In(1)
        The factor is the side word.
    mantissa : In(8)
        The norm's mantissa.
    coarse : In(2)
        The shift's upper part, at cycle 5.
    fine : In(3)
        The shift's lower part, at cycle 6.
    pre_coarse : In(2)
        The upper part of the shift before squaring, at cycle 0.
    pre_fine : In(3)
        Its lower part, at cycle 1.
    square_en : In(1)
        Add the square, at cycle 8.
    square_first : In(1)
        It is the vector's first, at cycle 8.
    square_last : In(1)
        It is the vector's last, at cycle 8.
    drop_last : In(1)
        The last one does not count.
    x : Out(signed(8))
        The value on its way to the x buffer, at cycle `LATENCY`.
    square_sum : Out(square_bits)
        The sum of squares.
    """

    AREA_PART = "side_columns"

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
        attrs = {"ram_style": "distributed"} if self.tech in (Technology.ECP5, Technology.GOWIN) else {}
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


class NormQueue(wiring.Component):
    """The vectors that wait in the side lane for their norm, in a ring, and the norm unit.

    Members
    -------
    enter : In(1)
        A result of a NORM pass comes.
    settings : In(lane_layout)
        Those of its pass.
    squared : In(1)
        Pulse: the squares of a vector are complete in the next cycle.
    sums : In(32).array(columns)
        The sums of squares of all columns.
    tail : Out(tail)
        The columns that the last slot of the vector being squared fills.
    wr_addr : Out(lane_depth)
        Where the result goes.
    rd_next : Out(lane_depth)
        The word to stream in the next cycle; ``rd_addr`` is it, a cycle later.
    rd_addr : In(lane_depth)
        The word that streams.
    stream : Out(1)
        A vector streams.
    first : Out(1)
        Its first slot.
    last : Out(1)
        Its last slot.
    x_dst : Out(x word)
        The word of the x buffer that it goes to.
    context : Out(context)
        Its context.
    mantissa : Out(8)
        Its norm.
    shift : Out(5)
        The shift of its norm.
    claim : In(1)
        Pulse: a NORM pass takes room.
    claim_slots : In(count)
        The slots that it takes.
    room : Out(lane_depth)
        Slots that are free.
    wr_en : In(1)
        Loader: write a word of the tables of reciprocal square roots.
    table_addr : In(addr)
        Loader: the word's address.
    table_data : In(8)
        Loader: the word.
    """

    AREA_PART = "side_lane"

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        # the first slot streams in the cycle in which the norm unit is done
        self.gap = SQUARED + norm_latency(g.columns)
        if self.gap >= STREAM_GAP:
            raise ValueError(f"{g.columns} columns need a gap of {self.gap + 1} cycles, not {STREAM_GAP}")
        lane = lane_layout(g)
        super().__init__(
            {
                "enter": In(1),
                "settings": In(lane),
                "squared": In(1),
                "sums": In(32).array(g.columns),
                "tail": Out(lane["tail"].shape),
                "wr_addr": Out(ceil_log2(g.lane_depth)),
                "rd_next": Out(ceil_log2(g.lane_depth)),
                "rd_addr": In(ceil_log2(g.lane_depth)),
                "stream": Out(1),
                "first": Out(1),
                "last": Out(1),
                "x_dst": Out(lane["x_dst"].shape),
                "context": Out(lane["context"].shape),
                "mantissa": Out(8),
                "shift": Out(5),
                "claim": In(1),
                "claim_slots": In(count_bits(g)),
                "room": Out(bits_for(g.lane_depth)),
                "wr_en": In(1),
                "table_addr": In(ceil_log2(g.norm_tables * 256)),
                "table_data": In(8),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        g, s = self.geometry, self.settings
        m.submodules.norm = norm = NormUnit(columns=g.columns, tables=g.norm_tables)
        kept = ("post", "norm_table", "tail", "x_dst", "context")
        layout = data.StructLayout(
            {name: s.shape()[name].shape for name in kept} | {"slots": bits_for(g.lane_depth)}
        )
        waiting = Array([Signal(layout, name=f"waiting_{i}") for i in range(WAITING)])
        pointer = ceil_log2(WAITING)
        entered, begun, gone = (Signal(pointer, name=name) for name in ("entered", "begun", "gone"))

        # A vector enters, slot by slot; with the last one it has its place in the ring.
        slots = Signal(bits_for(g.lane_depth), name="slots")
        with m.If(self.enter):
            m.d.sync += [self.wr_addr.eq(self.wr_addr + 1), slots.eq(Mux(s.first, 1, slots + 1))]
            with m.If(s.last):
                m.d.sync += entered.eq(entered + 1)
                for name in kept:
                    m.d.sync += Value.cast(waiting[entered][name]).eq(getattr(s, name))
                m.d.sync += waiting[entered]["slots"].eq(Mux(s.first, 1, slots + 1))

        # Its norm begins when its squares are complete.
        start = Signal(name="start")
        m.d.sync += start.eq(self.squared)
        m.d.comb += [
            norm.wr_en.eq(self.wr_en),
            norm.wr_addr.eq(self.table_addr),
            norm.wr_data.eq(self.table_data),
            norm.start.eq(start),
            norm.post.eq(waiting[begun]["post"]),
            norm.table.eq(waiting[begun]["norm_table"]),
            *(into.eq(total) for into, total in zip(norm.sums, self.sums, strict=True)),
            self.tail.eq(waiting[begun]["tail"]),
        ]
        with m.If(start):
            m.d.sync += begun.eq(begun + 1)

        # The stream, from the cycle after the one in which the norm is done. The norm unit is faster with
        # fewer columns; what comes out of it waits. A vector may end in the cycle in which the next one's
        # norm is done.
        left = Signal(bits_for(g.lane_depth), name="left")
        ready = delay(m, norm.done, STREAM_GAP - self.gap - 1, name="ready")
        result = delay(m, Cat(norm.mantissa, norm.shift), STREAM_GAP - self.gap, name="result")
        out = waiting[gone]
        following = waiting[Mux(self.stream & self.last, gone + 1, gone)[:pointer]]
        m.d.sync += self.first.eq(ready)
        with m.If(ready):
            m.d.sync += [
                left.eq(following["slots"]),
                self.stream.eq(1),
                self.last.eq(following["slots"] == 1),
            ]
        with m.Elif(self.stream):
            m.d.sync += [left.eq(left - 1), self.stream.eq(~self.last), self.last.eq(left == 2)]
        with m.If(self.stream & self.last):
            m.d.sync += gone.eq(gone + 1)
        m.d.comb += [
            self.rd_next.eq(self.rd_addr + self.stream),
            self.x_dst.eq(out["x_dst"]),
            self.context.eq(out["context"]),
            Cat(self.mantissa, self.shift).eq(result),
        ]

        # Room is claimed before a vector comes, and free again slot by slot as it streams.
        free = Signal(range(g.lane_depth + 1), init=g.lane_depth, name="free")
        m.d.sync += free.eq(free - Mux(self.claim, self.claim_slots, 0) + self.stream)
        m.d.comb += self.room.eq(free)
        return m


class SideLane(wiring.Component):
    """The side lane ("norm and gate unit") of all columns.

    A result ``y`` of every column enters with ``valid`` and its pass's settings. DIRECT and SIDE results go
    through; those of a NORM pass are kept and squared, and when the norm is known the vector streams
    through, slot after slot, `STREAM_GAP` cycles after its last result. Nothing else may enter then: the
    sequencer sees to that, and claims room for a vector before it comes.

    Members
    -------
    y : In(signed(16)).array(columns)
        The results.
    valid : In(1)
        They are for the x buffer.
    to_side : In(1)
        Their low bytes are the multiplicand of SIDE passes.
    slot : In(slot)
        Their slot.
    settings : In(lane_layout)
        Those of their pass.
    claim : In(1)
        Pulse: a NORM pass takes room in the lane.
    claim_slots : In(count)
        The slots that it takes.
    room : Out(lane_depth)
        Slots that are free.
    x_en : Out(1)
        Write ``x`` to the x buffer.
    x_word : Out(x word)
        The word.
    x_chunk : Out(chunk)
        The chunk of the word.
    x : Out(ArrayLayout(8, columns))
        The bytes.
    retire : Out(1)
        Pulse, two cycles before a matrix pass may begin that reads the pass's last x word.
    retire_context : Out(context)
        The context of that pass.
    norm_wr_en : In(1)
        Loader: write a word of the tables of reciprocal square roots.
    norm_wr_addr : In(addr)
        Loader: the word's address.
    norm_wr_data : In(8)
        Loader: the word.
    """

    AREA_PART = "side_lane"

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        self.chunks = g.lanes // g.columns
        lane = lane_layout(g)
        super().__init__(
            {
                "y": In(signed(16)).array(g.columns),
                "valid": In(1),
                "to_side": In(1),
                "slot": In(ceil_log2(g.bank_depth)),
                "settings": In(lane),
                "claim": In(1),
                "claim_slots": In(count_bits(g)),
                "room": Out(bits_for(g.lane_depth)),
                "x_en": Out(1),
                "x_word": Out(max(1, ceil_log2(g.x_depth))),
                "x_chunk": Out(max(1, ceil_log2(self.chunks))),
                "x": Out(data.ArrayLayout(8, g.columns)),
                "retire": Out(1),
                "retire_context": Out(lane["context"].shape),
                "norm_wr_en": In(1),
                "norm_wr_addr": In(ceil_log2(g.norm_tables * 256)),
                "norm_wr_data": In(8),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        g, s = self.geometry, self.settings
        m.submodules.queue = queue = NormQueue(g)
        is_norm = Signal(name="is_norm")
        m.d.comb += [
            is_norm.eq(self.valid & (s.lane == Lane.NORM)),
            queue.enter.eq(is_norm),
            queue.settings.eq(s),
            queue.claim.eq(self.claim),
            queue.claim_slots.eq(self.claim_slots),
            queue.wr_en.eq(self.norm_wr_en),
            queue.table_addr.eq(self.norm_wr_addr),
            queue.table_data.eq(self.norm_wr_data),
            self.room.eq(queue.room),
        ]
        rd_addr = duplicate_register(m, queue.rd_next, g.columns // NEIGHBOURS, self.tech, "rd_addr")

        # Squares follow their element by 8 cycles.
        squares = delay(m, Cat(is_norm, s.first, s.last), SQUARED - 1, name="squares")
        fine = delay(m, s.pre[:3], name="fine")
        m.d.comb += [queue.squared.eq(squares[0] & squares[2]), queue.rd_addr.eq(rd_addr[0])]

        # Cycle 0: what goes down the lane, a result that passes or a slot of a stream.
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
        entry, stream = Signal(layout, name="lane_0"), queue.stream
        m.d.comb += [
            entry.valid.eq(stream | (self.valid & ~is_norm)),
            entry.first.eq(Mux(stream, queue.first, s.first)),
            entry.last.eq(Mux(stream, queue.last, s.last)),
            entry.shift.eq(Mux(stream, queue.shift, Mux(s.lane == Lane.SIDE, s.post, 0))),
            entry.x_dst.eq(Mux(stream, queue.x_dst, s.x_dst)),
            entry.context.eq(Mux(stream, queue.context, s.context)),
        ]
        stages = [entry]
        for k in range(1, LATENCY):
            late = delay(m, stages[-1].as_value(), name=f"lane_{k}")
            stages.append(data.View(layout, late))

        # Cycle LATENCY: the x buffer takes it.
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
                column.y.eq(self.y[c]),
                column.buffer_en.eq(is_norm),
                column.wr_addr.eq(queue.wr_addr),
                column.rd_addr.eq(rd_addr[c * len(rd_addr) // g.columns]),
                column.side_en.eq(self.to_side),
                column.slot.eq(self.slot),
                column.stream.eq(stream),
                column.side.eq(s.lane == Lane.SIDE),
                column.mantissa.eq(queue.mantissa),
                column.coarse.eq(stages[5].shift[3:]),
                column.fine.eq(stages[6].shift[:3]),
                column.pre_coarse.eq(s.pre[3:]),
                column.pre_fine.eq(fine),
                column.square_en.eq(squares[0]),
                column.square_first.eq(squares[1]),
                column.square_last.eq(squares[2]),
                column.drop_last.eq(queue.tail <= c),
                queue.sums[c].eq(column.square_sum),
                self.x[c].eq(column.x),
            ]
        return m
