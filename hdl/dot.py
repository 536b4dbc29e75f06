"""The dot unit: int8 activations times ternary weights, one word of lanes per cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.carry import Gate, add
from ternac.hdl.tech import Technology

__all__ = ["DotControl", "DotUnit", "dot_latency"]


def _check_shape(lanes: int, chain: int) -> None:
    if chain < 1:
        raise ValueError(f"chain must be at least 1, not {chain}")
    if lanes < 1 or lanes % chain:
        raise ValueError(f"lanes must be a positive multiple of chain {chain}, not {lanes}")


def dot_latency(lanes: int, chain: int) -> int:
    """Cycles from the stage-0 inputs of a row's last word to its sum: chain + tree levels + 1."""
    _check_shape(lanes, chain)
    return chain + (lanes // chain - 1).bit_length() + 1


def _bits(terms: int) -> int:
    """Width of a sum of ``terms`` numbers in -128..127."""
    return 8 + (terms - 1).bit_length()


class DotUnit(wiring.Component):
    """Sum over words of sum over lanes of ``(x ^ s) & nz`` (one's complement, no carry-in).

    Lane ``l`` is chain ``l // chain``, stage ``l % chain``; there are ``chains = lanes // chain`` chains.
    ``x[j][q]``, ``nz[j][q]``, ``neg[j][q]`` belong to stage j of chain q, and the caller presents
    those of stage j **j cycles after** those of stage 0 of the same word. A zero weight is nz = neg = 0.

    The true product sum is ``acc`` + the number of -1 weights of the row.

    ``acc`` (``acc_bits`` wide, signed, enough for ``k_max`` lanes in total) follows the word's stage 0 by
    ``latency = chain + ceil(log2(chains)) + 1`` cycles and holds until the next word. ``acc_en`` and
    ``acc_first`` come from one ``DotControl`` that all columns share.

    The ECP5 form spends one lookup table per bit on gate and adder together (``hdl/carry.py``).
    """

    def __init__(self, lanes: int, chain: int, k_max: int, *, tech: Technology = Technology.PORTABLE) -> None:
        _check_shape(lanes, chain)
        if k_max < lanes:
            raise ValueError(f"k_max {k_max} is less than lanes {lanes}")
        self.lanes, self.chain, self.k_max, self.tech = lanes, chain, k_max, tech
        self.chains = lanes // chain
        self.acc_bits = _bits(k_max)
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

    def model(self, x: Sequence[Sequence[int]], weights: Sequence[Sequence[int]]) -> int:
        """``acc`` of one row: words of ``lanes`` activations and of ``lanes`` trits (-1, 0, 1)."""
        total = 0
        for values, trits in zip(x, weights, strict=True):
            for value, trit in zip(values, trits, strict=True):
                total += (value, 0, ~value)[1 - trit]
        return total

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sums: list[Value] = [self._chain(m, q) for q in range(self.chains)]
        terms, level = self.chain, 0
        while len(sums) > 1:
            terms *= 2
            above: list[Value] = []
            for i in range(0, len(sums), 2):
                below = sums[i:i + 2]
                name = f"tree{level}_{i // 2}"
                width = min(_bits(terms), _bits(self.lanes))
                total = Signal(signed(width if len(below) == 2 else len(below[0])), name=name)
                pair = len(below) == 2
                m.d.sync += total.eq(add(m, self.tech, f"{name}_add", width, *below) if pair else below[0])
                above.append(total)
            sums, level = above, level + 1
        keep = ~self.acc_first
        with m.If(self.acc_en):
            m.d.sync += self.acc.eq(
                add(m, self.tech, "acc_add", self.acc_bits, sums[0], self.acc, Gate.KEEP, c=keep))
        return m

    def _chain(self, m: Module, q: int) -> Value:
        partial = Signal(signed(8), name=f"partial{q}_0")
        flipped = (self.x[0][q] ^ self.neg[0][q].replicate(8))[:8].as_signed()
        m.d.sync += partial.eq(Mux(self.nz[0][q], flipped, 0))
        for j in range(1, self.chain):
            width = _bits(j + 1)
            total = add(m, self.tech, f"lane{q}_{j}", width, partial, self.x[j][q], Gate.FLIP,
                        c=self.nz[j][q], d=self.neg[j][q])
            partial = Signal(signed(width), name=f"partial{q}_{j}")
            m.d.sync += partial.eq(total)
        return partial


class DotControl(wiring.Component):
    """The delay line of the words' flags, one for all dot units of the same shape.

    ``en``, ``first``, ``last`` come with the stage-0 inputs of a word (``en`` low: a bubble; ``first`` and
    ``last`` may both be set). ``acc_en``, ``acc_first`` go to every ``DotUnit``; ``valid`` is high in the
    cycle in which ``acc`` holds a finished row, ``dot_latency(lanes, chain)`` cycles after its last word.
    """

    def __init__(self, lanes: int, chain: int) -> None:
        self.lanes, self.chain = lanes, chain
        self.latency = dot_latency(lanes, chain)
        super().__init__({
            "en": In(1),
            "first": In(1),
            "last": In(1),
            "acc_en": Out(1),
            "acc_first": Out(1),
            "valid": Out(1),
        })

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        en, first, last = self.en, self.first, self.last
        for cycle in range(1, self.latency):
            later = [Signal(name=f"{name}_{cycle}") for name in ("en", "first", "last")]
            m.d.sync += [signal.eq(source) for signal, source in zip(later, (en, first, last), strict=True)]
            en, first, last = later
        m.d.comb += [self.acc_en.eq(en), self.acc_first.eq(first)]
        m.d.sync += self.valid.eq(en & last)
        return m
