"""The weight store in SDRAM: loaded words come out as words of the dot units, anew from every restart."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import preset
from ternac.compile.layout import stream_blocks, stream_trits, weight_blocks
from ternac.compile.sdram import NOMINAL_HZ
from ternac.hdl.array.negatives import NegativeCount
from ternac.hdl.cells.tech import Technology
from ternac.hdl.sdram.feed import WeightFeed
from ternac.hdl.sdram.store import READ_FIFO, SdramStore
from ternac.sim.sdram_model import SdramModel
from tests.hdl.sdram.sdram_bench import simulate_with_sdram
from tests.hdl.sdram.test_controller import CHIP
from tests.hdl.sim import simulate

SMALL = replace(
    preset("ulx3s-85f-sdram"), name="small", columns=2, lanes=10, chain=2, weight_block_bits=18,
    embed_depth=64,
)  # fmt: skip


async def take(ctx, dut, count, rng, share):
    """``count`` words, taken in a ``share`` of the cycles."""
    got, limit = [], 200 * count + 2000
    while len(got) < count:
        ready = rng.random() < share
        ctx.set(dut.o.ready, ready)
        if ready and ctx.get(dut.o.valid):
            got.append(ctx.get(dut.o.payload))
        await ctx.tick()
        limit -= 1
        assert limit, "words do not come"
    ctx.set(dut.o.ready, 0)
    return got


async def restart(ctx, dut):
    ctx.set(dut.restart, 1)
    await ctx.tick()
    ctx.set(dut.restart, 0)


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_words_in_order_from_every_restart(share):
    """Loaded as the link does, a word every other cycle; restarted with words in every part of the way."""
    rng = random.Random(round(share * 10))
    dut = SdramStore(SMALL, CHIP, NOMINAL_HZ)
    words = [rng.randrange(1 << 16) for _ in range(400)]
    want = [a | b << 16 for a, b in zip(words[::2], words[1::2], strict=True)]

    async def bench(ctx):
        await ctx.tick().until(dut.ready)
        for address, word in enumerate(words):
            ctx.set(dut.wr_address, address)
            ctx.set(dut.wr_word, word)
            ctx.set(dut.wr_en, 1)
            await ctx.tick()
            ctx.set(dut.wr_en, 0)
            await ctx.tick()
        await restart(ctx, dut)  # the last words are still on their way in
        assert await take(ctx, dut, 200, rng, share) == want
        for _ in range(10):
            await ctx.tick().repeat(rng.randrange(1, 300))
            await restart(ctx, dut)
            count = rng.randrange(1, 40)
            assert await take(ctx, dut, count, rng, share) == want[:count]

    simulate_with_sdram(dut, dut.pins, CHIP, NOMINAL_HZ, bench)


@pytest.mark.parametrize("after", [-1, 0, 1, 2])
def test_a_restart_waits_for_a_word_that_comes_with_it(after):
    """The last word comes in the cycle of the restart, one after it, or one or two before it: it is read."""
    rng = random.Random(after)
    dut = SdramStore(SMALL, CHIP, NOMINAL_HZ)
    fresh = rng.randrange(1, 1 << 16)
    at = max(0, -after)  # the cycle of the word

    async def bench(ctx):
        await ctx.tick().until(dut.ready)
        for cycle in range(4):
            ctx.set(dut.restart, cycle == at + after)
            ctx.set(dut.wr_en, cycle == at)
            ctx.set(dut.wr_word, fresh)
            await ctx.tick()
        assert await take(ctx, dut, 1, rng, 1.0) == [fresh]

    simulate_with_sdram(dut, dut.pins, CHIP, NOMINAL_HZ, bench)


def test_pace():
    """Taken as they come, words keep the memory's pace; left alone, the FIFO fills and nothing is lost."""
    dut = SdramStore(SMALL, CHIP, NOMINAL_HZ)
    model = SdramModel(CHIP, 1e9 / NOMINAL_HZ, {i: i & 0xFFFF for i in range(1 << 14)})
    cycles = 6000
    got = []

    async def bench(ctx):
        await ctx.tick().until(dut.ready)
        await restart(ctx, dut)
        await ctx.tick().repeat(2 * READ_FIFO)
        ctx.set(dut.o.ready, 1)
        for _ in range(cycles):
            if ctx.get(dut.o.valid):
                got.append(ctx.get(dut.o.payload))
            await ctx.tick()

    simulate_with_sdram(dut, dut.pins, CHIP, NOMINAL_HZ, bench, model)
    assert got == [2 * i | 2 * i + 1 << 16 for i in range(len(got))]
    assert 2 * len(got) > 0.975 * cycles


class Fed(wiring.Component):
    """`WeightFeed` and the count of -1 weights behind it, on ports."""

    def __init__(self, tech: Technology) -> None:
        g = SMALL
        self.tech = tech
        stage = 2 * g.columns * g.chains
        super().__init__({
            "word": In(16 * g.stream_words), "en": In(1), "first": In(1),
            "stages": Out(data.ArrayLayout(stage, g.chain)), "counts": Out(data.ArrayLayout(16, g.columns)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        g = SMALL
        m.submodules.feed = feed = WeightFeed(g, latency=2, tech=self.tech)
        m.d.comb += feed.word.eq(self.word)
        m.d.comb += [port.eq(stage) for port, stage in zip(self.stages, feed.trits, strict=True)]
        for c in range(g.columns):
            m.submodules[f"negatives_{c}"] = count = NegativeCount(g.lanes, g.chain, g.x_depth * g.lanes)
            m.d.comb += [
                count.acc_en.eq(self.en),
                count.acc_first.eq(self.first),
                self.counts[c].eq(count.count),
            ]
            mine = [q * g.columns + c for q in range(g.chains)]
            for j in range(g.chain):
                m.d.comb += count.neg[j].eq(Cat(feed.trits[j][2 * t + 1] for t in mine))
        return m


def test_stages_are_those_of_a_weight_memory():
    """Every word's trits, skewed, are what `weight_blocks` puts into memories; the rows' -1 are counted."""
    g, rng = SMALL, np.random.default_rng(1)
    trits = rng.integers(-1, 2, (60, g.columns, g.lanes)).astype(np.int8)
    packed = stream_blocks(trits, g)
    assert np.array_equal(stream_trits(packed, g)[: len(trits)], trits)
    memory = replace(g, weight_ram="block", weight_code="two_bit", weight_depth=len(trits))
    blocks = weight_blocks(trits, memory).reshape(g.chain, memory.weight_blocks_per_stage, -1)
    dut = Fed(Technology.PORTABLE)
    words = [int.from_bytes(row.astype("<u2").tobytes(), "little") for row in packed.reshape(len(trits), -1)]
    lag = 2
    delay = lag + 1 + 3 + g.chain  # of the flags: weights, chain and tree of a unit with five chains

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for at in range(len(words) + delay + 1):
            ctx.set(dut.word, words[at] if at < len(words) else 0)
            ctx.set(dut.first, 1)
            for j in range(g.chain):
                index = at - lag - j
                if 0 <= index < len(words):
                    want = sum(int(blocks[j, b, index]) << 18 * b for b in range(len(blocks[j])))
                    assert ctx.get(dut.stages[j]) == want
            index = at - delay
            if 0 <= index < len(words):
                for c in range(g.columns):
                    assert ctx.get(dut.counts[c]) == int((trits[index, c] < 0).sum())
            await ctx.tick()

    simulate(dut, bench)
