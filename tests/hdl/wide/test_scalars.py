"""Scalars of the wide unit: inverse roots, inverse peaks, sums of squares, peaks; and curves."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from ternac.hdl.wide.curve import CurveMemory
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.reduce import PeakUnit, SquareSum
from ternac.hdl.wide.rescale import RescaleUnit
from ternac.hdl.wide.schedule import Timing
from ternac.program.import_ops import interp, inverse_root, peak
from tests.hdl.sim import simulate
from tests.hdl.wide.units import pipeline, value
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist


def inverses(unit: InverseUnit, cases: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(result, cycles) of each (v, root)."""
    found: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        for v, root in cases:
            ctx.set(unit.start, 1)
            ctx.set(unit.v, v)
            ctx.set(unit.root, root)
            await ctx.tick()
            ctx.set(unit.start, 0)
            ctx.set(unit.v, ~v & (1 << 47) - 1)  # only taken at start
            cycles = 1
            while not ctx.get(unit.done):
                assert ctx.get(unit.busy) and cycles < 200
                await ctx.tick()
                cycles += 1
            found.append((ctx.get(unit.r), cycles))

    simulate(unit, bench)
    return found


def test_inverse_roots_are_those_of_the_op() -> None:
    rng = random.Random(2)
    values = [0, 1, 2, 3, 4, (1 << 47) - 1, 1 << 46]
    for power in range(1, 23):
        values += [(1 << 2 * power) - 1, 1 << 2 * power, (1 << 2 * power) + 1]
    values += [math.isqrt(rng.randrange(1 << 47)) ** 2 - rng.randrange(2) for _ in range(10)]
    values = [max(v, 0) for v in values] + [rng.randrange(1 << 47) >> rng.randrange(47) for _ in range(40)]
    unit = InverseUnit()
    found = inverses(unit, [(v, 1) for v in values])
    assert found == [(inverse_root(v), unit.ROOT_CYCLES) for v in values]
    assert [unit.model(v, 1) for v in values] == [inverse_root(v) for v in values]


