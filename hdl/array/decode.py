"""One byte of streamed weights to the trits of one lane in several rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.stream_layout import Encoding
from ternac.hdl.cells.tech import Technology
from ternac.program.trit_code import decode_bits

__all__ = ["TritDecoder"]


class TritDecoder(wiring.Component):
    """``nz[g]``, ``neg[g]``: trit g of the byte ``code``, combinational; ``encoding.rows`` trits.

    2 bits a trit: wires (bit 2g nonzero, bit 2g + 1 negative, as ``ternac.program.packing.pack2``). 1.6
    bits: the
    code of ``ternac.program.trit_code`` in 15 LUT4; the ECP5 form instantiates them, because yosys left alone
    prefers multiplexers of many more.

    Members
    -------
    code : In(8)
        The byte.
    nz : Out(encoding.rows)
        The trits that are not 0.
    neg : Out(encoding.rows)
        The trits that are -1.
    """

    def __init__(self, encoding: Encoding, *, tech: Technology = Technology.PORTABLE) -> None:
        self.encoding, self.tech = encoding, tech
        super().__init__({"code": In(8), "nz": Out(encoding.rows), "neg": Out(encoding.rows)})

    def model(self, code: int) -> list[int]:
        """The trits of one byte."""
        return [int(trit) for trit in self.encoding.table[code]]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = [self.code[i] for i in range(8)]
        if self.encoding is Encoding.TWO:
            m.d.comb += [self.nz.eq(Cat(bits[0::2])), self.neg.eq(Cat(bits[1::2]))]
            return m

        def make(name: str, function: Callable[..., Any], inputs: Sequence[Value]) -> Value:
            bit = Signal(name=name)
            if self.tech is Technology.ECP5:
                m.submodules[f"lut_{name}"] = _lut4(function, inputs, bit)
            else:
                m.d.comb += bit.eq(function(*inputs))
            return bit

        for g, (nz, neg) in enumerate(decode_bits(bits, make)):
            m.d.comb += [self.nz[g].eq(nz), self.neg[g].eq(neg)]
        return m


def _lut4(function: Callable[..., Any], inputs: Sequence[Value], output: Signal) -> Instance:
    """An ECP5 LUT4 of up to four inputs; the others are tied low."""
    init = 0
    for place, values in enumerate(itertools.product((False, True), repeat=4)):
        used = values[::-1][: len(inputs)]  # input A is the lowest bit of the place
        init |= (function(*(int(value) for value in used)) & 1) << place
    wires = [*inputs, *[Const(0, 1)] * 4][:4]
    ports = {f"i_{pin}": wire for pin, wire in zip("ABCD", wires, strict=True)}
    return Instance("LUT4", p_INIT=Const(init, 16), o_Z=output, **ports)
