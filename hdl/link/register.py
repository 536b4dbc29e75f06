"""A register in a stream."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["StreamRegister"]


class StreamRegister(wiring.Component):
    """A stream through one register: ``o`` shows in the next cycle what ``i`` transfers.

    A transfer every cycle, with ``i.ready`` following ``o.ready`` in the same cycle; with ``cut`` at most
    every other cycle, and nothing of one side reaches the other within a cycle.
    """

    def __init__(self, shape: ShapeLike, *, cut: bool = False) -> None:
        self.cut = cut
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = Signal(name="full")
        m.d.comb += [self.o.valid.eq(full), self.i.ready.eq(~full | (0 if self.cut else self.o.ready))]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), self.o.payload.eq(self.i.payload)]
        return m