def test_inverse_peaks_are_those_of_the_op() -> None:
    rng = random.Random(3)
    values = [0, 1, 2, 126, 127, 128, 32767, 32766, 16384] + [rng.randrange(1 << 15) for _ in range(60)]
    unit = InverseUnit()
    found = inverses(unit, [(v, 0) for v in values])
    assert found == [((127 << 24) // v if v else 0, unit.PEAK_CYCLES) for v in values]
    assert [unit.model(v, 0) for v in values] == [r for r, _ in found]


def test_a_planted_root_is_found() -> None:
    """A root that is rounded up, where it is a square less one."""
    values = [(1 << 40) - 1, 12345]
    found = inverses(InverseUnit(), [(v, 1) for v in values])
    rounded = [(1 << 47) // (math.isqrt((v << 16) - 1) + 1) for v in values]
    assert [r for r, _ in found] != rounded


def words(rng: random.Random, lanes: int, count: int) -> list[dict[str, Any]]:
    """Vectors of random lengths as words with ``keep`` and ``first``, gaps between them."""
    found: list[dict[str, Any]] = []
    for _ in range(count):
        length, most = rng.randrange(1, 4 * lanes), rng.choice((5, 16, 16))
        x = [value(rng, most) for _ in range(length)]
        if not rng.randrange(4):
            x[rng.randrange(length)] = -32768
        eps = rng.randrange(1 << 46) >> rng.randrange(47)
        for at in range(0, length, lanes):
            part = x[at : at + lanes]
            keep = (1 << len(part)) - 1
            padded = part + [value(rng, 16) for _ in range(lanes - len(part))]
            last = x if at + lanes >= length else None
            found.append({"first": at == 0, "keep": keep, "x": padded, "eps": eps, "vector": last})
            if rng.randrange(3) == 0:
                found.append({"first": 1, "keep": 0, "x": padded, "eps": 0, "vector": None})
    return found


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_sums_of_squares_and_peaks(lanes: int) -> None:
    rng = random.Random(lanes)
    work = words(rng, lanes, 60)
    for unit in (SquareSum(lanes), PeakUnit(lanes)):
        found = {}

        async def bench(ctx: Any, unit: Any = unit, found: dict[int, int] = found) -> None:
            for t in range(len(work) + unit.latency):
                item = work[t] if t < len(work) else {"first": 0, "keep": 0, "x": [0] * lanes, "eps": 0}
                ctx.set(unit.first, item["first"])
                ctx.set(unit.keep, item["keep"])
                if isinstance(unit, SquareSum):
                    ctx.set(unit.eps, held(t))
                    ctx.set(unit.squares, [x * x for x in item["x"]])
                else:
                    ctx.set(unit.y, item["x"])
                at = t - unit.latency
                if at >= 0:
                    found[at] = ctx.get(unit.ss if isinstance(unit, SquareSum) else unit.peak)
                await ctx.tick()

        def held(t: int, unit: Any = unit) -> int:
            """``eps`` is taken with the first word's sum, behind the tree."""
            at = t - (unit.latency - 1)
            return int(work[at]["eps"]) if 0 <= at < len(work) else 0

        simulate(unit, bench)
        for at, item in enumerate(work):
            if item["vector"] is None:
                continue
            x = item["vector"]
            if isinstance(unit, SquareSum):
                assert found[at] == unit.model(x, item["eps"]) == int((np.array(x) ** 2).sum()) + item["eps"]
            else:
                assert found[at] == unit.model(x) == int(peak(x)[0])


@pytest.mark.parametrize("slots", [1, 2])
def test_curves_give_the_operands_of_interp(slots: int) -> None:
    rng = random.Random(slots)
    unit = CurveMemory(slots)
    curves = [[value(rng, 16) for _ in range(1025)] for _ in range(slots)]
    codes = [-32768, 32767, 32704, 32703, -1, 0, 63, 64] + [value(rng, 16) for _ in range(600)]
    items = [{"x": x, "slot": rng.randrange(slots), "wr_en": 0} for x in codes]
    writes = [
        {"wr_en": 1, "wr_slot": slot, "wr_point": at, "wr_data": point, "x": 0, "slot": 0}
        for slot, curve in enumerate(curves)
        for at, point in enumerate(curve)
    ]

    def wanted(x: int, slot: int, wr_en: int, **_: int) -> dict[str, int]:
        if wr_en:
            return {}
        low, step, rest = unit.model(curves[slot], x)
        assert low + (step * rest + 32 >> 6) == int(interp([x], curves[slot])[0])
        return {"low": low, "step": step, "rest": rest}

    assert pipeline(unit, [*writes, *items], unit.LATENCY, wanted) == 0
    curves[0][700] ^= 1  # a planted point: the codes on both sides of it
    near = [
        {"x": 64 * 700 - 32768 - 1, "slot": 0, "wr_en": 0},
        {"x": 64 * 700 - 32768, "slot": 0, "wr_en": 0},
    ]
    before = [{**write, "wr_data": write["wr_data"]} for write in writes]
    assert pipeline(CurveMemory(slots), [*before, *near], unit.LATENCY, wanted) == 2


@pytest.mark.slow
def test_no_multiplier_and_area() -> None:
    for unit, comb in ((InverseUnit(), 380), (SquareSum(8), 640), (PeakUnit(8), 480)):
        cells = netlist(unit, "synth_ecp5")
        assert_no_multiplier(cells)
        assert comb_ecp5(cells) <= comb


def test_the_schedule_has_the_cycles_of_the_units() -> None:
    timing = Timing()
    assert timing.root >= InverseUnit.ROOT_CYCLES + SquareSum(timing.lanes).latency
    assert timing.inverse >= InverseUnit.PEAK_CYCLES + PeakUnit(timing.lanes).latency
    assert timing.rescale > RescaleUnit().latency
    assert timing.rescale_every == RescaleUnit().every


@pytest.mark.parametrize("make", [SquareSum, PeakUnit])
def test_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
        make(0)
    with pytest.raises(ValueError, match="slots must be 1..16, not 0"):
        CurveMemory(0)
