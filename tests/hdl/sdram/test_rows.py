"""The row mover on a memory that knows its data sheet: moves, the host's work, cycles, planted faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from ternac.compile.geometry import PRESETS
from ternac.compile.row_store import BURST, CHIP, REFRESH, SECTOR_WORDS, MoveTime, word_address
from ternac.hdl.sdram.rows import RowMover
from ternac.link import CLEAR_BLOCK, HALF_BLOCK, READ_MAP, READ_ROWS
from ternac.sim.sdram_model import SdramFault, SdramModel
from tests.hdl.sdram.sdram_bench import simulate_with_sdram

GEOMETRY = replace(PRESETS["tiny-rows"], name="stored", rows=128, row_ram="sdram")
WIDE = replace(PRESETS["ulx3s-85f-rows"], name="wide", rows=128, row_ram="sdram", list_slots=8)
QUICK = replace(CHIP, power_up=3_000)
"""Quick to wake up; all else as on the board."""
POWER_UP = 301


class Bench:
    """The mover, with a list of digits, a row RAM and a chip."""

    def __init__(self, geometry=GEOMETRY, seed: int = 1, chip=QUICK) -> None:
        self.dut = RowMover(geometry, power_up=POWER_UP)
        self.g, self.chip = geometry, chip
        self.rng = np.random.default_rng(seed)
        slots = geometry.list_slots * geometry.contexts
        self.digits = self.rng.integers(0, 1024, (slots, geometry.columns))
        self.rows = self.rng.integers(0, 256, (geometry.columns, geometry.rows)).astype(np.uint8)
        self.sdram = SdramModel(chip, 10.0)
        self.cycle = 0
        self.drained: list[int] = [0, 0, 0, 0]
        self.listed = (0, 0)

    async def tick(self, ctx: SimulatorContext) -> None:
        """A cycle of row RAM and list: words come three cycles after their address, digits one."""
        dut, g = self.dut, self.g
        if ctx.get(dut.fill):
            at, pair, word = ctx.get(dut.fill_address), ctx.get(dut.fill_pair), ctx.get(dut.fill_word)
            self.rows[2 * pair : 2 * pair + 2, at] = word & 255, word >> 8
        self.drained = [ctx.get(dut.drain_address), *self.drained[:3]]
        inside = ctx.get(dut.list_context) * g.list_slots
        words = (ctx.get(dut.list_a), ctx.get(dut.list_b))
        column, use = ctx.get(dut.list_column), ctx.get(dut.list_use)
        await ctx.tick()
        for port, word in zip((dut.a, dut.b), words, strict=True):
            digit = self.digits[(inside + word) % len(self.digits), column] if use else 0
            ctx.set(port, int(digit))
        at = self.drained[2]
        for pair in range(g.columns // 2):
            low, high = (int(self.rows[2 * pair + i, at]) for i in range(2))
            ctx.set(dut.drained[pair], low | high << 8)
        self.cycle += 1

    async def wait(self, ctx: SimulatorContext, until: Callable[[], object], limit: int = 5_000) -> None:
        for _ in range(limit):
            if until():
                return
            await self.tick(ctx)
        raise AssertionError("the mover does not finish")

    async def ready(self, ctx: SimulatorContext) -> None:
        await self.wait(ctx, lambda: ctx.get(self.dut.ready))

    async def rest(self, ctx: SimulatorContext) -> None:
        ctx.set(self.dut.rest, 1)
        await self.tick(ctx)
        ctx.set(self.dut.rest, 0)

    async def move(self, ctx: SimulatorContext, **settings: int) -> tuple[int, int]:
        """Move; returns the cycle in which the mover sees it, and that from which its words may be used."""
        dut = self.dut
        for name, value in settings.items():
            ctx.set(getattr(dut.settings, name), value)
        ctx.set(dut.move, 1)
        await self.tick(ctx)
        asked = self.cycle
        ctx.set(dut.move, 0)
        await self.wait(ctx, lambda: ctx.get(dut.retire))
        return asked, self.cycle + 2

    async def write(self, ctx: SimulatorContext, block: int, at: int, words: list[int]) -> None:
        dut = self.dut
        for i, word in enumerate(words):
            for port, value in ((dut.wr_block, block), (dut.wr_addr, at + i), (dut.wr_data, word)):
                ctx.set(port, int(value))
            ctx.set(dut.wr_en, 1)
            await self.tick(ctx)
            ctx.set(dut.wr_en, 0)
            await self.tick(ctx)

    async def read(self, ctx: SimulatorContext, block: int, at: int) -> int:
        dut = self.dut
        ctx.set(dut.rd_block, block)
        ctx.set(dut.rd_addr, at)
        ctx.set(dut.rd_en, 1)
        await self.tick(ctx)
        ctx.set(dut.rd_en, 0)
        await self.wait(ctx, lambda: ctx.get(dut.rd_valid), 100_000)
        return int(ctx.get(dut.rd_data))

    def run(self, bench: Callable[[SimulatorContext], Awaitable[None]]) -> SdramModel:
        return simulate_with_sdram(self.dut, self.dut.pins, self.chip, 100_000_000, bench, self.sdram)


def random_move(bench: Bench) -> dict[str, int]:
    """Settings of a move that the row RAM has room for."""
    rng, g = bench.rng, bench.g
    step, heads = int(rng.integers(0, 4)), int(rng.integers(1, 13))
    two = int(rng.integers(2))
    heads = min(heads, g.rows >> step, g.list_slots // 2 * g.columns)
    lists = int(rng.integers(g.list_slots // 2)) | int(rng.integers(g.list_slots // 2)) << 4
    return {
        "out": int(rng.integers(2)),
        "context": int(rng.integers(g.contexts)),
        "heads": heads,
        "lists": lists,
        "bits": int(rng.integers(1, 6 if two else 10)),
        "two": two,
        "bursts": int(rng.integers(0, 4)),
        "step": step,
        "sector": int(rng.integers(1 << 15)),
        "buffer": int(rng.integers(0, g.rows - (heads << step) + 1)),
    }


@pytest.mark.parametrize("geometry", [GEOMETRY, WIDE], ids=["4 columns", "12 columns"])
def test_moves_are_those_of_the_model_and_take_the_cycles_of_the_page(geometry) -> None:
    bench = Bench(geometry)
    words: dict[int, int] = {}
    time = MoveTime()

    async def run(ctx: SimulatorContext) -> None:
        await bench.ready(ctx)
        for _ in range(50):
            await bench.tick(ctx)
        time.restart(bench.cycle)
        await bench.rest(ctx)
        for _ in range(20):
            await bench.tick(ctx)
        before: dict[str, int] = {}
        for turn in range(30):
            s = random_move(bench)
            if turn % 3 == 2:  # what was moved out comes back elsewhere
                s = {**before, "out": 0, "buffer": 0}
            before = s
            inside = s["context"] * geometry.list_slots
            flat = bench.digits[inside : inside + geometry.list_slots].reshape(-1)
            a, b = (flat[(s["lists"] >> shift & 15) * geometry.columns :][: s["heads"]] for shift in (0, 4))
            memory = np.zeros(1 << CHIP.word_bits, np.uint16)
            for at, word in words.items():
                memory[at] = word
            rows = bench.rows.copy()
            kept = {name: s[name] for name in ("bits", "bursts", "step", "sector", "buffer")}
            RowMover.model(memory, rows, a, b if s["two"] else None, out=bool(s["out"]), **kept)
            asked, done = await bench.move(ctx, **s)
            assert done == time.move(asked, s["heads"], BURST << s["bursts"], out=bool(s["out"])), s
            for _ in range(8):
                await bench.tick(ctx)
            words.update({int(at): int(memory[at]) for at in np.flatnonzero(memory)})
            assert np.array_equal(bench.rows, rows), s
            assert {at: word for at, word in bench.sdram.words.items() if word} == {
                at: word for at, word in words.items() if word
            }
            if bench.rng.random() < 0.3:
                for _ in range(int(bench.rng.integers(REFRESH))):
                    await bench.tick(ctx)

    model = bench.run(run)
    assert model.refreshes > 5 and time.refreshes > 5


def test_the_host_writes_reads_maps_and_clears() -> None:
    bench = Bench(seed=4)

    async def run(ctx: SimulatorContext) -> None:
        await bench.ready(ctx)
        rng, expected = bench.rng, {}
        for half in (0, 1):
            await bench.write(ctx, HALF_BLOCK, 0, [half])
            for block, at, count in ((0, 0, 20), (1, 505, 40), (127, 65_500, 36)):
                words = rng.integers(1, 1 << 16, count).tolist()
                await bench.write(ctx, block, at, words)
                where = (half << 7 | block) << 16 | at
                expected.update({where + i: word for i, word in enumerate(words)})
            for block, at in ((0, 3), (1, 511), (1, 512), (1, 544), (127, 65_535), (2, 0)):
                got = await bench.read(ctx, READ_ROWS + block, at)
                assert got == expected.get((half << 7 | block) << 16 | at, 0), (half, block, at)
        assert {k: v for k, v in bench.sdram.words.items() if v} == expected
        await bench.write(ctx, HALF_BLOCK, 0, [0])
        for bursts in range(4):
            for number in (0, 1, 16, 17):
                found = await bench.read(ctx, READ_MAP + bursts, number)
                for k in range(16):
                    first = int(word_address(k % 4, (4 * number + k // 4) << bursts))
                    own = any(expected.get(first + w, 0) for w in range(BURST << bursts))
                    assert found >> k & 1 == own, (bursts, number, k)
        begin = 65_536 // SECTOR_WORDS
        await bench.write(ctx, CLEAR_BLOCK, begin, [3])
        assert ctx.get(bench.dut.busy)
        await bench.read(ctx, READ_ROWS, 0)  # answered when all is cleared
        assert not ctx.get(bench.dut.busy)
        cleared = range(begin * SECTOR_WORDS, (begin + 4) * SECTOR_WORDS)
        own = np.concatenate(
            [
                word_address(bank, 8 * s + np.arange(8))[:, None] + np.arange(8)
                for bank in range(4)
                for s in range(begin, begin + 4)
            ]
        )
        assert sorted(own.reshape(-1).tolist()) != list(cleared)  # a sector is a piece of each bank
        left = {k: v for k, v in expected.items() if k not in set(own.reshape(-1).tolist())}
        assert len(left) < len(expected)
        assert {k: v for k, v in bench.sdram.words.items() if v} == left

    bench.run(run)


def test_rests_of_any_length_owe_their_refreshes() -> None:
    """Short tokens that begin again and again do not keep the chip from its refreshes."""
    bench = Bench(seed=5)

    async def run(ctx: SimulatorContext) -> None:
        await bench.ready(ctx)
        for pause in (5, 30, 200, 380, 389, 390, 391, 1000) * 3:
            await bench.rest(ctx)
            for _ in range(pause):
                await bench.tick(ctx)

    model = bench.run(run)
    assert model.refreshes >= bench.cycle // REFRESH


@pytest.mark.parametrize(
    ("rule", "slower"),
    [("tRCD", {"rcd": 40}), ("tRP", {"rp": 60}), ("tRAS", {"ras": 400}), ("tRFC", {"rfc": 120}),
     ("tWR|within", {"wr": 60}), ("power-up", {"power_up": 4_000}), ("refresh", {"refresh": 1_000}),
     ("tMRD", {"mrd_cycles": 8})],
)  # fmt: skip
def test_a_slower_chip_is_noticed(rule: str, slower: dict[str, float]) -> None:
    bench = Bench(seed=2, chip=replace(QUICK, **slower))  # type: ignore[arg-type]
    move = {"heads": 5, "bits": 3, "bursts": 0, "step": 1, "sector": 3}

    async def run(ctx: SimulatorContext) -> None:
        await bench.ready(ctx)
        await bench.rest(ctx)
        for _ in range(20):
            await bench.move(ctx, out=1, **move)
            await bench.move(ctx, out=0, **move)
        for _ in range(6 * REFRESH):
            await bench.tick(ctx)
        await bench.move(ctx, out=1, **move)

    with pytest.raises(SdramFault, match=rule):
        bench.run(run)


def test_a_wrong_digit_is_noticed() -> None:
    bench = Bench(seed=3)

    async def run(ctx: SimulatorContext) -> None:
        await bench.ready(ctx)
        memory = np.zeros(1 << CHIP.word_bits, np.uint16)
        settings = {"bits": 4, "bursts": 0, "step": 1, "sector": 0, "buffer": 0}
        RowMover.model(memory, bench.rows, bench.digits[0][:3], None, out=True, **settings)  # type: ignore[arg-type]
        bench.digits[0, 1] ^= 2
        await bench.move(ctx, out=1, heads=3, lists=0, two=0, **settings)
        for _ in range(8):
            await bench.tick(ctx)
        assert {k for k, v in bench.sdram.words.items() if v} != set(np.flatnonzero(memory).tolist())

    bench.run(run)
