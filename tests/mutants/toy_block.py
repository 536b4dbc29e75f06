"""A component to be mutated by the tests of the runner of netlists."""

from __future__ import annotations

from amaranth.hdl import Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

PAIR = data.StructLayout({"valid": 1, "value": 4})


class ToyBlock(wiring.Component):
    """Adds one to what it takes, a cycle later.

    Members
    -------
    take : In(1)
        ``a`` counts.
    a : In(4)
        A number.
    valid : Out(1)
        ``y`` counts.
    y : Out(4)
        The number and one; at other times the number.
    pair : Out(PAIR)
        Both.
    """

    def __init__(self) -> None:
        super().__init__({"take": In(1), "a": In(4), "valid": Out(1), "y": Out(4), "pair": Out(PAIR)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += [self.valid.eq(self.take), self.y.eq(Mux(self.take, self.a + 1, self.a))]
        m.d.comb += [self.pair.valid.eq(self.valid), self.pair.value.eq(self.y)]
        return m
