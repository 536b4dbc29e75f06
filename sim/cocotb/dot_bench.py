"""Dot unit: random rows of one to ``words`` words, with bubbles, against its model and the true product.

Settings: ``lanes``, ``chain``, ``words``, ``rounds``.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from ternac.sim.cocotb.common import Checker, generator, settings, start_clock
from ternac.sim.cocotb.dot_agents import DotDesign, DotDriver, Word, watch


def _row(rng: random.Random, lanes: int, words: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return activations and trits of a row; sometimes the extremes."""
    kind = rng.randrange(6)
    if kind < 2:
        return [[-128] * lanes] * words, [[1 - 2 * kind] * lanes] * words
    used = rng.randrange(1, words + 1)
    x = [[rng.randrange(-128, 128) for _ in range(lanes)] for _ in range(used)]
    return x, [[rng.choice((-1, 0, 1)) for _ in range(lanes)] for _ in range(used)]


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def matches_model(dut: Any) -> None:
    """Every sum, in order; the model plus the number of -1 weights is the product."""
    given = settings()
    lanes, chain, words, rounds = given["lanes"], given["chain"], given["words"], given["rounds"]
    rng = generator()
    design = DotDesign(lanes=lanes, chain=chain, words=words)
    for part in (design, design.unit, design.control):
        part._MustUse__silence = True  # asked for model and latency only
    checker = Checker("row")
    driver = DotDriver(dut, lanes, chain)
    await start_clock(dut, driver.inputs(chain))
    cocotb.start_soon(watch(dut, checker))
    for _ in range(rounds):
        x, trits = _row(rng, lanes, words)
        expected = design.unit.model(x, trits)
        flat = [(a, t) for xs, ts in zip(x, trits, strict=True) for a, t in zip(xs, ts, strict=True)]
        assert expected + sum(t < 0 for _, t in flat) == sum(a * t for a, t in flat)
        checker.expect(expected)
        bubbles = rng.randrange(3)
        for i in range(len(x)):
            while bubbles and rng.randrange(3) < bubbles:
                await driver.send(None)
            await driver.send(Word(x[i], trits[i], i == 0, i == len(x) - 1))
    for _ in range(design.latency + 2):
        await driver.send(None)
    checker.finish(rounds)
