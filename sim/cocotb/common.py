"""What every bench shares: clock and reset, settings, random gaps, the checker."""

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
    """The JSON object that `ternac.sim.cocotb.runner.run` was given for this bench."""
    return dict(json.loads(os.environ.get(SETTINGS, "{}")))


def generator(salt: int = 0) -> random.Random:
    """A generator of its own, from the seed of the run."""
    return random.Random(cocotb.RANDOM_SEED * 1000 + salt)


async def start_clock(dut: Any, inputs: Iterable[str]) -> None:
    """All ``inputs`` to 0, start the clock, two cycles of reset."""
    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.clk, 2)
    await tick(dut)
    dut.rst.value = 0


async def tick(dut: Any) -> None:
    """To the middle of the next cycle.

    Benches drive and sample in the middle of a cycle, at the falling edge, half a cycle away from the rising
    edge that the design works at; so no simulator's ordering of events matters.
    """
    await FallingEdge(dut.clk)


class Gaps:
    """Idle cycles between items: none, few or many, by ``level`` 0..3."""

    def __init__(self, rng: random.Random, level: int) -> None:
        self.rng, self.level = rng, level

    async def wait(self, dut: Any) -> None:
        """Let a random number of cycles pass."""
        while self.level and self.rng.randrange(4) < self.level:
            await tick(dut)


class Checker:
    """Compares what the monitor sees with what the model says, in order; fails at the first difference."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.checked = 0
        self._expected: deque[Any] = deque()

    def expect(self, item: Any) -> None:
        """The model's next result."""
        self._expected.append(item)

    def observe(self, item: Any) -> None:
        """The design's next result."""
        assert self._expected, f"{self.what} {self.checked}: got {item}, none was expected"
        expected = self._expected.popleft()
        assert item == expected, f"{self.what} {self.checked}: expected {expected}, got {item}"
        self.checked += 1

    def finish(self, least: int = 1) -> None:
        """Everything expected has come, and at least ``least`` of it."""
        assert not self._expected, f"{self.what}: {len(self._expected)} results never came"
        assert self.checked >= least, f"{self.what}: only {self.checked} results were checked"
