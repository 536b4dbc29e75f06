"""The SDRAM controller on a memory that knows its data sheet: random traffic, pace, planted faults."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest

from ternac.compile.sdram import BURST, ULX3S_CHIP, SdramChip
from ternac.errors import UsageError
from ternac.hdl.sdram.controller import SdramController
from ternac.sim.sdram_model import SdramFault, SdramModel
from tests.hdl.sdram.sdram_bench import simulate_with_sdram

CHIP = replace(ULX3S_CHIP, power_up=3_000)
"""Quick to wake up; all else as on the board."""


async def write(ctx, dut, address, word):
    ctx.set(dut.write.payload.address, address)
    ctx.set(dut.write.payload.word, word)
    ctx.set(dut.write.valid, 1)
    await ctx.tick().until(dut.write.ready)
    ctx.set(dut.write.valid, 0)


async def read(ctx, dut, burst, count, rng=None, limit=4000):
    """The next ``count`` words from ``burst`` on; ``rng`` makes the FIFO's room come and go."""
    ctx.set(dut.burst, burst)
    ctx.set(dut.restart, 1)
    await ctx.tick()
    ctx.set(dut.restart, 0)
    words, fresh = [], False
    while len(words) < count:
        ctx.set(dut.room, 1 if rng is None else rng.random() < 0.3)
        fresh |= bool(ctx.get(dut.flush))
        if ctx.get(dut.valid) and fresh:
            words.append(ctx.get(dut.data))
        await ctx.tick()
        limit -= 1
        assert limit, "words do not come"
    ctx.set(dut.room, 0)
    return words


@pytest.mark.parametrize("clock_hz", [25_000_000, 60_000_000, 125_000_000])
def test_random_traffic(clock_hz):
    """Words written anywhere, row ends and the chip's end included, come back in order; no rule is broken."""
    rng = random.Random(clock_hz)
    dut = SdramController(CHIP, clock_hz)
    last = (1 << CHIP.word_bits) // BURST
    expected = {}

    async def bench(ctx):
        for _ in range(50):
            base = rng.choice([rng.randrange(last), last - 2, 64 * rng.randrange(last // 64) + 63])
            for i in rng.sample(range(4 * BURST), 12):
                address = (base * BURST + i) % (1 << CHIP.word_bits)
                expected[address] = rng.randrange(1 << 16)
                await write(ctx, dut, address, expected[address])
                if rng.random() < 0.2:
                    await ctx.tick().repeat(rng.randrange(1, 40))
            await ctx.tick().repeat(rng.randrange(1, 30))
            count = rng.randrange(1, 40)
            got = await read(ctx, dut, base, count, rng)
            want = [expected.get((base * BURST + i) % (1 << CHIP.word_bits), 0) for i in range(count)]
            assert got == want
            if rng.random() < 0.3:  # again at once, while words are on their way
                assert await read(ctx, dut, base, 1) == want[:1]

    model = simulate_with_sdram(dut, dut.pins, CHIP, clock_hz, bench)
    assert model.writes == 600
    assert model.refreshes > 2


def test_pace():
    """Reading on and on: the port is busy all the time but for refreshes, across banks and rows."""
    dut = SdramController(CHIP, 60_000_000)
    model = SdramModel(CHIP, 1e9 / 60e6, {i: i * 7 & 0xFFFF for i in range(1 << 14)})
    cycles = 12_000
    seen = deque()

    async def bench(ctx):
        await ctx.tick().until(dut.ready)
        await read(ctx, dut, 0, 1)
        ctx.set(dut.room, 1)
        for _ in range(cycles):
            if ctx.get(dut.valid):
                seen.append(ctx.get(dut.data))
            await ctx.tick()

    simulate_with_sdram(dut, dut.pins, CHIP, 60_000_000, bench, model)
    first = seen[0] * pow(7, -1, 1 << 16) & 0xFFFF
    assert list(seen) == [(first + i) * 7 & 0xFFFF for i in range(len(seen))]
    t = dut.cycles
    lost = t.rp + t.rfc + t.rcd
    assert len(seen) / cycles >= 1 - (lost + 1) / t.refresh
    assert len(seen) / cycles > 0.97


@pytest.mark.parametrize(
    ("rule", "slower"),
    [("tRCD", {"rcd": 40}), ("tRP", {"rp": 40}), ("tRAS", {"ras": 90}), ("tRC", {"rc": 200}),
     ("tRFC", {"rfc": 120}), ("tWR|within", {"wr": 60}), ("power-up", {"power_up": 4_000}),
     ("refresh", {"refresh": 7_000}), ("tMRD", {"mrd_cycles": 4}), ("tRRD", {"rrd": 200}),
     ("latency 2", {"cas2_mhz": 50})],
)  # fmt: skip
def test_the_model_catches_each_rule(rule, slower):
    """A chip slower than the controller thinks in one respect: the model names the rule."""
    dut = SdramController(CHIP, 60_000_000)
    slow: SdramChip = replace(CHIP, **slower)

    async def bench(ctx):
        for row in range(8):
            await write(ctx, dut, row << 11, row)
        ctx.set(dut.burst, 63)
        ctx.set(dut.restart, 1)
        await ctx.tick()
        ctx.set(dut.restart, 0)
        ctx.set(dut.room, 1)
        await ctx.tick().repeat(40_000 if "refresh" in slower else 2_000)

    with pytest.raises(SdramFault, match=rule):
        simulate_with_sdram(dut, dut.pins, slow, 60_000_000, bench)


def test_refusals():
    with pytest.raises(UsageError, match="runs at 1 to 133 MHz"):
        SdramController(CHIP, 200_000_000)
    with pytest.raises(ValueError, match="more than a burst hides"):
        SdramController(replace(CHIP, rcd=100), 125_000_000)


def test_refreshes_keep_their_rate():
    """On average a refresh every `refresh` cycles, however late single ones come: none is owed in the end."""
    chip = replace(CHIP, refresh=1_000)  # often, so that a cycle lost at each one shows
    dut = SdramController(chip, 60_000_000)
    rng = random.Random(3)
    rounds = 200

    async def bench(ctx):
        await ctx.tick().until(dut.ready)
        ctx.set(dut.restart, 1)
        await ctx.tick()
        ctx.set(dut.restart, 0)
        for _ in range(rounds):
            ctx.set(dut.room, rng.randrange(2))
            await ctx.tick().repeat(dut.cycles.refresh)

    model = simulate_with_sdram(dut, dut.pins, chip, 60_000_000, bench)
    assert rounds - 1 <= model.refreshes <= rounds
