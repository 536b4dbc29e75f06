"""Amaranth's simulator around one component with one clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from amaranth.sim import Simulator


def simulate(component: Any, bench: Callable[[Any], Awaitable[None]]) -> None:
    """Run ``bench(ctx)`` to its end."""
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
