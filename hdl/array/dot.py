"""The dot unit: int8 activations times ternary weights, one word of lanes per cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Geometry
from ternac.hdl.cells.carry import Gate, add
from ternac.hdl.cells.carry_lut6 import Lane, add_lanes, add_three
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["DotControl", "DotUnit", "array_latency", "dot_latency"]


def _check_shape(lanes: int, chain: int, fold: int, radix: int) -> None:
    if chain < 1:
        raise ValueError(f"chain must be at least 1, not {chain}")
    if lanes < 1 or lanes % chain:
        raise ValueError(f"lanes must be a positive multiple of chain {chain}, not {lanes}")
    if fold < 1 or (lanes // chain) % fold:
        raise ValueError(f"fold must divide the {lanes // chain} chains, not {fold}")
    if radix < 2:
        raise ValueError(f"radix must be at least 2, not {radix}")


def dot_latency(lanes: int, chain: int, fold: int = 1, radix: int = 2) -> int:
    """Cycles from the stage-0 inputs of a row's last word to its sum: chain + tree levels + 1."""
    _check_shape(lanes, chain, fold, radix)
    sums, levels = lanes // chain // fold, 0
    while sums > 1:
        sums, levels = -(-sums // radix), levels + 1
    return chain + levels + 1


def array_latency(geometry: Geometry) -> int:
    """Cycles from a row's last word leaving the weight memory to its sum, in an engine's column array.

    Where chains are folded or trits decoded, these pass a register of their own in front of the adders.
    """
    g = geometry
    return dot_latency(g.lanes, g.chain, g.fold, g.radix) + g.weight_register


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
    ``latency = chain + ceil(log_radix(chains / fold)) + 1`` cycles and holds until the next word.
    ``acc_en`` and ``acc_first`` come from one ``DotControl`` that all columns share.

    ``fold`` neighbouring chains are one in the fabric: a stage adds ``fold`` lanes, one carry chain after the
    other, before its register; ``radix`` sums meet at each register of the tree. More of either saves
    registers and latency, and costs clock.

    The ECP5 form spends one lookup table per bit on gate and adder together (``hdl/cells/carry.py``); the
    form for LUT6 devices one per bit on two lanes, or on three sums of the tree
    (``hdl/cells/carry_lut6.py``).

    Members
    -------
    x : In(ArrayLayout(signed(8), chains)).array(chain)
        Activations by stage and chain.
    nz : In(chains).array(chain)
        The weights that are not 0.
    neg : In(chains).array(chain)
        The weights that are -1.
    acc_en : In(1)
        Take a word into the sum.
    acc_first : In(1)
        It is a row's first: the sum starts over.
    acc : Out(signed(acc_bits))
        The sum.
    """

    AREA_PART = "array"

    def __init__(
        self, lanes: int, chain: int, k_max: int, *,
        fold: int = 1, radix: int = 2, tech: Technology = Technology.PORTABLE,
    ) -> None:  # fmt: skip
        _check_shape(lanes, chain, fold, radix)
        if k_max < lanes:
            raise ValueError(f"k_max {k_max} is less than lanes {lanes}")
        self.lanes, self.chain, self.k_max, self.tech = lanes, chain, k_max, tech
        self.fold, self.radix = fold, radix
        self.chains = lanes // chain
        self.acc_bits = _bits(k_max)
        super().__init__(
            {
                "x": In(data.ArrayLayout(signed(8), self.chains)).array(chain),
                "nz": In(self.chains).array(chain),
                "neg": In(self.chains).array(chain),
                "acc_en": In(1),
                "acc_first": In(1),
                "acc": Out(signed(self.acc_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from stage-0 inputs to ``acc``."""
        return dot_latency(self.lanes, self.chain, self.fold, self.radix)

    def model(self, x: Sequence[Sequence[int]], weights: Sequence[Sequence[int]]) -> int:
        """``acc`` of one row: words of ``lanes`` activations and of ``lanes`` trits (-1, 0, 1)."""
        total = 0
        for values, trits in zip(x, weights, strict=True):
            for value, trit in zip(values, trits, strict=True):
                total += (value, 0, ~value)[1 - trit]
        return total

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sums: list[Value] = [self._chain(m, q) for q in range(0, self.chains, self.fold)]
        terms, level = self.chain * self.fold, 0
        while len(sums) > 1:
            above: list[Value] = []
            for i in range(0, len(sums), self.radix):
                name = f"tree{level}_{i // self.radix}"
                total = self._sum(m, name, sums[i : i + self.radix], terms)
                above.append(Signal(signed(len(total)), name=name, reset_less=True))
                m.d.sync += above[-1].eq(total)
            sums, level, terms = above, level + 1, terms * self.radix
        keep = ~self.acc_first
        with m.If(self.acc_en):
            m.d.sync += self.acc.eq(
                add(m, self.tech, "acc_add", self.acc_bits, sums[0], self.acc, Gate.KEEP, c=keep)
            )
        return m

    def _sum(self, m: Module, name: str, values: list[Value], terms: int) -> Value:
        """The sum of ``values``, each of at most ``terms`` lanes."""
        total, done = values[0], 1
        while done < len(values):
            more = values[done : done + (2 if self.tech is Technology.XILINX else 1)]
            done += len(more)
            width = min(_bits(done * terms), _bits(self.lanes))
            if len(more) == 2:
                total = add_three(m, f"{name}_add{done}", width, total, *more)
            else:
                total = add(m, self.tech, f"{name}_add{done}", width, total, *more)
        return total

    def _chain(self, m: Module, first: int) -> Value:
        """The sum of ``fold`` chains from ``first``, one register a stage."""
        partial = Value.cast(0)
        for j in range(self.chain):
            lanes = [(self.x[j][q], self.nz[j][q], self.neg[j][q]) for q in range(first, first + self.fold)]
            done = 0
            if j == 0:
                partial, done = self._start(m, f"lane{first}", lanes)
            for i in range(done, self.fold):
                x, nz, neg = lanes[i]
                partial = add(m, self.tech, f"lane{first + i}_{j}", _bits(j * self.fold + i + 1), partial, x,
                              Gate.FLIP, c=nz, d=neg)  # fmt: skip
            stage = Signal(signed(len(partial)), name=f"partial{first}_{j}", reset_less=True)
            m.d.sync += stage.eq(partial)
            partial = stage
        return partial

    def _start(self, m: Module, name: str, lanes: list[Lane]) -> tuple[Value, int]:
        """The first lanes of a chain, and how many of ``lanes`` they are."""
        if self.tech is Technology.XILINX and len(lanes) > 1:
            return add_lanes(m, name, lanes[0], lanes[1]), 2
        x, nz, neg = lanes[0]
        flipped = (x ^ neg.replicate(8))[:8].as_signed()
        gated = Signal(signed(8), name=f"{name}_gated")
        m.d.comb += gated.eq(Mux(nz, flipped, 0))
        return gated, 1


class DotControl(wiring.Component):
    """The delay line of the words' flags, one for all dot units of the same shape.

    Members
    -------
    en : In(1)
        A word's stage-0 inputs are there; low: a bubble.
    first : In(1)
        It is a row's first word.
    last : In(1)
        It is a row's last word; it may be the first, too.
    acc_en : Out(1)
        To every `DotUnit`.
    acc_first : Out(1)
        To every `DotUnit`.
    valid : Out(1)
        ``acc`` holds a finished row, `dot_latency` cycles after its last word.
    """

    AREA_PART = "array"

    def __init__(self, lanes: int, chain: int, fold: int = 1, radix: int = 2) -> None:
        self.lanes, self.chain, self.fold, self.radix = lanes, chain, fold, radix
        self.latency = dot_latency(lanes, chain, fold, radix)
        super().__init__(
            {
                "en": In(1),
                "first": In(1),
                "last": In(1),
                "acc_en": Out(1),
                "acc_first": Out(1),
                "valid": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        flags = delay(m, Cat(self.en, self.first, self.last), self.latency - 1, name="flags")
        en, first, last = flags
        m.d.comb += [self.acc_en.eq(en), self.acc_first.eq(first)]
        m.d.sync += self.valid.eq(en & last)
        return m
