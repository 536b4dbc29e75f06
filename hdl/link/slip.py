"""SLIP framing in fabric: stuffing and unstuffing of byte streams."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.link import END, ESC, ESC_END, ESC_ESC

FrameByte = data.StructLayout({"data": 8, "end": 1, "bad": 1})
"""One step of a frame: a byte of it, or (``end``) its end; ``bad`` with ``end``: the stuffing was wrong."""


OpenByte = data.StructLayout({"data": 8, "end": 1})
"""The same towards the wire, where nothing can be wrong yet."""


class SlipDecoder(wiring.Component):
    """Wire bytes in, frame bytes out.

    Every END on the wire gives one item with
    ``end`` set, so an empty frame between two frames is visible as two ends in a row; the consumer skips
    it. ``bad`` is set at an end when ESC was followed by anything but its two codes since the last end.
    Delay 0 cycles: an item appears in the cycle its last wire byte does. :meth:`model` is the bit-exact
    twin.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes of the wire.
    o : Out(stream.Signature(FrameByte))
        Bytes and ends of frames.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(FrameByte))})

    @staticmethod
    def model(wire: bytes) -> list[tuple[int, int, int]]:
        """(data, end, bad) items for ``wire``; data is 0 at an end."""
        items, escape, bad = [], False, False
        for byte in wire:
            if byte == END:
                items.append((0, 1, int(bad or escape)))
                escape = bad = False
            elif escape:
                bad |= byte not in (ESC_END, ESC_ESC)
                items.append((END if byte == ESC_END else ESC, 0, 0))
                escape = False
            elif byte == ESC:
                escape = True
            else:
                items.append((byte, 0, 0))
        return items

    def elaborate(self, platform: object) -> Module:
        m = Module()
        escape, bad = Signal(name="escape"), Signal(name="bad")
        byte, item = self.i.payload, self.o.payload
        is_end, is_esc, is_esc_end = Signal(name="is_end"), Signal(name="is_esc"), Signal(name="is_esc_end")
        m.d.comb += [
            is_end.eq(byte == END),
            is_esc.eq((byte == ESC) & ~escape),
            is_esc_end.eq(byte == ESC_END),
        ]
        m.d.comb += [
            item.end.eq(is_end),
            item.bad.eq(is_end & (bad | escape)),
            item.data.eq(Mux(is_end, 0, Mux(escape, Mux(is_esc_end, END, ESC), byte))),
            self.o.valid.eq(self.i.valid & ~is_esc),
            self.i.ready.eq(self.o.ready | is_esc),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += escape.eq(is_esc)
            m.d.sync += bad.eq(~is_end & (bad | (escape & ~is_esc_end & (byte != ESC_ESC))))
        return m


class SlipEncoder(wiring.Component):
    """Frame bytes in, wire bytes out.

    A byte takes one wire byte
    or, when it is END or ESC, two; an ``end`` item gives one END. Delay 0 cycles. :meth:`model` is the
    bit-exact twin.

    Members
    -------
    i : In(stream.Signature(OpenByte))
        Bytes and ends of frames.
    o : Out(stream.Signature(8))
        Bytes of the wire.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(OpenByte)), "o": Out(stream.Signature(8))})

    @staticmethod
    def model(items: list[tuple[int, int]]) -> bytes:
        """The wire bytes for (data, end) items."""
        codes = {END: bytes((ESC, ESC_END)), ESC: bytes((ESC, ESC_ESC))}
        return b"".join(bytes((END,)) if end else codes.get(byte, bytes((byte,))) for byte, end in items)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        second = Signal(name="second")
        item = self.i.payload
        is_end, is_esc = Signal(name="is_end"), Signal(name="is_esc")
        stuff = Signal(name="stuff")
        m.d.comb += [
            is_end.eq(item.data == END),
            is_esc.eq(item.data == ESC),
            stuff.eq((is_end | is_esc) & ~item.end),
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(
                Mux(item.end, END, Mux(second, Mux(is_end, ESC_END, ESC_ESC), Mux(stuff, ESC, item.data)))
            ),
            self.i.ready.eq(self.o.ready & (second | ~stuff)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += second.eq(stuff & ~second)
        return m
