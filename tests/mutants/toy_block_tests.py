"""Tests of the toy block that never set the upper bit of its number."""

from __future__ import annotations

import random
from typing import Any

from tests.hdl.sim import simulate
from tests.mutants.toy_block import ToyBlock


def test_numbers() -> None:
    dut, rng = ToyBlock(), random.Random(1)

    async def bench(ctx: Any) -> None:
        for _ in range(60):
            take, a = rng.randrange(2), rng.randrange(7)
            ctx.set(dut.take, take)
            ctx.set(dut.a, a)
            await ctx.tick()
            assert ctx.get(dut.valid) == take
            assert not take or ctx.get(dut.y) == a + 1

    simulate(dut, bench)
