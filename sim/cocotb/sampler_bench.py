"""Sampler: random logits and parameters with gaps, against ternac.run.sampling.

Settings: ``columns``, ``vocab``, ``pace``, ``rounds``.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb

from ternac.hdl.engine.sampler import Sampler
from ternac.run.sampling import Sampling, choose, seed_state
from ternac.sim.cocotb.common import Checker, Gaps, generator, settings, start_clock, tick
from ternac.sim.cocotb.sampler_agents import SamplerDriver, watch


def _logits(rng: random.Random, vocab: int) -> list[int]:
    """Return logits: from all equal to the extremes of 16 bits."""
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.randrange(-32768, 32768)] * vocab
    if kind == 1:
        return [rng.choice((-32768, 32767, 0, -1)) for _ in range(vocab)]
    spread = 1 << rng.randrange(16)
    return [max(-32768, min(32767, rng.randrange(-spread, spread + 1))) for _ in range(vocab)]


def _parameters(rng: random.Random, vocab: int) -> Sampling:
    top_k = rng.choice((0, 1, 2, vocab // 2, vocab, vocab + 1))
    shift = rng.choice((0, 3, 6, 8, 11, 15, 23, 31))
    return Sampling(rng.randrange(4) == 0, rng.randrange(1, 256), shift, top_k)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def matches_model(dut: Any) -> None:
    """Token, generator and cycle count of every draw."""
    given = settings()
    columns, vocab, pace = given["columns"], given["vocab"], given["pace"]
    rng = generator()
    reference = Sampler(columns=columns, slots=-(-vocab // columns) + 1, pace=pace)
    reference._MustUse__silence = True  # asked for its latency only
    checker = Checker("token")
    driver = SamplerDriver(dut, columns, vocab, Gaps(generator(1), 0))
    await start_clock(dut, driver.inputs(columns))
    cocotb.start_soon(watch(dut, checker))
    state = seed_state(rng.randrange(1 << 32))
    for _ in range(given["rounds"]):
        driver.gaps.level = rng.randrange(4)
        logits, sampling = _logits(rng, vocab), _parameters(rng, vocab)
        token, following = choose(logits, sampling, state)
        checker.expect((token, following))
        await driver.send(logits)
        cycles = await driver.choose(sampling, state)
        expected = reference.latency(vocab, greedy=sampling.greedy, top_k=sampling.top_k)
        assert cycles == expected, f"{cycles} cycles instead of {expected} with {sampling}"
        state = following
        await tick(dut)
    checker.finish(given["rounds"])
