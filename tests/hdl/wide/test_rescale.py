"""Serial products behind the dot units: RESCALE and REQUANT of NumPy, factors in step with their matrices."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ternac.hdl.wide.rescale import RescaleUnit
from ternac.program import numerics
from ternac.program.import_ops import rescale
from tests.hdl.sim import simulate
from tests.hdl.wide.units import value
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist

Matrix = tuple[list[int], int, int, int]
"""Sums, factor, shift, narrow."""


def matrices(rng: random.Random, count: int) -> list[Matrix]:
    found = []
    for _ in range(count):
        factor = rng.choice((1, (1 << 40) - 1, rng.randrange(1, 1 << 40) >> rng.randrange(40) or 1))
        sums = [value(rng, 24) for _ in range(rng.randrange(1, 9))]
        found.append((sums, factor, rng.randrange(63), rng.randrange(2)))
    return found


def run(
    unit: RescaleUnit, work: list[Matrix], rng: random.Random, pauses: bool
) -> tuple[list[Any], list[int]]:
    """The results as (y, last), and the cycles between a sum's taking and its result."""
    sums = [(x, i == len(each[0]) - 1) for each in work for i, x in enumerate(each[0])]
    found: list[Any] = []
    taken: list[int] = []
    waited: list[int] = []

    async def bench(ctx: Any) -> None:
        at_sum = at_factor = cycle = 0
        while len(found) < len(sums):
            assert cycle < 100 * len(sums) + 100
            offer = at_sum < len(sums) and not (pauses and rng.randrange(3))
            ready = at_factor < len(work) and not (pauses and rng.randrange(3))
            ctx.set(unit.sums.valid, offer)
            ctx.set(unit.factors.valid, ready)
            if offer:
                ctx.set(unit.sums.payload, {"sum": sums[at_sum][0], "last": sums[at_sum][1]})
            if ready:
                _, factor, shift, narrow = work[at_factor]
                ctx.set(unit.factors.payload, {"factor": factor, "shift": shift, "narrow": narrow})
            if offer and ctx.get(unit.sums.ready):
                taken.append(cycle)
                at_sum += 1
            at_factor += bool(ready and ctx.get(unit.factors.ready))
            if ctx.get(unit.valid):
                waited.append(cycle - taken[len(found)])
                found.append((ctx.get(unit.y), bool(ctx.get(unit.last))))
            await ctx.tick()
            cycle += 1
        if not pauses:
            assert {b - a for a, b in zip(taken, taken[1:], strict=False)} == {unit.every}

    simulate(unit, bench)
    return found, waited


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 3, 13])
def test_results_are_those_of_numpy(digits: int, pauses: bool) -> None:
    rng = random.Random(10 * digits + pauses)
    unit, work = RescaleUnit(digits=digits), matrices(rng, 40)
    found, waited = run(unit, work, rng, pauses)
    wanted = []
    for sums, factor, shift, narrow in work:
        exact = numerics.rshift_round(np.array(sums, object) * factor, shift)
        low, high = (-128, 127) if narrow else (-32768, 32767)
        wanted += [(int(min(max(y, low), high)), i == len(sums) - 1) for i, y in enumerate(exact)]
    assert found == wanted
    assert [y for y, _ in found] == [unit.model(x, *each[1:]) for each in work for x in each[0]]
    assert set(waited) == {unit.latency}


def test_it_is_the_op() -> None:
    """With the factor of a scale and a multiplier, shifts to 62."""
    rng = np.random.default_rng(1)
    unit = RescaleUnit()
    for _ in range(200):
        x, m = rng.integers(-(1 << 23), 1 << 23, 8), int(rng.integers(0, 32768))
        multiplier, shift = int(rng.integers(1, 1 << 24)), int(rng.integers(0, 63))
        wanted = rescale(x, [m], multiplier, shift, "i16")
        assert [unit.model(int(v), m * multiplier, shift, 0) for v in x] == wanted.tolist()


def test_a_planted_wrong_factor_is_found() -> None:
    """A factor that leaves one sum too early."""
    rng = random.Random(4)
    unit, work = RescaleUnit(), matrices(rng, 10)
    right, _ = run(unit, work, rng, False)
    sums, *setting = work[3]
    moved = [*work[:3], (sums[:-1] or sums, *setting), *work[4:]]
    wrong, _ = run(RescaleUnit(), moved, rng, False)
    assert wrong != right


@pytest.mark.slow
def test_no_multiplier_and_area() -> None:
    cells = netlist(RescaleUnit(), "synth_ecp5")
    assert_no_multiplier(cells)
    assert comb_ecp5(cells) <= 850


@pytest.mark.parametrize("digits", [0, 14])
def test_refused(digits: int) -> None:
    with pytest.raises(ValueError, match=rf"^digits must be 1\.\.13, not {digits}$"):
        RescaleUnit(digits=digits)
