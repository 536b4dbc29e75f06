"""Epilogue with its control: every kind of record, in any order, with bubbles, against ``Epilogue.model``."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.epilogue import (
    B_OFFSET,
    C_OFFSET,
    SQUARE_OFFSET,
    Y_OFFSET,
    AddSelect,
    Epilogue,
    EpilogueRecord,
    MulSelect,
)
from tests.hdl.engine.epilogue_driver import EpilogueControl
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist

TABLES = 2
CORNERS20 = (-(1 << 19), (1 << 19) - 1, -1, 0, 1, 32767, 32768, -32768, -32769, 127, 128, -128, -129)
CORNERS16 = (-32768, 32767, -1, 0, 1)


def _pick(rng: random.Random, bits: int, corners: tuple[int, ...]) -> int:
    if rng.random() < 0.3:
        return rng.choice(corners)
    return rng.randrange(-(1 << bits - 1), 1 << bits - 1) >> rng.randrange(bits)


def _record(rng: random.Random, square: bool) -> EpilogueRecord:
    table = not square and rng.random() < 0.4
    return EpilogueRecord(
        shift1=rng.choice((rng.randrange(8), rng.randrange(32))),
        narrow1=table or square or rng.random() < 0.5,
        table_en=table,
        table_sel=rng.randrange(TABLES),
        sub=not square and rng.random() < 0.4,
        mul=MulSelect.SQUARE if square else rng.choice((MulSelect.CONST, MulSelect.C)),
        const=rng.choice((1, 255, -256, rng.randrange(-256, 256))),
        add=rng.choice(tuple(AddSelect)),
        shift2=rng.choice((rng.randrange(12), rng.randrange(32))),
        narrow2=rng.random() < 0.5,
    )


class Bench:
    """Driver and monitor of one control and one column."""

    def __init__(self, table: list[int], **column: Any) -> None:
        self.control = EpilogueControl(TABLES)
        self.column = Epilogue(TABLES, table_init=[word & 0xFFFF for word in table], **column)
        self.top = Module()
        self.top.submodules.control, self.top.submodules.column = self.control, self.column
        wiring.connect(self.top, self.control.stages, self.column.stages)

    def drive(self, ctx: Any, record: EpilogueRecord | None, first: bool = False, last: bool = False) -> None:
        """Record of cycle 0, or a bubble."""
        c = self.control
        ctx.set(c.valid, record is not None)
        if record is None:
            return
        for name in EpilogueRecord.__dataclass_fields__:
            ctx.set(getattr(c, name), getattr(record, name))
        ctx.set(c.first, first)
        ctx.set(c.last, last)


def test_random_records_in_any_order() -> None:
    rng = random.Random(7)
    table = [rng.randrange(-32768, 32768) for _ in range(TABLES * 256)]
    bench = Bench(table)
    items: list[Any] = []
    for _ in range(4000):
        bubble = rng.random() < 0.2
        items.append(
            None
            if bubble
            else (
                _record(rng, rng.random() < 0.15),
                _pick(rng, 20, CORNERS20),
                _pick(rng, 16, CORNERS16),
                _pick(rng, 9, (-256, 255, 0, 1, -1)),
            )
        )

    async def run(ctx: Any) -> None:
        seen = 0
        for t in range(len(items) + Y_OFFSET):
            now = items[t] if t < len(items) else None
            bench.drive(ctx, now and now[0])
            for offset, port, field in (
                (0, bench.column.v0, 1),
                (B_OFFSET, bench.column.b, 2),
                (C_OFFSET, bench.column.c, 3),
            ):
                if 0 <= t - offset < len(items) and items[t - offset]:
                    ctx.set(port, items[t - offset][field])
            done = items[t - Y_OFFSET] if t >= Y_OFFSET else None
            expected_valid = bool(done) and done[0].mul is not MulSelect.SQUARE
            assert ctx.get(bench.control.y_valid) == expected_valid
            if expected_valid:
                y, _ = bench.column.model(*done, table)
                assert ctx.get(bench.column.y) == y, done
                seen += 1
            await ctx.tick()
        assert seen > 2000

    simulate(bench.top, run)


@pytest.mark.parametrize("drop", [False, True])
def test_sum_of_squares_with_bubbles(drop: bool) -> None:
    rng = random.Random(11)
    bench = Bench([])
    runs = [
        [rng.choice((-(1 << 19), 1 << 18, rng.randrange(-4096, 4096))) for _ in range(length)]
        for length in (1, 2, 9, 1, 40)
    ]
    record = EpilogueRecord(mul=MulSelect.SQUARE, narrow1=True, shift1=4)
    other = EpilogueRecord(narrow1=True)
    script: list[Any] = []
    expected = []
    for values in runs:
        total = 0
        for i, value in enumerate(values):
            last = i == len(values) - 1
            script.append((record, value, i == 0, last))
            if not (last and drop):
                total += bench.column.model(record, value, 0, 0, [])[1]
            script += [rng.choice((None, (other, 5, True, True)))] * rng.randrange(3)
        expected.append(total)

    async def run(ctx: Any) -> None:
        ctx.set(bench.column.drop_last, drop)
        sums = []
        for t in range(len(script) + SQUARE_OFFSET + 1):
            item = script[t] if t < len(script) else None
            bench.drive(ctx, item and item[0], *(item[2:] if item else ()))
            if item:
                ctx.set(bench.column.v0, item[1])
            before = script[t - SQUARE_OFFSET] if 0 <= t - SQUARE_OFFSET < len(script) else None
            assert ctx.get(bench.control.square_done) == bool(before and before[0] is record and before[3])
            if ctx.get(bench.control.square_done):
                sums.append(ctx.get(bench.column.square_sum))
            await ctx.tick()
        assert sums == expected

    simulate(bench.top, run)


def test_table_is_written_at_run_time() -> None:
    bench = Bench([])
    record = EpilogueRecord(narrow1=True, table_en=True, table_sel=1)

    async def run(ctx: Any) -> None:
        ctx.set(bench.column.table_wr_en, 1)
        ctx.set(bench.column.table_wr_addr, 256 + 128 - 7)
        ctx.set(bench.column.table_wr_data, 0x8001)
        await ctx.tick()
        ctx.set(bench.column.table_wr_en, 0)
        bench.drive(ctx, record)
        ctx.set(bench.column.v0, -7)
        await ctx.tick().repeat(Y_OFFSET)
        assert ctx.get(bench.column.y) == 0x8001 - 0x10000

    simulate(bench.top, run)


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"^tables must be 1\.\.16, not 0$"):
        Epilogue(0)
    with pytest.raises(ValueError, match=r"^tables must be 1\.\.16, not 17$"):
        EpilogueControl(17)
    with pytest.raises(ValueError, match=r"^square_bits must be 15\.\.32, not 33$"):
        Epilogue(2, square_bits=33)


def test_netlist_has_no_multiplier_and_its_area() -> None:
    ecp5 = netlist(Epilogue(4, tech=Technology.ECP5), "synth_ecp5")
    ice40 = netlist(Epilogue(2, tech=Technology.ICE40), "synth_ice40")
    assert_no_multiplier(ecp5)
    assert_no_multiplier(ice40)
    assert comb_ecp5(ecp5) <= 610
    assert ecp5["DP16KD"] == 1
    assert ice40["SB_LUT4"] <= 660
