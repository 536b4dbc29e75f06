"""From a streamed word to the trits of the dot units' stages, and the rows' corrections without a memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Value

from ternac.compile.geometry import Geometry
from ternac.compile.stream_layout import Encoding
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.stream.decode import TritDecoder
from ternac.hdl.stream.negatives import NegativeCount

__all__ = ["count_negatives", "stage_trits"]


def stage_trits(m: Module, geometry: Geometry, word: Value, latency: int, tech: Technology) -> list[Value]:
    """The trits of every stage as a weight memory gives them, those of stage j ``latency + j`` cycles after
    ``word``.

    Bit 2t of a stage is trit t's nonzero, bit 2t + 1 its negative. ``latency`` is at least 1.
    """
    g = geometry
    size = 8 * g.columns * g.chains // Encoding.FIVE.rows
    stages: list[Value] = []
    for j in range(g.chain):
        codes: Value = word[j * size : (j + 1) * size]
        codes = delay(m, codes, latency + j - 1, name=f"codes_{j}", reset_less=True)
        bits: list[Value] = []
        for i in range(0, size, 8):
            m.submodules[f"decode_{j}_{i // 8}"] = decode = TritDecoder(Encoding.FIVE, tech=tech)
            m.d.comb += decode.code.eq(codes[i : i + 8])
            for k in range(Encoding.FIVE.rows):
                bits += [decode.nz[k], decode.neg[k]]
        stages.append(delay(m, Cat(*bits), name=f"trits_{j}", reset_less=True))
    return stages


def count_negatives(
    m: Module, geometry: Geometry, column: int, trits: list[Value], en: Value, first: Value
) -> Value:
    """The correction of the row whose sum is in the accumulator of ``column``'s dot unit."""
    g = geometry
    m.submodules[f"negatives_{column}"] = count = NegativeCount(g.lanes, g.chain, g.x_depth * g.lanes)
    m.d.comb += [count.acc_en.eq(en), count.acc_first.eq(first)]
    for j, stage in enumerate(trits):
        m.d.comb += count.neg[j].eq(Cat(stage[2 * (q * g.columns + column) + 1] for q in range(g.chains)))
    return count.count
