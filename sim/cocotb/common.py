"""Shared by all benches: clock and reset, settings, random gaps, the checker."""

from __future__ import annotations

import json
import os
import random
from collections import deque
from collections.abc import Iterable
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

from ternac.sim.cocotb.runner import SETTINGS

__all__ = ["PERIOD_NS", "Checker", "Gaps", "generator", "settings", "start_clock", "tick"]

PERIOD_NS = 10


def settings() -> dict[str, Any]:
    """Return the JSON object that `ternac.sim.cocotb.runner.run` was given for this bench."""
    return dict(json.loads(os.environ.get(SETTINGS, "{}")))


def generator(salt: int = 0) -> random.Random:
    """Return a new generator, seeded from the run's seed."""
    return random.Random(cocotb.RANDOM_SEED * 1000 + salt)


async def start_clock(dut: Any, inputs: Iterable[str]) -> None:
    """Set all ``inputs`` to 0, start the clock, reset for two cycles."""
    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.clk, 2)
    await tick(dut)
    dut.rst.value = 0


async def tick(dut: Any) -> None:
    """Wait until the middle of the next cycle.

    Benches drive and sample in the middle of a cycle, at the falling edge, half a cycle away from the rising
    edge that the design works at; so no simulator's ordering of events matters.
    """
    await FallingEdge(dut.clk)


class Gaps:
    """Idle cycles between items: none, few or many, by ``level`` 0..3."""

    def __init__(self, rng: random.Random, level: int) -> None:
        self.rng, self.level = rng, level

    async def wait(self, dut: Any) -> None:
        """Wait a random number of cycles."""
        while self.level and self.rng.randrange(4) < self.level:
            await tick(dut)


class Checker:
    """Scoreboard: compares monitor and model in order; fails at the first difference."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.checked = 0
        self._expected: deque[Any] = deque()

    def expect(self, item: Any) -> None:
        """Note the model's next result."""
        self._expected.append(item)

    def observe(self, item: Any) -> None:
        """Compare the design's next result."""
        assert self._expected, f"{self.what} {self.checked}: got {item}, none was expected"
        expected = self._expected.popleft()
        assert item == expected, f"{self.what} {self.checked}: expected {expected}, got {item}"
        self.checked += 1

    def finish(self, least: int = 1) -> None:
        """Check that all expected results came, at least ``least`` of them."""
        assert not self._expected, f"{self.what}: {len(self._expected)} results never came"
        assert self.checked >= least, f"{self.what}: only {self.checked} results were checked"
