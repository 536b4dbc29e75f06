"""The row unit against its model: passes of every kind with random gaps, the loader, and planted faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from amaranth.utils import ceil_log2

from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.isa import DIGIT_BITS
from ternac.hdl.engine.ports import UPDATE_AHEAD, RowKind, pass_slots
from ternac.hdl.engine.row_unit import READ_AHEAD, SETTLE, RowUnit
from ternac.hdl.engine.winners import Winners, winners_latency
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS
from tests.hdl.sim import simulate

FOUR = replace(PRESETS["tiny-rows"], name="four", bank_depth=64, rows=256, list_slots=6)
FIVE = replace(FOUR, name="five", columns=5, lanes=10, chain=2)  # signals to all columns pass registers
LEAST = READ_AHEAD + SETTLE
SUM = 3
"""Cycles from the last head's place in the pipeline (``dot_delay``) to the sum."""
Rows = list[list[int]]


@dataclass
class Bench:
    """A unit at work, and what its model says it holds. ``fault``: what the bench does wrong."""

    dut: RowUnit
    ctx: Any
    rng: np.random.Generator
    fault: str = ""
    cycle: int = 0
    rows: Rows = field(default_factory=list)
    lists: list[Rows] = field(default_factory=list)
    passes: int = 0

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            await self.ctx.tick()
            self.cycle += 1

    async def gap(self) -> None:
        while self.rng.integers(0, 3) == 0:
            await self.tick()

    def set(self, **ports: int) -> None:
        for name, value in ports.items():
            self.ctx.set(getattr(self.dut, name), value)

    async def pulse(self, **ports: int) -> None:
        """Set ports for one cycle."""
        self.set(**ports)
        await self.tick()
        self.set(**dict.fromkeys(ports, 0))

    async def load(self) -> None:
        """Write every word of every column."""
        for column, words in enumerate(self.rows):
            for addr, word in enumerate(words):
                self.wr(block=column, addr=addr, data=word & 0xFF)
                await self.tick()
        self.wr(en=0)
        await self.tick(2)

    def wr(self, en: int = 1, **fields: int) -> None:
        self.ctx.set(self.dut.wr.en, en)
        self.ctx.set(self.dut.wr.mem, Mem.ROWS)
        for name, value in fields.items():
            self.ctx.set(getattr(self.dut.wr, name), value)

    async def clear(self, first: int, steps: int) -> None:
        self.wr(block=CLEAR_BLOCK, addr=first, data=steps - 1)
        await self.tick()
        self.wr(en=0)
        await self.tick()
        while self.ctx.get(self.dut.clearing):
            await self.tick()
        await self.tick(3)
        for words in self.rows:
            words[first : first + CLEAR_WORDS * steps] = [0] * (CLEAR_WORDS * steps)

    async def check_rows(self) -> None:
        """Read every word, a word a cycle."""
        depth = len(self.rows[0])
        for at in range(depth + 3):
            self.set(rd_en=int(at < depth), rd_addr=at % depth)
            if at >= 3:
                got = [self.ctx.get(word) for word in self.dut.rd_data]
                assert got == [words[at - 3] & 0xFF for words in self.rows]
            await self.tick()
        self.set(rd_en=0)

    # ---- results ----------------------------------------------------------------------------------------

    def results(self, vector: Sequence[int]) -> None:
        for port, value in zip(self.dut.results, vector, strict=True):
            self.ctx.set(port, value)

    def noise(self) -> None:
        self.results([int(v) for v in self.rng.integers(-32768, 32768, len(self.rows))])
        self.ctx.set(self.dut.slot, int(self.rng.integers(0, 8)))

    async def to_list(self, context: int, word: int, vectors: Rows) -> None:
        """Send results to the list."""
        self.ctx.set(self.dut.lane.context, context)
        self.ctx.set(self.dut.lane.x_dst, word)
        for slot, vector in enumerate(vectors):
            await self.gap()
            self.results(vector)
            self.set(slot=slot)
            await self.pulse(to_list=1)
            self.noise()
            self.lists[context][word + slot] = [v & (1 << DIGIT_BITS) - 1 for v in vector]
        await self.tick(2)

    async def find(self, context: int, word: int, vectors: Rows, group: int, tail: int) -> None:
        """Look for the winners of groups; they are in the list two cycles after the pass retires."""
        index = int(self.rng.integers(0, pass_slots(self.dut.geometry)))
        self.ctx.set(self.dut.lane.context, context)
        self.ctx.set(self.dut.lane.x_dst, word)
        self.ctx.set(self.dut.lane.tail, tail)
        for slot, vector in enumerate(vectors):
            await self.gap()
            self.results(vector)
            self.set(group=group, index=index)
            self.ctx.set(self.dut.lane.first, slot == 0)
            self.ctx.set(self.dut.lane.last, slot == len(vectors) - 1)
            await self.pulse(arg=1)
            self.noise()
        for _ in range(winners_latency(len(self.rows)) - 2):
            assert not self.ctx.get(self.dut.arg_retire)
            await self.tick()
        assert self.ctx.get(self.dut.arg_retire) and self.ctx.get(self.dut.arg_index) == index
        await self.tick(2)
        for entry, winner in enumerate(Winners.model(vectors, group, tail)):
            columns = len(self.rows)
            self.lists[context][word + entry // columns][entry % columns] = winner

    # ---- passes -----------------------------------------------------------------------------------------

    async def run(self, settings: dict[str, int], slots: int, results: Rows) -> None:
        """Run a pass; what it shows must be the model's in the cycle that the docstring names."""
        dut, ctx = self.dut, self.ctx
        self.passes += 1
        want = dut.model(settings, slots, self.lists[settings["context"]], self.rows, results)
        for name, value in settings.items():
            ctx.set(getattr(dut.settings, name), value)
        await self.pulse(accept=1)
        for name in settings:  # only those that were taken count
            ctx.set(getattr(dut.settings, name), 0)
        match settings["kind"]:
            case RowKind.READ:
                await self.read(settings["heads"], want)
            case RowKind.UPDATE:
                await self.update(settings, slots, results)
            case RowKind.MASK:
                await self.mask(want)
            case _:
                for value in want:
                    await self.gap()
                    await self.pulse(take=1)
                    assert [ctx.get(port) for port in dut.values] == value

    async def read(self, heads: int, want: Rows) -> None:
        due: dict[int, list[int]] = {}

        async def tick() -> None:
            await self.tick()
            if self.cycle in due:
                assert [self.ctx.get(port) for port in self.dut.values] == due.pop(self.cycle)

        for value in want:
            for head in range(heads):
                while self.rng.integers(0, 4) == 0:
                    await tick()
                if head == heads - 1:
                    due[self.cycle + self.dut.dot_delay + SUM] = value
                self.set(step=1, step_last=int(head == heads - 1))
                await tick()
                self.set(step=0, step_last=0)
        while due:
            await tick()

    async def update(self, settings: dict[str, int], slots: int, results: Rows) -> None:
        """A slot every ``heads`` cycles or later; its result comes `UPDATE_AHEAD` cycles after its pulse."""
        begins, at = list[int](), self.cycle + 1
        for _ in range(slots):
            begins.append(at)
            at += settings["heads"] + int(self.rng.integers(0, 3))
        comes = {begin + UPDATE_AHEAD - (self.fault == "early"): k for k, begin in enumerate(begins)}
        retired = False
        while not retired or self.cycle <= max(comes):
            self.set(update=int(self.cycle in begins), update_last=int(self.cycle == begins[-1]))
            self.set(to_rows=int(self.cycle in comes))
            if self.cycle in comes:
                self.results(results[comes[self.cycle]])
            else:
                self.noise()
            await self.tick()
            retired |= bool(self.ctx.get(self.dut.rows_retire)) or self.fault == "hasty"
            if self.ctx.get(self.dut.rows_retire):
                assert self.ctx.get(self.dut.rows_index) == settings["index"]
            assert self.cycle < begins[-1] + 2000
        self.set(to_rows=0)
        await self.tick()

    async def mask(self, want: Rows) -> None:
        due: dict[int, list[int]] = {}
        while want or due:
            go = bool(want) and self.rng.integers(0, 3) > 0
            if go:
                due[self.cycle + 2], want = want[0], want[1:]
            await self.pulse(mask=int(go))
            if self.cycle in due:
                hits = self.ctx.get(self.dut.hits)
                assert [hits >> c & 1 for c in range(len(self.rows))] == due.pop(self.cycle)


def _settings(bench: Bench, g: Geometry, kind: RowKind) -> tuple[dict[str, int], int]:
    """Random settings of a pass, and its slots; within rows and list."""
    rng = bench.rng
    slots, two = int(rng.integers(1, 4)), int(rng.integers(0, 2))
    shared = int(kind == RowKind.READ and rng.integers(0, 3) == 0)
    stride, bits = (slots - 1).bit_length(), int(rng.integers(1, 3 if two else 5))
    region = 1 << bits * (1 + two)
    heads = int(rng.integers(1, min(8, max(1, g.rows // (region << stride))) + 1))
    words = -(-heads // g.columns)
    lists = [int(rng.integers(0, g.list_slots - words + 1)) for _ in range(2)]
    need = (1 if shared else heads) * region << stride
    settings = {
        "kind": kind,
        "index": int(rng.integers(0, pass_slots(g))),
        "context": int(rng.integers(0, g.contexts)),
        "heads": heads,
        "lists": lists[0] | lists[1] << 4,
        "bits": bits,
        "two": two,
        "shared": shared,
        "stride": stride,
        "base": int(rng.integers(0, g.rows - need + 1)),
        "keep": int(rng.choice([0, 0, 1, 4, 8])),
        "group": 1,
        "token": int(rng.integers(0, 1 << 16)),
    }
    if kind == RowKind.LIST:
        slots = int(rng.integers(1, g.list_slots - lists[0] + 1))
    return settings, slots


async def _any_pass(bench: Bench, g: Geometry) -> None:
    rng, kind = bench.rng, RowKind(int(bench.rng.integers(0, 5)))
    settings, slots = _settings(bench, g, kind)
    if kind == RowKind.MASK:  # of winners that were looked for
        groups, size = int(rng.integers(1, 2 * g.columns + 1)), int(rng.integers(1, 4))
        word = int(rng.integers(0, g.list_slots - -(-groups // g.columns) + 1))
        vectors = rng.choice([-32768, 32767, *range(-3, 4)], (groups * size, g.columns)).tolist()
        await bench.find(settings["context"], word, vectors, size, int(rng.integers(1, g.columns + 1)))
        settings |= {"lists": word, "group": size}
        slots = groups * size
    elif rng.integers(0, 2):
        count = int(rng.integers(1, g.list_slots + 1))
        word = int(rng.integers(0, g.list_slots - count + 1))
        vectors = rng.integers(-32768, 32768, (count, g.columns)).tolist()
        await bench.to_list(int(rng.integers(0, g.contexts)), word, vectors)
    results = rng.choice([0, 1, -1, 127, -128, 300, -32768, 32767], (slots, g.columns)).tolist()
    await bench.run(settings, slots, results)


def _run(g: Geometry, seed: int, delay: int, passes: int, fault: str = "") -> None:
    rng = np.random.default_rng(seed)
    dut = RowUnit(g, dot_delay=delay)

    async def body(ctx: Any) -> None:
        bench = Bench(dut, ctx, rng, fault)
        bench.rows = rng.choice([-128, 127, *range(-9, 9)], (g.columns, g.rows)).tolist()
        words = 1 << ceil_log2(g.list_slots)
        bench.lists = [[[0] * g.columns for _ in range(words)] for _ in range(g.contexts)]
        await bench.load()
        for at in range(passes):
            await _any_pass(bench, g)
            if at == passes // 2:
                await bench.clear(32, 3)
        await bench.check_rows()
        assert bench.passes == passes

    simulate(dut, body)


@pytest.mark.parametrize(("geometry", "delay"), [(FOUR, LEAST), (FIVE, LEAST + 5)], ids=["four", "five"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_passes_of_every_kind_show_what_the_model_says(geometry: Geometry, delay: int, seed: int) -> None:
    _run(geometry, seed, delay, 60)


@pytest.mark.parametrize("fault", ["early", "hasty"])
def test_results_that_come_early_and_reads_that_do_not_wait_are_caught(fault: str) -> None:
    with pytest.raises(AssertionError):
        _run(FOUR, 0, LEAST, 60, fault)


@pytest.mark.parametrize("wrong", ["keep", "shared", "stride", "token", "group"])
def test_a_model_that_reads_a_setting_wrongly_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = RowUnit.model

    def other(settings: dict[str, int], *rest: Any) -> Rows:
        return honest(settings | {wrong: settings[wrong] ^ 1 if wrong != "group" else 2}, *rest)

    monkeypatch.setattr(RowUnit, "model", staticmethod(other))
    with pytest.raises((AssertionError, IndexError)):
        _run(FOUR, 0, LEAST, 60)


def test_a_read_needs_its_settings_before_its_first_head() -> None:
    with pytest.raises(ValueError, match=f"dot_delay must be at least {LEAST} with rows, not {LEAST - 1}"):
        RowUnit(FOUR, dot_delay=LEAST - 1)
