"""Rows behind the AXI block: the access unit alone, against its model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import Mem, preset
from ternac.hdl.axi.rows import PARTS, Job, RowAccess, RowShape
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS, READ_ROWS
from tests.hdl.sim import simulate

COLUMNS, WORDS = 3, 64


class Engine:
    """Row RAM behind a `RowAccess`, which reads late and is busy and not idle at random."""

    def __init__(self, unit: RowAccess, rng: random.Random, late: int = 2) -> None:
        self.unit, self.rng, self.late = unit, rng, late
        self.rows = np.frombuffer(rng.randbytes(COLUMNS * WORDS), np.uint8).reshape(COLUMNS, WORDS).copy()
        self.answers: list[tuple[int, int]] = []
        self.clearing = self.cycle = 0
        self.refused = 0

    async def tick(self, ctx: Any) -> None:
        """A cycle: what the unit asks for now is done, late; what was asked before is answered."""
        master, rng = self.unit.master, self.rng
        busy = self.clearing > 0
        writes, reads = ctx.get(master.wr_en), ctx.get(master.rd_en)
        word = ctx.get(master.wr_addr) % WORDS
        if (writes or reads) and (busy or not ctx.get(master.hold)):
            self.refused += 1
        elif writes and ctx.get(master.wr_block) == CLEAR_BLOCK:
            count = CLEAR_WORDS * ((ctx.get(master.wr_data) & 0xFF) + 1)
            self.rows[:, np.arange(word, word + count) % WORDS] = 0
            self.clearing = count
        elif writes:
            assert ctx.get(master.wr_mem) == Mem.ROWS
            self.rows[ctx.get(master.wr_block), word] = ctx.get(master.wr_data) & 0xFF
        elif reads:
            column = ctx.get(master.rd_block) - READ_ROWS
            at = self.cycle + self.late + rng.randrange(4)
            self.answers.append((at, int(self.rows[column, ctx.get(master.rd_addr) % WORDS])))
        due = [value for at, value in self.answers if at == self.cycle]
        self.answers = [each for each in self.answers if each[0] > self.cycle]
        ctx.set(master.rd_valid, bool(due))
        ctx.set(master.rd_data, due[0] if due else rng.randrange(1 << 16))
        ctx.set(master.busy, busy)
        ctx.set(master.idle, rng.random() < 0.3)
        self.clearing = max(0, self.clearing - 1)
        self.cycle += 1
        await ctx.tick()


def run(unit: RowAccess, accesses: int, seed: int) -> None:
    """Random accesses; AssertionError where unit and model differ."""
    rng = random.Random(seed)
    engine = Engine(unit, rng)

    async def bench(ctx: Any) -> None:
        for _ in range(accesses):
            job = rng.choice(list(Job))
            word, column, data = rng.randrange(WORDS), rng.randrange(COLUMNS), rng.getrandbits(32)
            data = data & ~0xFF | rng.randrange(4) if job == Job.CLEAR else data
            for name, value in (("point", 1), ("point_word", word), ("point_column", column)):
                ctx.set(getattr(unit, name), value)
            await engine.tick(ctx)
            ctx.set(unit.point, 0)
            found, after = RowAccess.model(engine.rows, job, word, column, data)
            for name, value in (("start", 1), ("job", job), ("data", data)):
                ctx.set(getattr(unit, name), value)
            await engine.tick(ctx)
            ctx.set(unit.start, 0)
            for _ in range(2000):
                if not ctx.get(unit.busy):
                    break
                await engine.tick(ctx)
            else:
                raise AssertionError("an access is never over")
            assert np.array_equal(engine.rows, after), job
            if job == Job.FETCH:
                assert ctx.get(unit.words) == found
            assert ctx.get(unit.word) == word + (0 if job == Job.CLEAR else PARTS)
            assert not ctx.get(unit.master.hold) and not engine.refused

    simulate(unit, bench)


@pytest.mark.parametrize("seed", range(3))
def test_random_accesses_are_the_models(seed: int) -> None:
    run(RowAccess(), 60, seed)


def test_a_planted_fault_is_found() -> None:
    class Off(RowAccess):
        """Reads the column before the one that was asked for."""

        def elaborate(self, platform: Any) -> Any:
            m = super().elaborate(platform)
            m.d.comb += self.master.rd_block.eq(self.column + READ_ROWS - 1)
            return m

    with pytest.raises(AssertionError):
        run(Off(), 60, 0)


def test_a_shape_is_that_of_the_engine() -> None:
    assert RowShape.of(preset("tiny-rows")) == RowShape(4, 4096)
    assert RowShape.of(preset("tiny")) is None
