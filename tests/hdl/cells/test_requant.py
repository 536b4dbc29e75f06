"""Requant: random and corner values, every shift, both saturations, with and without addend."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ternac.hdl.cells.requant import Requant
from ternac.program.numerics import rshift_round, sat8, sat16
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist

EDGES = (32767, 32768, -32768, -32769, 127, 128, -128, -129, 65535, 65536, -65536, -65537)


def _value(rng: random.Random, bits: int, shift: int) -> int:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice((low, high, 0, -1, 1))
    if kind == 1:
        return max(low, min(high, (rng.choice(EDGES) << shift) + (1 << shift >> 1) + rng.randrange(-2, 2)))
    return rng.randrange(low, high + 1) >> rng.randrange(bits)


@pytest.mark.parametrize(
    ("bits", "addend", "wide"),
    [(20, False, True), (26, True, True), (26, False, True), (9, True, True), (32, False, True),
     (25, False, False), (16, False, False), (4, False, False), (32, False, False)],
)  # fmt: skip
def test_against_numerics(bits: int, addend: bool, wide: bool) -> None:
    rng = random.Random(bits)
    unit = Requant(bits, addend=addend, wide=wide)
    items = []
    for _ in range(6000):
        shift = rng.choice((rng.randrange(32), rng.randrange(12)))
        add = rng.choice((-32768, 32767, 0, rng.randrange(-32768, 32768)))
        items.append((_value(rng, bits, shift), shift, rng.randrange(2) if wide else 1, add))

    async def bench(ctx: Any) -> None:
        for t in range(len(items) + unit.LATENCY):
            at = [items[t - i] if 0 <= t - i < len(items) else (0, 0, 0, 0) for i in range(5)]
            ctx.set(unit.x, at[0][0])
            ctx.set(unit.coarse, at[0][1] >> 3)
            ctx.set(unit.fine, at[1][1] & 7)
            ctx.set(unit.addend, at[2][3])
            if wide:
                ctx.set(unit.narrow, at[3][2])
            if t >= unit.LATENCY:
                x, shift, narrow, add = at[4]
                exact = rshift_round(x, shift) + (add if addend else 0)
                assert ctx.get(unit.y) == (sat8(exact) if narrow else sat16(exact)) == unit.model(*at[4])
            early = ctx.get(unit.early)
            await ctx.tick()
            assert ctx.get(unit.y) == early

    simulate(unit, bench)


def test_area_and_no_multiplier() -> None:
    for bits, addend, wide, comb in ((20, False, True, 145), (26, True, True, 185), (25, False, False, 140)):
        unit = netlist(Requant(bits, addend=addend, wide=wide), "synth_ecp5")
        assert_no_multiplier(unit)
        assert comb_ecp5(unit) <= comb


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"^in_bits must be 2\.\.32, not 33$"):
        Requant(33)
    with pytest.raises(ValueError, match=r"^an addend needs wide=True$"):
        Requant(20, addend=True, wide=False)
