"""Stimulus of the wide unit's parts: values with corners, and one-a-cycle pipelines."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.hdl.sim import simulate


def value(rng: random.Random, bits: int) -> int:
    """A signed value, often at a corner or small."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    if not rng.randrange(4):
        return rng.choice((low, low + 1, high, -1, 0, 1))
    return rng.randrange(low, high + 1) >> rng.randrange(bits)


def pipeline(
    unit: Any, items: Sequence[Mapping[str, int]], latency: int, wanted: Callable[..., Mapping[str, int]]
) -> int:
    """Feed an item a cycle; returns how many do not give what ``wanted`` says ``latency`` cycles later."""
    wrong = 0

    async def bench(ctx: Any) -> None:
        nonlocal wrong
        for t in range(len(items) + latency):
            for name, each in items[min(t, len(items) - 1)].items():
                ctx.set(getattr(unit, name), each)
            if t >= latency:
                found = wanted(**items[t - latency])
                wrong += any(ctx.get(getattr(unit, name)) != each for name, each in found.items())
            await ctx.tick()

    simulate(unit, bench)
    return wrong
