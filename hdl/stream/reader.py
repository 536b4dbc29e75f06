"""AXI4 read master: a queue of (address, length) requests becomes one unbroken stream of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ternac.hdl.stream.axi import INCR, OKAY, PAGE_BYTES, PORT_BITS, read_port

__all__ = ["BEATS_BITS", "AxiReader", "bursts"]

BEATS_BITS = 28
"""Width of a request's length in words."""
_SPARE = 2
"""Words of the FIFO that are never promised to the bus: its output register fills a cycle late."""


def bursts(address: int, beats: int, word_bytes: int, most: int) -> list[tuple[int, int]]:
    """(address, beats) of a request's bursts: each ends at a multiple of ``most`` words or at the end."""
    found = []
    while beats:
        length = min(beats, most - address // word_bytes % most)
        found.append((address, length))
        address += length * word_bytes
        beats -= length
    return found


class AxiReader(wiring.Component):
    """Reads requests of (``address``, ``beats``) in order and far ahead; ``words`` is their data.

    :param data_bits: width of the port, one of 32, 64, .. 512.
    :param address_bits: width of an address.
    :param depth: words of the FIFO between bus and ``words``. To ride out a latency of L cycles at full
        rate it needs L + ``burst`` words.
    :param burst: most beats of a burst, a power of two, at most 256 and at most 4 KiB. Bursts end at
        multiples of their greatest size, so none crosses a multiple of 4 KiB.
    :param outstanding: bursts that may be in flight.
    :param queue: requests that wait behind the current one.

    A fault changes nothing else: as many words come as
    were asked for, so that nothing hangs, and the reader of the results looks at it.

    A burst is only requested when the FIFO has room for all of it, so RREADY is always high: the port is
    never stalled from this side, and reads stop while nobody takes words.

    Members
    -------
    requests : In(stream)
        ``address`` in bytes, of which what is below a word is ignored, and ``beats`` in words, not 0.
    words : Out(stream)
        ``data``, and ``last`` with a request's last word.
    fault : Out(2)
        Sticky until ``clear``: bit 0, a beat came with an error response; bit 1, RLAST did not come where it
        belongs.
    clear : In(1)
        Pulse: forget the faults.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(
        self,
        data_bits: int,
        *,
        address_bits: int = 32,
        depth: int = 512,
        burst: int = 64,
        outstanding: int = 8,
        queue: int = 16,
    ) -> None:
        if data_bits not in PORT_BITS:
            raise ValueError(f"data_bits must be one of {PORT_BITS}, not {data_bits}")
        self.word_bytes = data_bits // 8
        most = min(256, PAGE_BYTES // self.word_bytes)
        if not 1 <= burst <= most or burst & (burst - 1):
            raise ValueError(f"burst must be a power of two of at most {most} words, not {burst}")
        if depth < burst + _SPARE:
            raise ValueError(f"depth must be at least burst + {_SPARE} = {burst + _SPARE}, not {depth}")
        if address_bits < 13:
            raise ValueError(f"address_bits must be at least 13, not {address_bits}")
        if outstanding < 1 or queue < 1:
            raise ValueError("outstanding and queue must be at least 1")
        self.data_bits, self.address_bits = data_bits, address_bits
        self.depth, self.burst, self.outstanding, self.queue = depth, burst, outstanding, queue
        self.request_layout = data.StructLayout({"address": address_bits, "beats": BEATS_BITS})
        self.word_layout = data.StructLayout({"data": data_bits, "last": 1})
        super().__init__(
            {
                "requests": In(stream.Signature(self.request_layout)),
                "words": Out(stream.Signature(self.word_layout)),
                "fault": Out(2),
                "clear": In(1),
                **read_port("m_axi", address_bits=address_bits, data_bits=data_bits),
            }
        )

    def model(self, requests: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """(address, beats) of every burst, in order."""
        return [b for address, beats in requests for b in bursts(address, beats, self.word_bytes, self.burst)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.flight = flight = SyncFIFO(width=9, depth=self.outstanding)
        m.submodules.words = fifo = SyncFIFOBuffered(width=self.data_bits + 1, depth=self.depth)
        free = Signal(range(self.depth + 1), init=self.depth - _SPARE, name="free")
        taken, promised = Signal(name="taken"), Signal(range(self.burst + 1), name="promised")
        m.d.sync += free.eq(free + taken - promised)
        self._requests(m, flight, free, promised)
        self._beats(m, flight, fifo)
        m.d.comb += [
            self.words.payload.eq(fifo.r_data),
            self.words.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.words.ready),
            taken.eq(fifo.r_rdy & fifo.r_en),
        ]
        return m

    def _requests(self, m: Module, flight: SyncFIFO, free: Signal, promised: Signal) -> None:
        """The AR side: cut requests into bursts, three cycles each, less than any burst worth having."""
        m.submodules.queue = queue = SyncFIFO(width=self.request_layout.size, depth=self.queue)
        shift = (self.word_bytes - 1).bit_length()
        request = data.View(self.request_layout, queue.r_data)
        place = Signal(self.address_bits - shift, name="place")  # address in words
        left = Signal(BEATS_BITS, name="left")
        length = Signal(range(self.burst + 1), name="length")
        to_edge = Signal(range(self.burst + 1), name="to_edge")
        arlen = Signal(8, name="arlen")
        m.d.comb += [
            queue.w_data.eq(self.requests.payload),
            queue.w_en.eq(self.requests.valid),
            self.requests.ready.eq(queue.w_rdy),
            to_edge.eq(self.burst - place[: (self.burst - 1).bit_length()]),
            self.m_axi_arsize.eq(shift),
            self.m_axi_arburst.eq(INCR),
            self.m_axi_arcache.eq(0b0011),  # normal memory, as most interconnects want it
            arlen.eq(length - 1),
            flight.w_data.eq(Cat(arlen, left == length)),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [place.eq(request.address[shift:]), left.eq(request.beats)]
                with m.If(queue.r_rdy):
                    m.d.comb += queue.r_en.eq(1)
                    m.next = "SIZE"
            with m.State("SIZE"):
                m.d.sync += length.eq(Mux(left < to_edge, left, to_edge))
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += [
                    self.m_axi_araddr.eq(place << shift),
                    self.m_axi_arlen.eq(arlen),
                ]
                with m.If((free >= length) & flight.w_rdy):
                    m.d.comb += [flight.w_en.eq(1), promised.eq(length)]
                    m.d.sync += [
                        self.m_axi_arvalid.eq(1),
                        place.eq(place + length),
                        left.eq(left - length),
                    ]
                    m.next = "SEND"
            with m.State("SEND"):
                with m.If(self.m_axi_arready):
                    m.d.sync += self.m_axi_arvalid.eq(0)
                    m.next = "SIZE"
                    with m.If(left == 0):
                        m.next = "IDLE"

    def _beats(self, m: Module, flight: SyncFIFO, fifo: SyncFIFOBuffered) -> None:
        """The R side: every beat goes into the FIFO in the cycle in which it comes."""
        index = Signal(8, name="index")
        at_end = Signal(name="at_end")
        beat, wanted = self.m_axi_rvalid & self.m_axi_rready, flight.r_rdy
        m.d.comb += [
            self.m_axi_rready.eq(1),
            at_end.eq(index == flight.r_data[:8]),
            flight.r_en.eq(beat & at_end),
            fifo.w_data.eq(Cat(self.m_axi_rdata, at_end & flight.r_data[8])),
            fifo.w_en.eq(beat & wanted),
        ]
        with m.If(beat & wanted):
            m.d.sync += index.eq(Mux(at_end, 0, index + 1))
        bad = Cat(self.m_axi_rresp != OKAY, ~wanted | (self.m_axi_rlast != at_end))
        held = Mux(self.clear, 0, self.fault)
        m.d.sync += self.fault.eq(held | Mux(beat, bad, 0))
