"""Lanes of the wide unit: products, rounding and saturation are those of the wide ops in NumPy."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ternac.hdl.wide.lane import FACTOR_BITS, WideLane, WideProduct
from ternac.hdl.wide.rounding import ShiftRound
from ternac.program import import_ops
from ternac.program.numerics import rshift_round, sat8, sat16
from tests.hdl.wide.units import pipeline, value
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist

EDGES = (32767, 32768, -32768, -32769, 127, 128, -128, -129, 65535, 65536, -65536, -65537)


def lane_items(rng: random.Random, count: int) -> list[dict[str, int]]:
    return [
        {
            "a": value(rng, 16),
            "b": value(rng, FACTOR_BITS),
            "c": rng.choice((0, value(rng, 16))),
            "shift": rng.choice((rng.randrange(63), rng.randrange(40))),
            "narrow": rng.randrange(2),
        }
        for _ in range(count)
    ]


def exact(a: int, b: int, c: int, shift: int, narrow: int) -> Mapping[str, int]:
    total = int(rshift_round(a * b, shift)) + c
    return {"y": int(sat8(total) if narrow else sat16(total))}


@pytest.mark.parametrize("dsp", [False, True])
def test_a_lane_rounds_and_saturates_exactly(dsp: bool) -> None:
    lane = WideLane(dsp=dsp)
    items = lane_items(random.Random(7), 1500)
    assert pipeline(lane, items, lane.LATENCY, exact) == 0
    assert all(lane.model(**item) == exact(**item)["y"] for item in items)


def test_every_digit_meets_every_digit() -> None:
    """All pairs of neighbouring digits of a, with corners of b."""
    product = WideProduct()
    rng = random.Random(3)
    factors = [value(rng, 16) & ~(15 << at) | pair << at for at in range(0, 13, 2) for pair in range(16)]
    factors = [(a + 32768) % 65536 - 32768 for a in factors] + [-32768, 32767, -21845, 21845, -21846]
    ends = (-(1 << 40), (1 << 40) - 1, 1 << 39, -1, rng.randrange(1 << 40))
    items = [{"a": a, "b": b} for a in factors for b in ends]
    assert pipeline(product, items, product.LATENCY, lambda a, b: {"p": product.model(a, b)}) == 0


@pytest.mark.slow
def test_every_first_factor() -> None:
    """All 65,536 of a."""
    product, rng = WideProduct(), random.Random(9)
    items = [{"a": a, "b": value(rng, FACTOR_BITS)} for a in range(-32768, 32768)]
    assert pipeline(product, items, product.LATENCY, lambda a, b: {"p": a * b}) == 0


def test_a_planted_missing_one_is_found() -> None:
    """The one that a complement lacks, of one digit."""

    class Wrong(WideProduct):
        @staticmethod
        def _add(m: Any, x: Any, places: int, y: Any, ones: Any, name: str) -> Any:
            return WideProduct._add(m, x, places, y, 0 if name == "low4" else ones, name)

    items = [{"a": a, "b": 77} for a in range(-40, 40)]
    product = Wrong()
    assert pipeline(product, items, product.LATENCY, lambda a, b: {"p": a * b}) > 0


@pytest.mark.parametrize("bits", [4, 33, 57, 65])
def test_rounding_at_every_shift_and_edge(bits: int) -> None:
    unit = ShiftRound(bits)
    rng = random.Random(bits)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    items = []
    for shift in [*range(64)] * 20:
        x = value(rng, bits)
        if rng.randrange(2):
            x = max(low, min(high, (rng.choice(EDGES) << shift) + (1 << shift >> 1) + rng.randrange(-2, 2)))
        items.append({"x": x, "shift": shift, "addend": value(rng, 16), "narrow": rng.randrange(2)})

    def wanted(x: int, shift: int, addend: int, narrow: int) -> Mapping[str, int]:
        y = unit.model(x, shift, addend, narrow)
        if abs(x) < 1 << 61:  # what NumPy's integers hold
            exact = int(rshift_round(x, shift)) + addend
            assert y == int(sat8(exact) if narrow else sat16(exact))
        return {"y": y}

    assert pipeline(unit, items, unit.LATENCY, wanted) == 0


def test_the_ops_of_imports_are_issues_of_a_lane() -> None:
    """The table of docs/wide.md: operands of each op, its result in NumPy."""
    lane, rng = WideLane(), np.random.default_rng(5)
    n = 64
    x, other, h, c = (rng.integers(-32768, 32768, n).astype(np.int64) for _ in range(4))
    e, gain = rng.integers(0, 32768, n).astype(np.int64), rng.integers(-32768, 32768, n).astype(np.int16)
    ones, zeros = np.ones(n, np.int64), np.zeros(n, np.int64)
    ss, m, multiplier = int((x * x).sum()) + 77, 12345, (1 << 24) - 5
    inverse, code = import_ops.inverse_root(ss), (127 << 24) // m
    curve = rng.integers(-32768, 32768, 1025).astype(np.int64)
    at = x + 32768
    low, step = curve[at >> 6], curve[(at >> 6) + 1] - curve[at >> 6]
    cases = [
        (x, inverse * ones, zeros, 27, 0, import_ops.rmsnorm(x, 77, 27)),
        (x, gain, zeros, 14, 0, import_ops.scale(x, gain, 14)),
        (x, code * ones, zeros, 24, 1, import_ops.quant(x, [m])),
        (x, m * multiplier * ones, zeros, 41, 0, import_ops.rescale(x, [m], multiplier, 41, "i16")),
        (at & 63, step, low, 6, 0, import_ops.interp(x, curve)),
        (x, other, zeros, 13, 0, import_ops.mul16(x, other, 13, "i16")),
        (e, c - h, h, 15, 0, import_ops.blend(h, c, e)),
        (x, ones, other, 0, 0, sat16(x + other)),
    ]
    items, wanted = [], []
    for a, b, addend, shift, narrow, results in cases:
        for i in range(n):
            items.append(
                {"a": int(a[i]), "b": int(b[i]), "c": int(addend[i]), "shift": shift, "narrow": narrow}
            )
            wanted.append(int(np.asarray(results).reshape(-1)[i]))
    answers = iter(wanted)
    assert pipeline(lane, items, lane.LATENCY, lambda **item: {"y": next(answers)}) == 0


def test_a_planted_error_is_found() -> None:
    class Wrong(ShiftRound):
        def model(self, x: int, shift: int, addend: int, narrow: int) -> int:
            return super().model(x, shift, addend, narrow) + (shift == 17 and x & 255 == 3)

    unit = Wrong(33)
    items = [{"x": 3 + 256 * i, "shift": i, "addend": 0, "narrow": 0} for i in range(34)]
    wrong = pipeline(unit, items, unit.LATENCY, lambda **item: {"y": unit.model(**item)})
    assert wrong == 1


@pytest.mark.slow
def test_area_and_no_multiplier() -> None:
    lane = netlist(WideLane(), "synth_ecp5")
    assert_no_multiplier(lane)
    assert comb_ecp5(lane) <= 1250
    assert any("MULT18" in kind for kind in netlist(WideLane(dsp=True), "synth_ecp5"))


@pytest.mark.parametrize(("make", "text"), [
    (lambda: WideProduct(1), "b_bits must be at least 2, not 1"),
    (lambda: ShiftRound(67), "in_bits must be 2..66, not 67"),
])  # fmt: skip
def test_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        make()
