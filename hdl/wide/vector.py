"""Vector memory and lanes of the wide unit: one issue after the other, a word of elements a cycle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ternac.compile.wide_code import FIELDS, Factor
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.wide.curve import CurveMemory
from ternac.hdl.wide.lane import FACTOR_BITS, WideLane
from ternac.hdl.wide.reduce import SUM_BITS, PeakUnit, SquareSum
from ternac.hdl.wide.rounding import SHIFT_BITS
from ternac.program.import_ops import interp
from ternac.program.numerics import rshift_round, sat8, sat16

__all__ = ["VectorIssue", "VectorUnit"]

WORDS_BITS = FIELDS["words"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VectorIssue:
    """One issue: ``length`` elements, places in words; the other fields as members of `VectorUnit`."""

    length: int
    a: int = 0
    b: int = 0
    c: int = 0
    out: int = 0
    factor: Factor = Factor.VALUE
    value: int = 1
    shift: int = 0
    slot: int = 0
    add: bool = False
    narrow: bool = False
    store: bool = True
    squares: bool = False
    eps: int = 0


class VectorUnit(wiring.Component):
    """``lanes`` elements a cycle: ``sat(rshift_round(a * factor, shift) + c)``, vectors in its memory.

    An issue is taken when the one before it has begun ``latency`` cycles ago and has been issued whole, so
    it reads the results of all before it, where their words follow each other alike. Three copies of the
    memory give a word to a, b and c in one cycle. A write from outside takes the place of a word of an issue:
    it is never refused, and can be read ``latency`` cycles later, as results can.

    :param lanes: elements of a word.
    :param depth: words of vector memory.
    :param slots: curves that are held.

    Members
    -------
    issue : In(stream.Signature(issue_layout))
        ``words`` less one, elements of the last word less one (``tail``), word addresses ``a``, ``b``, ``c``
        and ``out``; ``factor`` (`Factor`) and its ``value``; ``add``: the vector at c is added; ``shift``;
        ``narrow``: to i8 on ``x``; ``store``: the result is kept; ``squares``: sum of a * b from ``eps`` on,
        else the peak of the results; ``slot`` of the curve.
    gains : In(stream.Signature(ArrayLayout(signed(16), lanes)))
        Words for GAIN, one each.
    wr_en : In(1)
        Write a word: of a row of an embedding, of the sums of a matrix, of a state.
    wr : In(write_layout)
        ``address``, ``keep`` (one bit an element), ``data``.
    peek : In(range(depth))
        While no issue is active, the address of a word.
    peeked : Out(ArrayLayout(signed(16), lanes))
        The word, BlockRam.LATENCY cycles later.
    curve_* : In
        As wr_* of CurveMemory: a point of a curve.
    x_valid : Out(1)
        Pulse: a word of activations.
    x_addr : Out(range(depth))
        Its address, from ``out``.
    x_data : Out(8 * lanes)
        The activations.
    x_last : Out(1)
        The issue's last word of them.
    y_valid : Out(1)
        Pulse: a word of results is kept.
    y_addr : Out(range(depth))
        Where.
    y_keep : Out(lanes)
        The elements of it that are.
    y_data : Out(ArrayLayout(signed(16), lanes))
        The word.
    squared : Out(1)
        Pulse: ``ss`` is that of an issue with ``squares``.
    peaked : Out(1)
        Pulse: ``peak`` is that of an issue without.
    ss : Out(47)
        Sum of squares, at the pulse.
    peak : Out(15)
        Largest magnitude, at the pulse.
    reading : Out(1)
        Words or curves may still be read by an issue.
    idle : Out(1)
        Nothing is issued or on its way.
    """

    OPERANDS = BlockRam.LATENCY + CurveMemory.LATENCY
    """Cycles from an address to the lanes."""
    LATENCY = OPERANDS + WideLane.LATENCY + 1
    """Cycles from a word's issue to that of one that reads its results."""

    def __init__(
        self, lanes: int, depth: int, *, slots: int = 2, tech: Technology = Technology.PORTABLE
    ) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes}")
        self.lanes, self.depth, self.slots, self.tech = lanes, depth, slots, tech
        self.operands, self.latency = self.OPERANDS, self.LATENCY
        place = range(depth)
        self.issue_layout = data.StructLayout(
            {
                "words": WORDS_BITS,
                "tail": range(max(2, lanes)),
                **dict.fromkeys(("a", "b", "c", "out"), place),
                "factor": 3,
                "value": signed(FACTOR_BITS),
                "shift": SHIFT_BITS,
                "slot": range(max(2, slots)),
                **dict.fromkeys(("add", "narrow", "store", "squares"), 1),
                "eps": SUM_BITS,
            }
        )
        self.word_layout = data.ArrayLayout(signed(16), lanes)
        self.write_layout = data.StructLayout({
            "address": range(depth), "keep": lanes, "data": self.word_layout
        })  # fmt: skip
        super().__init__({
            "issue": In(stream.Signature(self.issue_layout)),
            "gains": In(stream.Signature(self.word_layout)),
            "wr_en": In(1), "wr": In(self.write_layout),
            "peek": In(place), "peeked": Out(self.word_layout),
            "curve_en": In(1), "curve_slot": In(range(slots)), "curve_point": In(11),
            "curve_data": In(signed(16)),
            "x_valid": Out(1), "x_addr": Out(range(depth)), "x_data": Out(8 * lanes),
            "x_last": Out(1),
            "y_valid": Out(1), "y_addr": Out(range(depth)), "y_keep": Out(lanes),
            "y_data": Out(self.word_layout),
            "squared": Out(1), "peaked": Out(1), "ss": Out(SUM_BITS), "peak": Out(15),
            "reading": Out(1), "idle": Out(1),
        })  # fmt: skip

    def model(
        self, memory: Ints, issue: VectorIssue, gains: Any = None, curves: Sequence[Any] = ()
    ) -> tuple[Ints, int]:
        """Results of an issue on ``memory`` (elements), which keeps them if they are stored; ss or peak.

        Without ``narrow`` only; of activations the results come back.
        """
        n = issue.length
        a, b, c = (memory[at * self.lanes : at * self.lanes + n] for at in (issue.a, issue.b, issue.c))
        addend = c if issue.add or issue.factor is Factor.BLEND else 0
        match issue.factor:
            case Factor.CURVE:
                total = np.asarray(interp(a, curves[issue.slot]), np.int64)
                product = total
            case factor:
                by = {Factor.VECTOR: b, Factor.BLEND: b - c, Factor.VALUE: issue.value, Factor.GAIN: gains}
                product = a * by[factor]
                total = rshift_round(product, issue.shift) + addend
        y: Ints = sat8(total) if issue.narrow else sat16(total)
        if issue.store and not issue.narrow:
            memory[issue.out * self.lanes : issue.out * self.lanes + n] = y
        if issue.squares:
            return y, int(product.sum()) + issue.eps
        return y, min(int(np.abs(y).max()), 32767)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        now = Signal(self.issue_layout, name="now")
        active, left, since = Signal(name="active"), Signal(WORDS_BITS, name="left"), Signal(5, name="since")
        first, go = Signal(name="first"), Signal(name="go")
        # Writes from outside: a word waits for as long as one of an issue would be on its way.
        m.submodules.writes = writes = SyncFIFO(width=self.write_layout.size, depth=self.latency + 1)
        m.d.comb += [
            writes.w_data.eq(self.wr),
            writes.w_en.eq(self.wr_en),
            self.issue.ready.eq((~active | (go & (left == 0))) & (since >= self.latency - 1)),
            go.eq(active & ~self.wr_en & ((now.factor != Factor.GAIN) | self.gains.valid)),
            self.gains.ready.eq(go & (now.factor == Factor.GAIN)),
        ]
        with m.If((since < self.latency) & ~(active & ~go)):
            m.d.sync += since.eq(since + 1)
        with m.If(go):
            m.d.sync += [left.eq(left - 1), active.eq(left != 0), first.eq(0)]
            m.d.sync += [now[name].eq(now[name] + 1) for name in ("a", "b", "c")]
        with m.If(self.issue.valid & self.issue.ready):
            m.d.sync += [now.eq(self.issue.payload), left.eq(self.issue.payload.words)]
            m.d.sync += [active.eq(1), first.eq(1), since.eq(0)]
        # What comes along with each word: whether there is one, the vector's first, the vector's last.
        flags = Cat(go, go & first, go & (left == 0))
        self._lanes(m, now, active, flags, writes)
        self._reductions(m, now, flags)
        busy = Signal(range(2 * self.latency + 16), name="busy")
        with m.If(go):
            m.d.sync += busy.eq(2 * self.latency + 15)
        with m.Elif(busy.any()):
            m.d.sync += busy.eq(busy - 1)
        late = Signal(range(self.operands + 1), name="late")
        with m.If(go):
            m.d.sync += late.eq(self.operands)
        with m.Elif(late.any()):
            m.d.sync += late.eq(late - 1)
        m.d.comb += [
            self.reading.eq(active | late.any()),
            self.idle.eq(~active & ~busy.any() & ~writes.r_rdy),
        ]
        return m

    def _lanes(self, m: Module, now: Any, active: Value, flags: Value, writes: SyncFIFO) -> None:
        """Memories, operands, lanes, results."""
        pending = data.View(self.write_layout, writes.r_data)
        setting = self._setting(m, now, flags, self.operands)
        ending = self._setting(m, now, flags, self.operands + WideLane.LATENCY)
        at_lanes = delay(m, flags, self.operands, name="at_lanes")
        at_end = delay(m, at_lanes, WideLane.LATENCY, name="at_end")
        out = Signal(range(self.depth), name="out")  # address of the next result
        with m.If(delay(m, at_lanes[1], WideLane.LATENCY - 1, name="before_end")):
            m.d.sync += out.eq(now.out)
        with m.Elif(at_end[0]):
            m.d.sync += out.eq(out + 1)
        keep = self._keep(m, at_end[2], ending.tail, "keep_end")
        stored, outside = Signal(name="stored"), Signal(name="outside")
        m.d.comb += [
            stored.eq(at_end[0] & ending.store & ~ending.narrow),
            outside.eq(delay(m, self.wr_en, self.operands + WideLane.LATENCY, name="outside")),
            writes.r_en.eq(outside),
            self.y_valid.eq(stored),
            self.y_addr.eq(out),
            self.y_keep.eq(keep),
            self.x_valid.eq(at_end[0] & ending.narrow),
            self.x_addr.eq(out),
            self.x_last.eq(at_end[2] & ending.narrow),
        ]
        gains = delay(m, self.gains.payload.as_value(), self.operands, name="gains_late", reset_less=True)
        slot = delay(m, now.slot, BlockRam.LATENCY, name="slot_late", reset_less=True)
        self.y: list[Value] = []
        self.products: list[Value] = []
        for i in range(self.lanes):
            m.submodules[f"lane{i}"] = lane = WideLane()
            m.submodules[f"curve{i}"] = curve = CurveMemory(self.slots, tech=self.tech)
            read = []
            for name in ("a", "b", "c"):
                copy = BlockRam(16, self.depth, tech=self.tech, memory=f"vectors_{name}", block=i)
                m.submodules[f"vectors_{name}{i}"] = copy
                m.d.comb += [
                    copy.rd_addr.eq(Mux(active, now[name], self.peek) if name == "a" else now[name]),
                    copy.wr_en.eq((stored & keep[i]) | (outside & pending.keep[i])),
                    copy.wr_addr.eq(Mux(stored, out, pending.address)),
                    copy.wr_data.eq(Mux(stored, lane.y, pending.data[i])),
                ]
                read.append(copy.rd_data.as_signed())
            m.d.comb += self.peeked[i].eq(read[0])
            m.d.comb += [
                curve.wr_en.eq(self.curve_en), curve.wr_slot.eq(self.curve_slot),
                curve.wr_point.eq(self.curve_point), curve.wr_data.eq(self.curve_data),
                curve.x.eq(read[0]), curve.slot.eq(slot),
            ]  # fmt: skip
            # Cycles 2 to 5: beside the curve's memories, the difference of BLEND.
            late = CurveMemory.LATENCY
            a, b, c = (delay(m, x, late, name="operand", reset_less=True) for x in read)
            difference = Signal(signed(17), name=f"difference{i}", reset_less=True)
            m.d.sync += difference.eq(read[1] - read[2])
            difference_late = delay(m, difference, late - 1, name="difference_late", reset_less=True)
            with m.Switch(setting.factor):
                with m.Case(Factor.VECTOR):
                    m.d.comb += lane.b.eq(b)
                with m.Case(Factor.BLEND):
                    m.d.comb += lane.b.eq(difference_late)
                with m.Case(Factor.VALUE):
                    m.d.comb += lane.b.eq(setting.value)
                with m.Case(Factor.GAIN):
                    m.d.comb += lane.b.eq(gains.word_select(i, 16).as_signed())
                with m.Default():
                    m.d.comb += lane.b.eq(curve.step)
            curved = setting.factor == Factor.CURVE
            added = setting.add | (setting.factor == Factor.BLEND)
            m.d.comb += [
                lane.a.eq(Mux(curved, curve.rest, a)),
                lane.c.eq(Mux(curved, curve.low, Mux(added, c, 0))),
                lane.shift.eq(setting.shift),
                lane.narrow.eq(setting.narrow),
                self.x_data.word_select(i, 8).eq(lane.y[:8]),
                self.y_data[i].eq(lane.y),
            ]
            self.y.append(lane.y)
            self.products.append(lane.p)

    def _setting(self, m: Module, now: Any, flags: Value, cycles: int) -> Any:
        """The fields of the issue whose words are ``cycles`` on their way.

        ``now`` holds them until the next issue is taken, `latency` cycles after this one at least.
        """
        setting = Signal(self.issue_layout, name=f"setting{cycles}", reset_less=True)
        with m.If(delay(m, flags[1], cycles - 1, name="first_word")):
            m.d.sync += setting.eq(now)
        return setting

    def _keep(self, m: Module, last: Value, tail: Value, name: str) -> Signal:
        """The elements that count in a word."""
        keep = Signal(self.lanes, name=name)
        m.d.comb += keep.eq(
            Mux(last, ~(Const(~1, self.lanes + 1) << tail)[: self.lanes], (1 << self.lanes) - 1)
        )
        return keep

    def _reductions(self, m: Module, now: Any, flags: Value) -> None:
        """Sum of squares of products, peak of results, and when they are there."""
        m.submodules.squares = squares = SquareSum(self.lanes)
        m.submodules.largest = largest = PeakUnit(self.lanes)
        found = []
        for unit, late in ((squares, WideLane.PRODUCT_LATENCY), (largest, WideLane.LATENCY)):
            here = delay(m, flags, self.operands + late, name="here")
            setting = self._setting(m, now, flags, self.operands + late)
            keep = self._keep(m, here[2], setting.tail, f"keep{late}")
            m.d.comb += [unit.first.eq(here[1]), unit.keep.eq(Mux(here[0], keep, 0))]
            wanted = here[2] & (setting.squares if unit is squares else ~setting.squares)
            found.append(delay(m, wanted, unit.latency, name="found_late"))
        m.d.comb += [
            squares.eps.eq(now.eps),
            *(squares.squares[i].eq(product) for i, product in enumerate(self.products)),
            *(largest.y[i].eq(y) for i, y in enumerate(self.y)),
            self.squared.eq(found[0]),
            self.peaked.eq(found[1]),
            self.ss.eq(squares.ss),
            self.peak.eq(largest.peak),
        ]
