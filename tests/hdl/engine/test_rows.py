"""The parts of an engine with rows against their models: random stimulus, gaps, extremes, planted faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.digit_list import DigitList
from ternac.hdl.engine.row_address import ADDRESS_LATENCY, RowAddressFormer
from ternac.hdl.engine.row_column import RowColumn
from ternac.hdl.engine.winners import Winners, winners_latency
from ternac.program.memory_ops import mem_update, row_numbers, winners
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, netlist

Rows = list[list[int]]


def _scores(rng: np.random.Generator, rows: int, columns: int) -> Rows:
    """Scores full of ties, or of the extremes of 16 bits, or anything."""
    kind = rng.integers(0, 3)
    if kind == 0:
        found = rng.integers(-2, 2, (rows, columns))
    elif kind == 1:
        found = rng.choice([-32768, 32767, 0, -1], (rows, columns))
    else:
        found = rng.integers(-32768, 32768, (rows, columns))
    return [[int(v) for v in row] for row in found]


def _find_winners(columns: int, seed: int, model: Callable[[Rows, int, int], list[int]]) -> None:
    """Compare winners, places and their cycles over many vectors, one right behind the other or not."""
    rng = np.random.default_rng(seed)
    dut = Winners(columns=columns, words=64)
    due: list[tuple[int, int, int, int]] = []  # cycle, winner, word, column
    seen: list[tuple[int, int, int, int]] = []

    async def bench(ctx: Any) -> None:
        cycle = 0

        async def tick() -> None:
            nonlocal cycle
            await ctx.tick()
            cycle += 1
            if ctx.get(dut.valid):
                seen.append((cycle, ctx.get(dut.winner), ctx.get(dut.word), ctx.get(dut.column)))

        for _ in range(40):
            most = -(-1024 // columns)
            group = (
                int(rng.choice([1, 2, 3, 5, most])) if rng.integers(0, 8) == 0 else int(rng.integers(1, 5))
            )
            count, tail = int(rng.integers(1, 6)), int(rng.integers(1, columns + 1))
            if group == most:
                count, tail = 1, 1024 - columns * (most - 1)
            target = int(rng.integers(0, 32))
            rows = _scores(rng, group * count, columns)
            found = model(rows, group, tail)
            gaps = int(rng.integers(0, 3))
            for i, row in enumerate(rows):
                while gaps and rng.integers(0, gaps + 1):
                    await tick()
                ctx.set(dut.row, 1)
                ctx.set(dut.first, i == 0)
                ctx.set(dut.group, group)
                ctx.set(dut.tail, tail)
                ctx.set(dut.target, target)
                for port, score in zip(dut.scores, row, strict=True):
                    ctx.set(port, score)
                if i % group == group - 1:
                    which = i // group
                    place = target + which // columns, which % columns
                    due.append((cycle + winners_latency(columns), found[which], *place))
                await tick()
                ctx.set(dut.row, 0)
                ctx.set(dut.group, int(rng.integers(1, 9)))
                for port in dut.scores:
                    ctx.set(port, int(rng.integers(-32768, 32768)))
        for _ in range(20):
            await tick()

    simulate(dut, bench)
    assert seen == due and len(seen) > 40


@pytest.mark.parametrize("columns", [2, 4, 10, 12])
def test_winners_of_groups_and_their_cycles(columns: int) -> None:
    _find_winners(columns, columns, Winners.model)


def test_the_winners_model_is_the_op_where_groups_fill_their_rows() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        columns, rows, groups = int(rng.integers(2, 9)), int(rng.integers(1, 5)), int(rng.integers(1, 6))
        scores = _scores(rng, rows * groups, columns)
        flat = np.array(scores).reshape(-1)
        assert Winners.model(scores, rows, columns) == winners(flat, groups).tolist()


def test_a_winner_that_takes_the_highest_of_equals_is_caught() -> None:
    def highest(rows: Rows, group: int, tail: int) -> list[int]:
        found = []
        for start in range(0, len(rows), group):
            flat = [v for row in rows[start : start + group] for v in row][
                : (group - 1) * len(rows[0]) + tail
            ]
            found.append(max(i for i, v in enumerate(flat) if v == max(flat)))
        return found

    with pytest.raises(AssertionError):
        _find_winners(4, 4, highest)


def test_winners_need_two_columns() -> None:
    with pytest.raises(ValueError, match="at least 2 columns, not 1"):
        Winners(columns=1, words=4)


def _fill_list(fault: bool) -> None:
    rng = np.random.default_rng(8)
    dut = DigitList(columns=5, words=12)
    writes: list[tuple[int, int | None, list[int]]] = []

    async def bench(ctx: Any) -> None:
        for _ in range(400):
            word, column = int(rng.integers(0, 12)), int(rng.integers(0, 5))
            digits = [int(d) for d in rng.integers(0, 1024, 5)]
            kind = int(rng.integers(0, 3))
            ctx.set(dut.word_en, kind == 1)
            ctx.set(dut.entry_en, kind == 2)
            if kind == 1:
                ctx.set(dut.word, word)
                for port, digit in zip(dut.digits, digits, strict=True):
                    ctx.set(port, digit)
                writes.append((word, None, digits))
            elif kind == 2:
                ctx.set(dut.entry_word, word)
                ctx.set(dut.entry_column, column)
                ctx.set(dut.entry, digits[0])
                writes.append((word, column, digits[:1] if not fault else [digits[0] ^ 1]))
            await ctx.tick()
            ctx.set(dut.word_en, 0)
            ctx.set(dut.entry_en, 0)
            words = dut.model(writes)
            a, b, at = (int(n) for n in (*rng.integers(0, 12, 2), rng.integers(0, 5)))
            ctx.set(dut.read_a, a)
            ctx.set(dut.read_b, b)
            ctx.set(dut.column, at)
            assert [ctx.get(port) for port in dut.row] == words[a]
            await ctx.tick()
            assert (ctx.get(dut.a), ctx.get(dut.b)) == (words[a][at], words[b][at])

    simulate(dut, bench)


def test_a_digit_list_gives_what_was_written_word_by_word_or_digit_by_digit() -> None:
    _fill_list(fault=False)


def test_a_wrong_digit_in_the_list_is_caught() -> None:
    with pytest.raises(AssertionError):
        _fill_list(fault=True)


def _form(seed: int, wrong: int = 0) -> None:
    """Compare addresses and their cycles, slots one after the other or with gaps in them."""
    rng = np.random.default_rng(seed)
    dut = RowAddressFormer()
    due: list[tuple[int, int]] = []
    seen: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        cycle = 0

        async def tick() -> None:
            nonlocal cycle
            await ctx.tick()
            cycle += 1
            if ctx.get(dut.valid):
                seen.append((cycle, ctx.get(dut.address)))

        for _ in range(60):
            bits, two, shared = int(rng.integers(1, 11)), bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
            stride, base, heads = (int(rng.integers(0, n)) for n in (8, 1 << 16, 12))
            heads += 1
            a, b = ([int(d) for d in rng.integers(0, 1024, heads)] for _ in range(2))
            settings = {"two": two, "shared": shared, "bits": bits, "stride": stride, "base": base}
            for name, value in settings.items():
                ctx.set(getattr(dut, name), value)
            await tick()
            await tick()
            for slot in range(int(rng.integers(1, 4))):
                want = dut.model(
                    a, b if two else None, slot, bits=bits, shared=shared, stride=stride, base=base + wrong
                )
                for k in range(heads):
                    ctx.set(dut.step, 0)
                    while rng.integers(0, 4) == 0:
                        await tick()
                    ctx.set(dut.step, 1)
                    ctx.set(dut.first, k == 0)
                    ctx.set(dut.slot, slot if k == 0 else int(rng.integers(0, 1 << 16)))
                    due.append((cycle + ADDRESS_LATENCY, want[k]))
                    await tick()
                    ctx.set(dut.a, a[k])
                    ctx.set(dut.b, b[k])
            ctx.set(dut.step, 0)
            for _ in range(ADDRESS_LATENCY):
                await tick()

    simulate(dut, bench)
    assert seen == due and len(seen) > 300


def test_addresses_of_rows_and_their_cycles() -> None:
    _form(3)


def test_a_wrong_base_of_the_rows_is_caught() -> None:
    with pytest.raises(AssertionError):
        _form(3, wrong=1)


def test_the_address_model_is_the_rule_of_the_ops() -> None:
    rng = np.random.default_rng(6)
    for _ in range(200):
        bits, heads, shared = int(rng.integers(1, 6)), int(rng.integers(1, 9)), int(rng.integers(0, 2))
        a, b = rng.integers(-600, 600, (2, heads))
        second = b if rng.integers(0, 2) else None
        rows = row_numbers(a, second, bits, shared)
        given = [int(d) & 0x3FF for d in a], None if second is None else [int(d) & 0x3FF for d in second]
        found = RowAddressFormer.model(*given, 1, bits=bits, shared=bool(shared), stride=2, base=7)
        assert found == [(int(row) * 4 + 8) & 0xFFFF for row in rows]


def _rows(tech: Technology, seed: int, fault: str = "") -> None:
    """Reads and updates of random heads, right behind each other; then every word."""
    rng = np.random.default_rng(seed)
    depth = 64
    dut = RowColumn(depth, tech=tech)
    words = [0] * depth
    schedule: dict[int, list[tuple[Any, int]]] = {}
    sums: dict[int, int] = {}
    read: dict[int, int] = {}

    def at(cycle: int, port: Any, value: int) -> None:
        schedule.setdefault(cycle, []).append((port, value))

    cycle = 2
    for address in range(depth):
        words[address] = int(rng.choice([-128, 127, rng.integers(-128, 128)]))
        at(cycle, dut.load, 1)
        at(cycle, dut.load_word, words[address] & 0xFF)
        at(cycle, dut.wr_address, address)
        cycle += 1
        at(cycle, dut.load, 0)
    for _ in range(150):
        heads = [int(h) for h in rng.permutation(depth)[: rng.integers(1, 9)]]
        updates, keep = bool(rng.integers(0, 2)), int(rng.integers(0, 16))
        e = int(rng.choice([rng.integers(-128, 128), rng.integers(-32768, 32768), -32768, 32767]))
        for k, head in enumerate(heads):
            now = cycle + k
            at(now, dut.address, head)
            at(now + 2, dut.keep, keep)
            at(now + 2, dut.sum_en, 1)
            at(now + 2, dut.sum_first, int(k == 0))
            at(now + 4, dut.e, e)
            at(now + 6, dut.update, int(updates))
            at(now + 6, dut.wr_address, head)
        last = cycle + len(heads) - 1
        sums[last + 3] = sum(words[head] for head in heads)
        at(last + 3, dut.sum_en, 0)
        at(last + 7, dut.update, 0)
        if updates:
            for head in heads:
                words[head] = dut.model(words[head], e, keep if fault != "keep" else 0)
        cycle = last + (7 if fault != "hazard" else 1)
    for address in range(depth):
        at(cycle, dut.address, address)
        read[cycle + 2] = words[address]
        cycle += 1

    async def bench(ctx: Any) -> None:
        for now in range(cycle + 6):
            for port, value in schedule.get(now, ()):
                ctx.set(port, value)
            if now in sums:
                assert ctx.get(dut.sum) == sums[now]
            if now in read:
                assert ctx.get(dut.word) == read[now]
            await ctx.tick()

    simulate(dut, bench)


def test_rows_are_summed_and_updated() -> None:
    _rows(Technology.PORTABLE, 1)
    _rows(Technology.PORTABLE, 2)


@pytest.mark.parametrize("fault", ["keep", "hazard"])
def test_a_row_that_is_kept_or_read_too_early_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError):
        _rows(Technology.PORTABLE, 1, fault)


def test_the_update_s_model_is_the_op() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        old, keep = int(rng.integers(-128, 128)), int(rng.integers(0, 16))
        e = int(rng.integers(-32768, 32768))
        memory = np.full((2, 1), old, np.int8)
        mem_update(np.zeros(1, np.int16), None, np.array([e], np.int16), memory, 1, keep)
        assert RowColumn.model(old, e, keep) == int(memory[0, 0])


@pytest.mark.parametrize("top", [Winners(columns=4, words=8), RowAddressFormer(), RowColumn(64)])
def test_no_part_of_the_rows_multiplies(top: Any) -> None:
    assert_no_multiplier(netlist(top, "synth_ecp5"))
