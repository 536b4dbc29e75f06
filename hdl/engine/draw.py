"""The draw of a seeded sample: total of the weights, scaled random number, the element that it falls on."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = ["Draw", "xorshift32_of"]


def xorshift32_of(value: Value) -> Value:
    """Next state of the 32-bit generator, as an expression."""
    value = value ^ Cat(Const(0, 13), value[:-13])
    value = value ^ value[17:]
    return value ^ Cat(Const(0, 5), value[:-5])


class Draw(wiring.Component):
    """``r = (xorshift32(rng_in) * total) >> 32``, then the smallest ``token`` with w[0] + .. + w[token] > r.

    Protocol: ``load`` for one cycle (takes ``rng_in``, one generator step on if ``advance``, and clears the
    rest); all weights once, then ``summed`` for one cycle; ``multiply`` for exactly :attr:`scaling` cycles;
    all weights again in the same order with ``pick`` and ``valid``. Whenever no
    weight is meant, it must be 0. ``token`` is final in the cycle after the last one. ``preset`` sets the
    token directly.

    Parameters
    ----------
    elements : weights at most.

    Members
    -------
    load : In(1)
        Pulse: begin.
    advance : In(1)
        With ``load``: the generator makes a step.
    rng_in : In(32)
        With ``load``: its state.
    preset : In(1)
        Pulse: the token is ``preset_token``.
    preset_token : In(range(elements))
        That token.
    valid : In(1)
        There is a weight.
    weight : In(16)
        The weight, else 0.
    summed : In(1)
        Pulse: all weights have come once.
    multiply : In(1)
        Scale the random number, for `scaling` cycles.
    pick : In(1)
        All weights come again.
    rng_out : Out(32)
        The new state of the generator.
    token : Out(range(elements))
        The token.
    """

    scaling = 32
    """Cycles of ``multiply``: one shift-add per bit of the random number."""

    def __init__(self, *, elements: int) -> None:
        self.elements = elements
        super().__init__(
            {
                "load": In(1),
                "advance": In(1),
                "rng_in": In(32),
                "preset": In(1),
                "preset_token": In(range(elements)),
                "valid": In(1),
                "weight": In(16),
                "summed": In(1),
                "multiply": In(1),
                "pick": In(1),
                "rng_out": Out(32),
                "token": Out(range(elements)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        bits = 16 + ceil_log2(self.elements)
        total, rest = Signal(bits, name="total"), Signal(bits, name="rest")
        scale_bit, found = Signal(name="scale_bit"), Signal(name="found")
        # the count of weights passed over is a cycle behind, so that it is not added in the same one
        token, passed = Signal.like(self.token, name="token"), Signal(name="passed")
        m.d.comb += self.token.eq(token + passed)
        m.d.sync += [passed.eq(0), token.eq(self.token)]

        # One adder for all: rest + weight, rest + (bit ? total : 0), rest - weight; its lowest bit is the
        # carry in.
        weight, addend, added = (
            Signal(bits, name="weight"),
            Signal(bits, name="addend"),
            Signal(bits + 2, name="added"),
        )
        m.d.comb += [
            scale_bit.eq(self.rng_out[0]),
            weight.eq(self.weight),
            addend.eq(Mux(self.multiply, Mux(scale_bit, total, 0), weight ^ self.pick.replicate(bits))),
            added.eq(Cat(1, rest) + Cat(self.pick, addend)),
        ]
        with m.If(self.load):
            m.d.sync += self.rng_out.eq(Mux(self.advance, xorshift32_of(self.rng_in), self.rng_in))
            m.d.sync += [rest.eq(0), found.eq(0), token.eq(0)]
        with m.Elif(self.preset):
            m.d.sync += token.eq(self.preset_token)
        with m.Elif(self.summed):
            m.d.sync += [total.eq(rest), rest.eq(0)]
        with m.Else():
            m.d.sync += rest.eq(Mux(self.multiply, added[2:], added[1:-1]))
            with m.If(self.multiply):  # after all its bits it is as before
                m.d.sync += self.rng_out.eq(self.rng_out.rotate_right(1))
            with m.If(self.pick & self.valid & ~found):
                m.d.sync += [found.eq(~added[-1]), passed.eq(added[-1])]
        return m
