"""Shift-add multiplier: every 9-bit factor, corner and random 17-bit factors, one product a cycle."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ternac.hdl.cells.multiply import ShiftAddMultiplier
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist


@pytest.mark.parametrize("a_bits", [17, 8])
def test_products(a_bits: int) -> None:
    rng = random.Random(a_bits)
    unit = ShiftAddMultiplier(a_bits)
    low, high = -(1 << a_bits - 1), (1 << a_bits - 1) - 1
    pairs = [(a, b) for b in range(-256, 256) for a in (low, high, -1, 0, 1, rng.randrange(low, high + 1))]
    rng.shuffle(pairs)

    async def bench(ctx: Any) -> None:
        for t in range(len(pairs) + unit.LATENCY + unit.B_LEAD):
            if t < len(pairs):
                ctx.set(unit.b, pairs[t][1])
            if 0 <= t - unit.B_LEAD < len(pairs):
                ctx.set(unit.a, pairs[t - unit.B_LEAD][0])
            done = t - unit.B_LEAD - unit.LATENCY
            if done >= 0:
                assert ctx.get(unit.p) == unit.model(*pairs[done]), pairs[done]
            await ctx.tick()

    simulate(unit, bench)


def test_area_and_no_multiplier() -> None:
    ecp5, ice40 = (netlist(ShiftAddMultiplier(), f"synth_{family}") for family in ("ecp5", "ice40"))
    assert_no_multiplier(ecp5)
    assert_no_multiplier(ice40)
    assert comb_ecp5(ecp5) <= 200
    assert ice40["SB_LUT4"] <= 200
    assert not [kind for kind in netlist(ShiftAddMultiplier(), "synth -run begin:fine") if "mul" in kind]


@pytest.mark.parametrize(("arguments", "text"), [
    ((1,), "a_bits must be at least 2, not 1"),
    ((17, 8), "b_bits must be 9, not 8"),
])  # fmt: skip
def test_refused(arguments: tuple[int, ...], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        ShiftAddMultiplier(*arguments)
