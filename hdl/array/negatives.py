"""Count of a row's -1 weights, which turns the dot unit's one's complement sum into the product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.array.dot import dot_latency

__all__ = ["NegativeCount"]


class NegativeCount(wiring.Component):
    """Counts ``neg`` over the words of a row, in step with a ``DotUnit`` of the same shape.

    ``neg[j][q]`` as the dot unit gets it, stage j a word j cycles late; ``acc_en`` and ``acc_first`` of its
    ``DotControl``. ``count`` is there when the unit's ``acc`` is, for rows of up to ``k_max`` lanes.

    Members
    -------
    neg : In(chains).array(chain)
        The weights that are -1, as the dot unit gets them.
    acc_en : In(1)
        Of its `DotControl`.
    acc_first : In(1)
        Of its `DotControl`.
    count : Out(range(k_max + 1))
        The count, when the unit's ``acc`` is there.
    """

    AREA_PART = "array"

    def __init__(self, lanes: int, chain: int, k_max: int) -> None:
        self.latency = dot_latency(lanes, chain)
        self.lanes, self.chain, self.chains = lanes, chain, lanes // chain
        super().__init__(
            {
                "neg": In(self.chains).array(chain),
                "acc_en": In(1),
                "acc_first": In(1),
                "count": Out(range(k_max + 1)),
            }
        )

    def model(self, weights: Sequence[Sequence[int]]) -> int:
        """``count`` of one row of words of trits."""
        return sum(trit < 0 for trits in weights for trit in trits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        below: Any = 0
        for j in range(self.chain):
            total = Signal(range(self.chains * (j + 1) + 1), name=f"stage_{j}")
            m.d.sync += total.eq(below + sum(self.neg[j][q] for q in range(self.chains)))
            below = total
        for level in range(self.latency - self.chain - 1):  # the levels of the dot unit's tree
            later = Signal(range(self.lanes + 1), name=f"tree_{level}")
            m.d.sync += later.eq(below)
            below = later
        with m.If(self.acc_en):
            m.d.sync += self.count.eq(below + Mux(self.acc_first, 0, self.count))
        return m
