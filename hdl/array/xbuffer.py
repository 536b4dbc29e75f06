"""X buffer: the activations that all columns share, read with the skew of the dot units."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.registers import duplicate_register
from ternac.hdl.cells.tech import Technology


class XBuffer(wiring.Component):
    """``x_depth`` words of ``lanes`` signed bytes.

    Element ``e`` of a vector is lane ``e % lanes`` of its word ``e // lanes``; since the columns divide the
    lanes, the slot ``s`` that the columns write is chunk ``s % (lanes / columns)`` of word ``s // (lanes /
    columns)``. A write takes one byte per pipeline, for column ``pipeline * share + turn``.

    Timing: the bytes of stage ``j`` appear ``LATENCY + j`` cycles after the address, so a caller that issues
    one word per cycle feeds a skewed chain. A word may be read from the second cycle after it was written.

    Members
    -------
    rd_word : In(x word)
        The word to read.
    x : Out(ArrayLayout(ArrayLayout(8, chains), chain))
        Its bytes; ``x[j][q]`` is that of lane ``q * chain + j``.
    wr_en : In(1)
        Write a byte of every pipeline.
    wr_word : In(x word)
        The word.
    wr_chunk : In(chunk)
        The chunk of the word.
    wr_turn : In(turn)
        The column of each pipeline.
    wr_data : In(ArrayLayout(8, pipelines))
        The bytes.
    """

    AREA_PART = "array"

    LATENCY = 3
    PLACES = 8
    """Parts of the chains on ECP5, each with an address register of its own."""

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        self.chunks = g.lanes // g.columns
        word_bits = max(1, ceil_log2(g.x_depth))
        super().__init__(
            {
                "rd_word": In(word_bits),
                "x": Out(data.ArrayLayout(data.ArrayLayout(8, g.chains), g.chain)),
                "wr_en": In(1),
                "wr_word": In(word_bits),
                "wr_chunk": In(max(1, ceil_log2(self.chunks))),
                "wr_turn": In(ceil_log2(g.share)),
                "wr_data": In(data.ArrayLayout(8, g.pipelines)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        enable = Signal(self.chunks * g.share, name="enable")
        index = Cat(self.wr_turn, self.wr_chunk)
        m.d.sync += [enable[i].eq(self.wr_en & (index == i)) for i in range(len(enable))]
        places = math.gcd(g.chains, self.PLACES) if self.tech is Technology.ECP5 else 1
        words = duplicate_register(m, self.wr_word, places, self.tech, "word")
        written = duplicate_register(m, self.wr_data, -(-places // 2), self.tech, "written")
        addresses = duplicate_register(m, self.rd_word, places, self.tech, "address_0")
        attrs = {"ram_style": "distributed"} if self.tech in (Technology.ECP5, Technology.GOWIN) else {}
        for stage in range(g.chain):
            for place, address in enumerate(addresses):
                chains = range(place * g.chains // places, (place + 1) * g.chains // places)
                memory = Memory(shape=8 * len(chains), depth=1 << len(self.rd_word), init=[], attrs=attrs)
                m.submodules[f"stage_{stage}_{place}"] = memory
                write, read = write_port(memory, granularity=8), read_port(memory)
                m.d.comb += [read.addr.eq(address), write.addr.eq(words[place])]
                for i, q in enumerate(chains):
                    chunk, column = divmod(q * g.chain + stage, g.columns)
                    pipeline, turn = divmod(column, g.share)
                    m.d.comb += [
                        write.data[8 * i : 8 * i + 8].eq(written[place // 2].word_select(pipeline, 8)),
                        write.en[i].eq(enable[chunk * g.share + turn]),
                    ]
                    m.d.sync += self.x[stage][q].eq(read.data[8 * i : 8 * i + 8])
            addresses = [
                duplicate_register(m, one, 1, self.tech, f"address_{stage + 1}_{place}")[0]
                for place, one in enumerate(addresses)
            ]
        return m
