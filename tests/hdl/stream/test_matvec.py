"""Parts of the streaming matrix-vector unit on their own: the count of -1 weights, what is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Module

from ternac.hdl.array.dot import DotControl
from ternac.hdl.array.negatives import NegativeCount
from ternac.hdl.stream.matvec import StreamMatVec
from tests.hdl.sim import simulate


@pytest.mark.parametrize(("lanes", "chain"), [(8, 4), (12, 3), (5, 1), (6, 6)])
def test_negatives_are_counted_in_step_with_the_sums(lanes: int, chain: int) -> None:
    rng = random.Random(lanes)
    most = 4
    count, control = NegativeCount(lanes, chain, lanes * most), DotControl(lanes, chain)
    m = Module()
    m.submodules.count, m.submodules.control = count, control
    m.d.comb += [count.acc_en.eq(control.acc_en), count.acc_first.eq(control.acc_first)]
    script: list[Any] = []
    expected = []
    for kind in (0, 1, 2, 2, 2, 2, 2, 2):
        length = most if kind < 2 else rng.randrange(1, most + 1)
        row = [[-kind if kind < 2 else rng.choice((-1, 0, 1)) for _ in range(lanes)] for _ in range(length)]
        for i, trits in enumerate(row):
            script += [None] * rng.choice((0, 0, 2))
            script.append((trits, i == 0, i == length - 1))
        expected.append(count.model(row))
    found = []

    async def bench(ctx: Any) -> None:
        for t in range(len(script) + count.latency + 2):
            item = script[t] if t < len(script) else None
            ctx.set(control.en, item is not None)
            ctx.set(control.first, item[1] if item else 0)
            ctx.set(control.last, item[2] if item else 0)
            for j in range(chain):
                word = script[t - j] if 0 <= t - j < len(script) else None
                bits = rng.randrange(1 << count.chains)
                if word:
                    bits = sum(1 << q for q in range(count.chains) if word[0][q * chain + j] < 0)
                ctx.set(count.neg[j], bits)
            if ctx.get(control.valid):
                found.append(ctx.get(count.count))
            await ctx.tick()

    simulate(m, bench)
    assert found == expected


@pytest.mark.parametrize(("arguments", "message"), [
    ({"results": 1}, "results must be at least 2, not 1"),
    ({"port_bits": 96}, "data_bits must be one of"),
    ({"port_bits": 32, "chain": 3}, "lanes must be a positive multiple of chain 3, not 4"),
    ({"x_depth": 1}, "depth must be at least 2, not 1"),
])  # fmt: skip
def test_refusals(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamMatVec(**arguments)
