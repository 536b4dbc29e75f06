"""From a streamed word to the trits of the dot units' stages."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Geometry
from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.decode import TritDecoder
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["WeightFeed"]


class WeightFeed(wiring.Component):
    """The trits of every stage as a weight memory gives them, those of stage j ``latency + j`` cycles after
    their word.

    Parameters
    ----------
    geometry : whose weights stream.
    latency : at least 1.

    Members
    -------
    word : In(16 * stream_words)
        A word of the stream.
    trits : Out(2 * columns * chains).array(chain)
        Of every stage: bit 2t is trit t's nonzero, bit 2t + 1 its negative.
    """

    AREA_PART = "array"

    def __init__(self, geometry: Geometry, *, latency: int, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.latency, self.tech = latency, tech
        super().__init__(
            {
                "word": In(16 * g.stream_words),
                "trits": Out(2 * g.columns * g.chains).array(g.chain),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        size = 8 * g.columns * g.chains // Encoding.FIVE.rows
        for j in range(g.chain):
            codes = delay(
                m,
                self.word[j * size : (j + 1) * size],
                self.latency + j - 1,
                name=f"codes_{j}",
                reset_less=True,
            )
            bits: list[Value] = []
            for i in range(0, size, 8):
                m.submodules[f"decode_{j}_{i // 8}"] = decode = TritDecoder(Encoding.FIVE, tech=self.tech)
                m.d.comb += decode.code.eq(codes[i : i + 8])
                bits += [bit for pair in zip(decode.nz, decode.neg, strict=True) for bit in pair]
            m.d.comb += self.trits[j].eq(delay(m, Cat(*bits), name=f"trits_{j}", reset_less=True))
        return m
