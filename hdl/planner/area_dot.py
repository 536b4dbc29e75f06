"""What the dot units of an engine take, in closed form: one carry cell after the other, as `DotUnit` adds."""

from __future__ import annotations

import math

from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.hdl.array.dot import array_latency
from ternac.hdl.array.xbuffer import XBuffer
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.columns import NEIGHBOURS

__all__ = ["accumulator_bits", "dot_units", "dot_widths"]

_BYTE = 8
DECODER = 15
"""Tables that decode a byte of five trits."""


def _bits(terms: int) -> int:
    """Width of a sum of ``terms`` activations."""
    return _BYTE + (terms - 1).bit_length()


def accumulator_bits(geometry: Geometry) -> int:
    """Width of a row's sum."""
    return _bits(geometry.x_depth * geometry.lanes)


def dot_widths(geometry: Geometry) -> tuple[list[int], list[int], int]:
    """Of one unit: widths of the adders with a gate in front, of those without, and registers.

    The accumulator's adder, whose gate keeps or drops the sum so far, is not among them.
    """
    g = geometry
    groups, gated, plain, registers = g.chains // g.fold, [], [], 0
    for stage in range(g.chain):
        lanes = range(stage * g.fold, (stage + 1) * g.fold)
        gated += [_bits(lane + 1) for lane in lanes if lane]
        registers += _bits(lanes[-1] + 1)
    gated, registers = gated * groups, registers * groups
    sums, terms = groups, g.chain * g.fold
    while sums > 1:
        above = -(-sums // g.radix)
        for i in range(above):
            count = min(g.radix, sums - i * g.radix)
            widths = [min(_bits(n * terms), _bits(g.lanes)) for n in range(1, count + 1)]
            plain += widths[1:]
            registers += widths[-1]
        sums, terms = above, terms * g.radix
    return gated, plain, registers + accumulator_bits(g)


def dot_units(geometry: Geometry, tech: Technology) -> tuple[int, int]:
    """COMB (logic cells on iCE40) and FF of all dot units, with the x buffer and the registers of weights,
    flags and addresses.
    """
    g = geometry
    gated, plain, registers = dot_widths(g)
    acc, gates = accumulator_bits(g), _BYTE * (g.chains // g.fold)
    x_banks = -(-g.x_depth // 16)
    if tech is Technology.ECP5:
        # a carry cell holds two bits; each chain begins with half of one
        adders = sum(2 * (-(-(width + 1) // 2)) for width in (*gated, *plain, acc))
        x_rams = g.chain * -(-_BYTE * g.chains // 4) * x_banks
        comb = g.columns * (adders + gates) + 6 * x_rams + _BYTE * g.lanes * (x_banks - 1)
        held = 2 * _BYTE * g.lanes
    else:
        # a gate is a table of its own
        adders = sum(gated) + _BYTE * len(gated) + sum(plain) + 2 * acc
        comb = g.columns * (adders + gates)
        held = _BYTE * g.lanes + g.chain * g.stage_bits
    if g.weight_register:
        held += 2 * g.columns * g.lanes
    if g.weight_code == "five":
        comb += DECODER * g.chain * g.stage_bits // 8
    held += _control(g, tech)
    if tech is Technology.ICE40:  # what no table feeds takes a logic cell of its own
        comb += held
    return comb, g.columns * registers + held


def _control(g: Geometry, tech: Technology) -> int:
    """Registers of flags and addresses on their way to the stages, and of what is written to the x buffer."""
    flags = 3 * (array_latency(g) + 3)
    weight_places = max(1, g.weight_blocks_per_stage // 2 // NEIGHBOURS) if g.weight_ram == "paired" else 1
    x_places = math.gcd(g.chains, XBuffer.PLACES) if tech is Technology.ECP5 else 1
    weights = ceil_log2(g.weight_depth) * g.chain * (1 + weight_places)
    reads = ceil_log2(g.x_depth) * g.chain * x_places
    return flags + weights + reads + _BYTE * g.pipelines + g.lanes // g.pipelines
