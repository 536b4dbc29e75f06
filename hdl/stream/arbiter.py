"""One AXI4 read port for several readers: the first goes before the others, which take what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO

from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.reader import AxiReader

__all__ = ["ReadArbiter"]

_QUIET = 4
"""Cycles without ARVALID after which `AxiReader` has nothing to ask for, or no room for it: it needs three
from a request's last burst to the next one's first.
"""
_MARGIN = 16
"""Words that the first reader's user may take in the meantime."""
_FLIGHT_BITS = 16


class ReadArbiter(wiring.Component):
    """Joins the ports of ``first`` and of ``others`` readers to one; data comes in the order of requests.

    ``first`` (weights) never waits for another's address. Another may ask when ``first`` has had nothing to
    ask for, and either nothing at all is in flight, or so little that the FIFO of ``first`` holds more words
    than the others' beats in flight. So its user gets a word in each cycle in which he would have got one
    without the others, from a memory that sends a beat a cycle and requests that were there in time. Of the
    others, the lower number goes first. Nobody waits for ever: when the user of ``first`` waits, its FIFO
    fills, and then it asks for nothing more.

    :param first: the reader whose depth, burst and bursts in flight decide.
    :param others: number of the others, at least 1; ``burst``: most beats of theirs.
    :param flight: bursts in flight of all together.

    All readers take every beat at once, as `AxiReader` does.

    Members
    -------
    c0_* : read_port, flipped
        The port of ``first``; ``c1_*`` and so on those of the others.
    m_axi_* : read_port
        AXI4 read master.
    """

    def __init__(self, first: AxiReader, others: int = 1, *, burst: int = 64, flight: int = 16) -> None:
        if others < 1:
            raise ValueError(f"others must be at least 1, not {others}")
        if not 1 <= burst <= 256:
            raise ValueError(f"burst must be 1..256, not {burst}")
        if flight < 2:
            raise ValueError(f"flight must be at least 2, not {flight}")
        self.clients, self.flight = others + 1, flight
        self.outstanding = first.outstanding
        self.slack = max(0, first.depth - first.burst - burst - _MARGIN)
        """Beats in flight with which the FIFO of ``first`` is full enough for one burst more."""
        shape = {"address_bits": first.address_bits, "data_bits": first.data_bits}
        super().__init__(
            {
                **{
                    name: member.flip()
                    for i in range(self.clients)
                    for name, member in read_port(f"c{i}", **shape).items()
                },
                **read_port("m_axi", **shape),
            }
        )

    def model(self, asking: Sequence[bool], quiet: int, beats: int, bursts: int) -> int | None:
        """Return who may send an address.

        ``asking`` of each reader; ``quiet``: cycles since the first asked; ``beats`` of all in flight,
        ``bursts`` of the first.
        """
        if asking[0]:
            return 0
        others = [i for i, asks in enumerate(asking) if i and asks]
        room = beats == 0 or (beats <= self.slack and bursts < self.outstanding)
        return others[0] if others and quiet >= _QUIET and room else None

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source_bits = range(self.clients)
        m.submodules.order = order = SyncFIFO(width=8 + len(Signal(source_bits)), depth=self.flight)

        def port(i: int, name: str) -> Any:
            return getattr(self, f"c{i}_{name}")

        # Addresses: a register, so that an address that is shown stays.
        source, chosen = Signal(source_bits, name="source"), Signal(name="chosen")
        quiet, beats = Signal(range(_QUIET + 1), name="quiet"), Signal(_FLIGHT_BITS, name="beats")
        bursts = Signal(range(self.flight + 1), name="bursts")
        free, room = Signal(name="free"), Signal(name="room")
        m.d.comb += [
            free.eq((~self.m_axi_arvalid | self.m_axi_arready) & order.w_rdy),
            room.eq((beats == 0) | ((beats <= self.slack) & (bursts < self.outstanding))),
        ]
        with m.If(port(0, "arvalid")):
            m.d.comb += chosen.eq(1)
        with m.Elif((quiet == _QUIET) & room):
            for i in reversed(range(1, self.clients)):
                with m.If(port(i, "arvalid")):
                    m.d.comb += [chosen.eq(1), source.eq(i)]
        send = chosen & free
        with m.If(port(0, "arvalid")):
            m.d.sync += quiet.eq(0)
        with m.Elif(quiet != _QUIET):
            m.d.sync += quiet.eq(quiet + 1)
        with m.If(self.m_axi_arready):
            m.d.sync += self.m_axi_arvalid.eq(0)
        with m.If(send):
            m.d.sync += self.m_axi_arvalid.eq(1)
        for name in ("arid", "araddr", "arlen", "arsize", "arburst", "arcache", "arprot"):
            with m.If(send):
                m.d.sync += getattr(self, f"m_axi_{name}").eq(
                    Array([port(i, name) for i in range(self.clients)])[source]
                )
        for i in range(self.clients):
            m.d.comb += port(i, "arready").eq(send & (source == i))

        # Data: to the reader whose burst is the oldest; a beat that nobody asked for goes to the first.
        index = Signal(8, name="index")
        length, owner = order.r_data[:8], Mux(order.r_rdy, order.r_data[8:], 0)
        arlen = Array([port(i, "arlen") for i in range(self.clients)])[source]
        m.d.comb += [
            order.w_data.eq(Cat(arlen, source)),
            order.w_en.eq(send),
            self.m_axi_rready.eq(Array([port(i, "rready") for i in range(self.clients)])[owner]),
        ]
        beat = self.m_axi_rvalid & self.m_axi_rready & order.r_rdy
        at_end = index == length
        m.d.comb += order.r_en.eq(beat & at_end)
        with m.If(beat):
            m.d.sync += index.eq(Mux(at_end, 0, index + 1))
        for i in range(self.clients):
            m.d.comb += port(i, "rvalid").eq(self.m_axi_rvalid & (owner == i))
            m.d.comb += [
                port(i, name).eq(getattr(self, f"m_axi_{name}"))
                for name in ("rid", "rdata", "rresp", "rlast")
            ]

        # What is in flight.
        asked, came = send & (source == 0), beat & at_end & (owner == 0)
        m.d.sync += [
            beats.eq(beats + Mux(send, arlen + 1, 0) - beat),
            bursts.eq(bursts + asked - came),
        ]
        return m
