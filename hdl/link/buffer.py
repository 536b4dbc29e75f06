"""Bytes that wait between UART and controller."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect

from ternac.hdl.cells.registers import StreamRegister
from ternac.hdl.link.ports import ByteStream
from ternac.link import FRAME_BYTES

__all__ = ["LINE_BUFFER", "LineBuffer"]

LINE_BUFFER = 1024
"""Bytes: more than a stuffed frame."""
assert LINE_BUFFER >= 2 * FRAME_BYTES + 2


class LineBuffer(wiring.Component):
    """`LINE_BUFFER` bytes in one block RAM, with a register on the way in and on the way out, so that it may
    be placed anywhere.

    Members
    -------
    i : In(ByteStream)
        Bytes, one at most every other cycle.
    o : Out(ByteStream)
        The same bytes, likewise.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(ByteStream), "o": Out(ByteStream)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = SyncFIFOBuffered(width=8, depth=LINE_BUFFER)
        m.submodules.before = before = StreamRegister(8, cut=True)
        m.submodules.after = after = StreamRegister(8, cut=True)
        connect(m, wiring.flipped(self.i), before.i)
        connect(m, before.o, ram.w_stream)
        connect(m, ram.r_stream, after.i)
        connect(m, after.o, wiring.flipped(self.o))
        return m
