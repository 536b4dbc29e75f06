"""The dot unit: int8 activations times ternary weights, one word of lanes per cycle."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.tech import Technology

__all__ = ["DotControl", "DotUnit", "dot_latency"]


def dot_latency(lanes: int, chain: int) -> int:
    """Cycles from the stage-0 inputs of a row's last word to its sum: chain + tree levels + 1."""
    return chain + (lanes // chain - 1).bit_length() + 1


class DotUnit(wiring.Component):
    """Sum over words of sum over lanes of ``(x ^ s) & nz`` (one's complement, no carry-in).

    Lane ``l`` is chain ``l // chain``, stage ``l % chain``; there are ``chains = lanes // chain`` chains.
    ``x[j][q]``, ``nz[j][q]``, ``neg[j][q]`` belong to stage j of chain q, and the caller presents
    those of stage j **j cycles after** those of stage 0 of the same word. A zero weight is nz = neg = 0.

    The true product sum is ``acc`` + the number of -1 weights of the row.

    ``acc`` (``acc_bits`` wide, signed, enough for ``k_max`` lanes in total) follows the word's stage 0 by
    ``LATENCY = chain + ceil(log2(chains)) + 1`` cycles and holds until the next word. ``acc_en`` and
    ``acc_first`` come from one ``DotControl`` that all columns share.
    """

    def __init__(self, lanes: int, chain: int, k_max: int, *, tech: Technology = Technology.PORTABLE) -> None:
        self.lanes, self.chain, self.k_max, self.tech = lanes, chain, k_max, tech
        self.chains = lanes // chain
        self.acc_bits = 8 + (k_max - 1).bit_length()
        super().__init__({
            "x": In(data.ArrayLayout(signed(8), self.chains)).array(chain),
            "nz": In(self.chains).array(chain),
            "neg": In(self.chains).array(chain),
            "acc_en": In(1),
            "acc_first": In(1),
            "acc": Out(signed(self.acc_bits)),
        })

    @property
    def latency(self) -> int:
        """Cycles from stage-0 inputs to ``acc``."""
        return dot_latency(self.lanes, self.chain)

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError


class DotControl(wiring.Component):
    """The delay line of the words' flags, one for all dot units of the same shape.

    ``en``, ``first``, ``last`` come with the stage-0 inputs of a word (``en`` low: a bubble; ``first`` and
    ``last`` may both be set). ``acc_en``, ``acc_first`` go to every ``DotUnit``; ``valid`` is high in the
    cycle in which ``acc`` holds a finished row, ``dot_latency(lanes, chain)`` cycles after its last word.
    """

    def __init__(self, lanes: int, chain: int) -> None:
        self.lanes, self.chain = lanes, chain
        super().__init__({
            "en": In(1),
            "first": In(1),
            "last": In(1),
            "acc_en": Out(1),
            "acc_first": Out(1),
            "valid": Out(1),
        })

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
