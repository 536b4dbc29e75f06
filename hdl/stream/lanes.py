"""The arithmetic behind the stream: decoders, activation memory and dot units, a word a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.decode import TritDecoder
from ternac.hdl.array.dot import DotControl, DotUnit, dot_latency
from ternac.hdl.array.negatives import NegativeCount
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["StreamLanes"]


class StreamLanes(wiring.Component):
    """``encoding.rows`` dot units of ``lanes`` lanes; byte b of a word is lane b of all of them.

    A word of weights comes with ``en``, ``first`` and ``last`` of its row group and the address of its
    activations in ``x_addr``. ``latency`` cycles after a group's
    last word ``valid`` is high for a cycle with the group's ``sums``, one per row: the true products,
    ``sum_bits`` wide, enough for ``x_depth * lanes`` lanes. Writes to activation memory: a word of
    ``lanes`` int8 values a cycle.

    The words are skewed here, byte by byte before they are decoded, as the dot units' chains want them.

    Members
    -------
    word : In(8 * lanes)
        A word of weights.
    en : In(1)
        There is one.
    first : In(1)
        It is its row group's first.
    last : In(1)
        It is its row group's last.
    x_addr : In(range(x_depth))
        The address of its activations.
    x_wr_en : In(1)
        Write a word of activations.
    x_wr_addr : In(range(x_depth))
        Its address.
    x_wr_data : In(8 * lanes)
        The word.
    valid : Out(1)
        Pulse: the sums of a row group.
    sums : Out(ArrayLayout(signed(sum_bits), rows))
        The sums.
    """

    LATENCY = BlockRam.LATENCY + 2
    """Cycles of memory, decoders and the last sum around the dot units."""

    def __init__(
        self, lanes: int, encoding: Encoding, *, x_depth: int, chain: int,
        tech: Technology = Technology.PORTABLE,
    ) -> None:  # fmt: skip
        self.lanes, self.encoding, self.chain, self.tech = lanes, encoding, chain, tech
        self.x = BlockRam(8 * lanes, x_depth, tech=tech, memory="x")
        self.latency = self.LATENCY + dot_latency(lanes, chain)
        self.k_max = x_depth * lanes
        self.units = [DotUnit(lanes, chain, self.k_max, tech=tech) for _ in range(encoding.rows)]
        self.sum_bits = self.units[0].acc_bits + 1
        super().__init__(
            {
                "word": In(8 * lanes),
                "en": In(1),
                "first": In(1),
                "last": In(1),
                "x_addr": In(range(x_depth)),
                "x_wr_en": In(1),
                "x_wr_addr": In(range(x_depth)),
                "x_wr_data": In(8 * lanes),
                "valid": Out(1),
                "sums": Out(data.ArrayLayout(signed(self.sum_bits), encoding.rows)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.x = memory = self.x
        m.submodules.control = control = DotControl(self.lanes, self.chain)
        m.d.comb += [
            memory.wr_en.eq(self.x_wr_en),
            memory.wr_addr.eq(self.x_wr_addr),
            memory.wr_data.eq(self.x_wr_data),
            memory.rd_addr.eq(self.x_addr),
        ]
        flags = delay(m, Cat(self.en, self.first, self.last), BlockRam.LATENCY + 1, name="flags")
        m.d.comb += Cat(control.en, control.first, control.last).eq(flags)
        word = delay(m, self.word, BlockRam.LATENCY, name="word", reset_less=True)
        activations = delay(m, memory.rd_data, 1, name="x", reset_less=True)
        counts = [NegativeCount(self.lanes, self.chain, self.k_max) for _ in range(self.encoding.rows)]
        for g, (unit, count) in enumerate(zip(self.units, counts, strict=True)):
            m.submodules[f"dot_{g}"], m.submodules[f"count_{g}"] = unit, count
            for part in (unit, count):
                m.d.comb += [part.acc_en.eq(control.acc_en), part.acc_first.eq(control.acc_first)]
            m.d.sync += self.sums[g].eq(unit.acc + count.count)
        for j in range(self.chain):
            self._stage(m, j, word, activations, counts)
        m.d.sync += self.valid.eq(control.valid)
        return m

    def _stage(self, m: Module, j: int, word: Value, x: Value, counts: list[NegativeCount]) -> None:
        """Stage j of all chains: its bytes j cycles late, decoded, and the activations for them."""
        places = range(j, self.lanes, self.chain)
        bytes_ = Cat(word.word_select(lane, 8) for lane in places)
        codes = delay(m, bytes_, j, name=f"codes_{j}", reset_less=True)
        bytes_ = Cat(x.word_select(lane, 8) for lane in places)
        values = delay(m, bytes_, j, name=f"values_{j}", reset_less=True)
        rows = self.encoding.rows
        nz, neg = Signal(rows * len(places), name=f"nz_{j}"), Signal(rows * len(places), name=f"neg_{j}")
        for q in range(len(places)):
            m.submodules[f"decode_{j}_{q}"] = decoder = TritDecoder(self.encoding, tech=self.tech)
            m.d.comb += decoder.code.eq(codes.word_select(q, 8))
            m.d.sync += [
                nz[q :: len(places)].eq(decoder.nz),
                neg[q :: len(places)].eq(decoder.neg),
            ]
        for g, (unit, count) in enumerate(zip(self.units, counts, strict=True)):
            m.d.comb += [
                unit.x[j].as_value().eq(values),
                unit.nz[j].eq(nz.word_select(g, len(places))),
                unit.neg[j].eq(neg.word_select(g, len(places))),
                count.neg[j].eq(neg.word_select(g, len(places))),
            ]
