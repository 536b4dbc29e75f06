"""The SDRAM as an AXI4 read slave: beats of random bursts, pace, the cost of a jump, planted faults."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from ternac.compile.sdram import NOMINAL_HZ
from ternac.hdl.sdram.axi import SdramReadPort
from ternac.sim.sdram_model import SdramModel
from tests.hdl.sdram.sdram_bench import simulate_with_sdram
from tests.hdl.sdram.test_controller import CHIP

Beat = tuple[int, bool]


def contents(count: int) -> dict[int, int]:
    rng = random.Random(count)
    return {i: rng.randrange(1 << 16) for i in range(count)}


def read(
    dut: SdramReadPort, requests: Sequence[tuple[int, int]], words: dict[int, int], pauses: float = 0
) -> tuple[list[Beat], list[int]]:
    """Beats of bursts (byte address, beats), sent as fast as they are taken, and the cycle of each."""
    wanted, beats, at = sum(count for _, count in requests), list[Beat](), list[int]()
    rng = random.Random(7)

    async def bench(ctx: Any) -> None:
        await ctx.tick().until(dut.ready)
        waiting, cycle = list(requests), 0
        while len(beats) < wanted:
            offered = bool(waiting) and rng.random() >= pauses
            ctx.set(dut.s_axi_arvalid, offered)
            if offered:
                ctx.set(dut.s_axi_araddr, waiting[0][0])
                ctx.set(dut.s_axi_arlen, waiting[0][1] - 1)
                if ctx.get(dut.s_axi_arready):
                    waiting.pop(0)
            if ctx.get(dut.s_axi_rvalid):
                assert ctx.get(dut.s_axi_rresp) == 0
                beats.append((ctx.get(dut.s_axi_rdata), bool(ctx.get(dut.s_axi_rlast))))
                at.append(cycle)
            await ctx.tick()
            cycle += 1
            assert cycle < 40 * wanted + 2000, "beats do not come"

    simulate_with_sdram(dut, dut.pins, CHIP, NOMINAL_HZ, bench, SdramModel(CHIP, 1e9 / NOMINAL_HZ, words))
    return beats, at


@pytest.mark.parametrize(("bits", "pauses"), [(32, 0.0), (32, 0.9), (64, 0.0), (128, 0.5), (512, 0.0)])
def test_bursts_from_anywhere_come_in_order(bits: int, pauses: float) -> None:
    """Near and far, aligned to beats alone, one behind the other and the same again; lengths up to 256."""
    rng, size, words = random.Random(bits), bits // 8, contents(8000)
    dut = SdramReadPort(bits, CHIP, NOMINAL_HZ)
    requests: list[tuple[int, int]] = []
    at = 0
    for _ in range(30):
        beats = rng.choice([1, 2, 3, 7, rng.randrange(1, 33)])
        at = rng.choice([at, at, rng.randrange(0, 8000 // size) * size])
        requests.append((at, beats))
        at += beats * size
    requests.append((64 * size, 256))
    answer, _ = read(dut, requests, words, pauses)
    assert answer == dut.model(words, requests)


def test_one_behind_the_other_keeps_the_chip_busy() -> None:
    """64 bursts of 64 beats: a word in all cycles but those of refreshes."""
    dut, words = SdramReadPort(32, CHIP, NOMINAL_HZ), contents(8192)
    requests = [(256 * i, 64) for i in range(64)]
    beats, at = read(dut, requests, words)
    assert beats == dut.model(words, requests)
    assert 8192 / (at[-1] - at[0] + 2) > 0.975


def test_a_jump_costs_what_it_says() -> None:
    """Forth and back over 2 MB: the least distance of two bursts is a beat's and the jump's."""
    dut = SdramReadPort(32, CHIP, NOMINAL_HZ)
    requests = [(1 << 21 if i % 2 else 0, 8) for i in range(40)]
    beats, at = read(dut, requests, {})
    assert len(beats) == 320
    gaps = [at[i] - at[i - 1] for i in range(8, 320, 8)]
    assert min(gaps) == dut.ratio + dut.jump_cycles
    assert sorted(gaps)[len(gaps) // 2] == min(gaps)


def test_written_words_are_read_and_a_changed_one_is_found() -> None:
    dut = SdramReadPort(32, CHIP, NOMINAL_HZ)
    words = contents(100)
    model = SdramModel(CHIP, 1e9 / NOMINAL_HZ)

    async def bench(ctx: Any) -> None:
        await ctx.tick().until(dut.ready)
        for address, word in words.items():
            ctx.set(dut.write.payload.address, address)
            ctx.set(dut.write.payload.word, word)
            ctx.set(dut.write.valid, 1)
            await ctx.tick().until(dut.write.ready)
            ctx.set(dut.write.valid, 0)
        await ctx.tick().until(dut.written)
        await ctx.tick().repeat(50)

    simulate_with_sdram(dut, dut.pins, CHIP, NOMINAL_HZ, bench, model)
    assert {at: model.words[at] for at in words} == words
    requests = [(0, 50)]
    changed = {**words, 41: words[41] ^ 1}
    beats, _ = read(SdramReadPort(32, CHIP, NOMINAL_HZ), requests, changed)
    found = [i for i, (a, b) in enumerate(zip(beats, dut.model(words, requests), strict=True)) if a != b]
    assert found == [20]


def test_a_width_that_is_no_port_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        SdramReadPort(16, CHIP, NOMINAL_HZ)
