"""Streaming matrix-vector products: descriptors in, row sums out, weights straight from external memory."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ternac.compile.stream_layout import Descriptor, Encoding, unpack_matrix
from ternac.hdl.cells.tech import Technology
from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.lanes import StreamLanes
from ternac.hdl.stream.reader import BEATS_BITS, AxiReader

__all__ = ["ROWS_BITS", "WORDS_BITS", "Fault", "StreamMatVec"]

ROWS_BITS = 24
WORDS_BITS = 16


class Fault(enum.IntFlag):
    """Bits of ``fault``."""

    #: A beat came with an error response: sums since then may be wrong.
    READ = 1
    #: RLAST did not come at the end of a burst.
    BURST = 2
    #: A descriptor's ``beats`` is not what its rows and words make.
    LENGTH = 4


class StreamMatVec(wiring.Component):
    """Products of ternary matrices in memory with int8 vectors on chip; every sum exact.

    :param port_bits: width of the AXI4 port; a word is that many bits.
    :param encoding: of the weights; ``encoding.rows`` dot units of ``port_bits / 8`` lanes work side by side,
        as many trits a cycle as the port delivers.
    :param x_depth: words of activation memory, each of ``port_bits / 8`` int8 values.
    :param chain: stages of a dot unit's chains; divides the lanes.
    :param results: row groups that may wait to be taken.
    :param tech: form of dot units and decoders. The others are those of `AxiReader`.

    Reading starts at once and runs ahead over any number of matrices, as far as queue and FIFO reach. Nothing
    is lost while the sums wait: products stop, then reads.

    Members
    -------
    desc : In(stream.Signature(desc_layout))
        One descriptor per matrix (`ternac.compile.stream_layout.Descriptor`, and ``beats``, its words in
        memory); neither beats nor rows nor words are 0. With ``fence`` products wait for a pulse of
        ``x_ready``, reading does not.
    x_wr_en : In(1)
        Write a word of activations.
    x_wr_addr : In(range(x_depth))
        Its address.
    x_wr_data : In(port_bits)
        The word.
    x_ready : In(1)
        Pulse: the activations of a descriptor with ``fence`` are there; up to 15 are remembered.
    sums : Out(stream.Signature(sum_layout))
        ``sum`` of each row, rows and matrices in order, ``last`` on a matrix's last.
    fault : Out(3)
        Bits of `Fault`, sticky until ``clear``.
    clear : In(1)
        Pulse: forget the faults.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(
        self,
        *,
        port_bits: int = 128,
        encoding: Encoding = Encoding.FIVE,
        x_depth: int = 1024,
        chain: int = 4,
        results: int = 8,
        address_bits: int = 32,
        depth: int = 512,
        burst: int = 64,
        outstanding: int = 8,
        queue: int = 16,
        tech: Technology = Technology.PORTABLE,
    ) -> None:
        self.reader = AxiReader(
            port_bits, address_bits=address_bits, depth=depth, burst=burst, outstanding=outstanding,
            queue=queue,
        )  # fmt: skip
        self.lanes = StreamLanes(port_bits // 8, encoding, x_depth=x_depth, chain=chain, tech=tech)
        if results < 2:
            raise ValueError(f"results must be at least 2, not {results}")
        self.port_bits, self.encoding, self.x_depth = port_bits, encoding, x_depth
        self.results, self.queue = results, queue
        self.desc_layout = data.StructLayout({
            "address": address_bits, "beats": BEATS_BITS, "rows": ROWS_BITS, "words": WORDS_BITS,
            "x_base": range(x_depth), "fence": 1,
        })  # fmt: skip
        self.sum_layout = data.StructLayout({"sum": signed(self.lanes.sum_bits), "last": 1})
        super().__init__(
            {
                "desc": In(stream.Signature(self.desc_layout)),
                "x_wr_en": In(1),
                "x_wr_addr": In(range(x_depth)),
                "x_wr_data": In(port_bits),
                "x_ready": In(1),
                "sums": Out(stream.Signature(self.sum_layout)),
                "fault": Out(3),
                "clear": In(1),
                **read_port("m_axi", address_bits=address_bits, data_bits=port_bits),
            }
        )

    def model(
        self, memory: npt.NDArray[np.uint8], x: npt.NDArray[np.int8], descriptors: Sequence[Descriptor]
    ) -> list[int]:
        """All sums in order, ``x`` int8[x_depth, port_bits / 8] as it is when each matrix starts."""
        size, found = self.port_bits // 8, []
        for each in descriptors:
            columns = each.words * size
            stored = memory[each.address : each.address + each.beats(self.encoding) * size]
            trits = unpack_matrix(stored, each.rows, columns, size, self.encoding).astype(np.int32)
            vector = x[each.x_base : each.x_base + each.words].reshape(-1).astype(np.int32)
            found += [int(value) for value in trits @ vector]
        return found

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.reader = reader = self.reader
        m.submodules.lanes = lanes = self.lanes
        for name, member in read_port("m_axi", address_bits=13, data_bits=self.port_bits).items():
            inner, outer = getattr(reader, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        short = Signal(name="short")
        m.d.comb += [
            reader.clear.eq(self.clear),
            self.fault.eq(Cat(reader.fault, short)),
            lanes.x_wr_en.eq(self.x_wr_en), lanes.x_wr_addr.eq(self.x_wr_addr),
            lanes.x_wr_data.eq(self.x_wr_data),
            lanes.word.eq(reader.words.payload.data),
        ]  # fmt: skip
        m.submodules.info = info = SyncFIFO(width=4, depth=self.results)
        returned = Signal(name="returned")
        mismatch = self._control(m, info, returned)
        m.d.sync += short.eq((short & ~self.clear) | mismatch)
        self._output(m, info, returned)
        return m

    def _control(self, m: Module, info: SyncFIFO, returned: Signal) -> Value:
        """Walks the descriptors, word by word; returns: the stream and the descriptor disagree."""
        words, lanes, rows = self.reader.words, self.lanes, self.encoding.rows
        m.submodules.queue = queue = SyncFIFO(width=self.desc_layout.size, depth=self.queue)
        following = data.View(self.desc_layout, queue.r_data)
        both = Signal(name="both")
        m.d.comb += [
            both.eq(queue.w_rdy & self.reader.requests.ready),
            self.desc.ready.eq(both),
            queue.w_en.eq(self.desc.valid & both),
            queue.w_data.eq(self.desc.payload),
            self.reader.requests.valid.eq(self.desc.valid & both),
            self.reader.requests.payload.address.eq(self.desc.payload.address),
            self.reader.requests.payload.beats.eq(self.desc.payload.beats),
        ]
        active, first, at_end = Signal(name="active"), Signal(name="first"), Signal(name="at_end")
        rows_left, most, left = (
            Signal(ROWS_BITS, name="rows_left"),
            Signal(WORDS_BITS, name="most"),
            Signal(WORDS_BITS, name="left"),
        )
        x_base = Signal(range(self.x_depth), name="x_base")
        pulses = Signal(4, name="pulses")
        room = Signal(range(self.results + 1), init=self.results, name="room")
        take, close, final, start, wait = (
            Signal(name="take"),
            Signal(name="close"),
            Signal(name="final"),
            Signal(name="start"),
            Signal(name="wait"),
        )
        taken, came, due = (
            Signal(name="taken"),
            Signal(name="came"),
            Signal(name="due"),
        )  # registered: the FIFO's data comes late
        m.d.sync += [taken.eq(take), came.eq(words.payload.last), due.eq(at_end & final)]
        m.d.comb += [
            at_end.eq(left == 0),
            final.eq(rows_left <= rows),
            words.ready.eq(active & (~at_end | room.any())),
            take.eq(words.ready & words.valid),
            close.eq(take & at_end),
            lanes.en.eq(take), lanes.first.eq(first), lanes.last.eq(at_end),
            info.w_en.eq(close),
            info.w_data.eq(Cat(Mux(final, rows_left[:3], rows)[:3], final)),
            wait.eq(following.fence & ~pulses.any()),
            start.eq(~active & queue.r_rdy & ~wait),
            queue.r_en.eq(start),
        ]  # fmt: skip
        m.d.sync += [
            room.eq(room + returned - close),
            pulses.eq(pulses + self.x_ready - (start & following.fence)),
        ]
        with m.If(close):
            m.d.sync += [
                left.eq(most), lanes.x_addr.eq(x_base), first.eq(1),
                rows_left.eq(rows_left - rows), active.eq(~final),
            ]  # fmt: skip
        with m.Elif(take):
            m.d.sync += [left.eq(left - 1), lanes.x_addr.eq(lanes.x_addr + 1), first.eq(0)]
        with m.If(start):
            m.d.sync += [
                active.eq(1), first.eq(1), rows_left.eq(following.rows),
                most.eq(following.words - 1), left.eq(following.words - 1),
                x_base.eq(following.x_base), lanes.x_addr.eq(following.x_base),
            ]  # fmt: skip
        return taken & (came != due)

    def _output(self, m: Module, info: SyncFIFO, returned: Signal) -> None:
        """A row group's sums, one after the other."""
        lanes, rows = self.lanes, self.encoding.rows
        m.submodules.groups = groups = SyncFIFO(width=len(lanes.sums.as_value()), depth=self.results)
        index = Signal(range(rows), name="index")
        sums = data.View(data.ArrayLayout(signed(lanes.sum_bits), rows), groups.r_data)
        count, final = info.r_data[:3], info.r_data[3]
        at_end, sent = Signal(name="at_end"), Signal(name="sent")
        m.d.comb += [
            groups.w_data.eq(lanes.sums), groups.w_en.eq(lanes.valid),
            at_end.eq(index + 1 == count),
            self.sums.valid.eq(groups.r_rdy),
            self.sums.payload.sum.eq(Array([sums[g] for g in range(rows)])[index]),
            self.sums.payload.last.eq(at_end & final),
            sent.eq(self.sums.valid & self.sums.ready),
            returned.eq(sent & at_end),
            groups.r_en.eq(returned), info.r_en.eq(returned),
        ]  # fmt: skip
        with m.If(sent):
            m.d.sync += index.eq(Mux(at_end, 0, index + 1))
