"""The side lane alone: passes of all kinds, what it writes to the x buffer and when, against a model."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import PRESETS
from ternac.compile.isa import Lane
from ternac.hdl.engine.norm import NormUnit
from ternac.hdl.engine.ports import BACK_TO_BACK, STREAM_GAP
from ternac.hdl.engine.side_lane import LATENCY, SideLane, x_ready
from ternac.program.numerics import rshift_round, sat8
from tests.hdl.sim import simulate

GEOMETRY = replace(
    PRESETS["tiny"], name="lane", columns=3, lanes=9, chain=3, x_depth=64, norm_tables=2, contexts=4,
    lane_depth=64,
)  # fmt: skip
CHUNKS = GEOMETRY.lanes // GEOMETRY.columns
CORNERS = (-32768, 32767, -1, 0, 1, 127, 128, -128, -129)


@dataclass
class Script:
    """What comes in at each cycle, and what the lane must do."""

    inputs: dict[int, dict[str, Any]] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)
    """Slots that are taken, by cycle."""
    streams: dict[int, int] = field(default_factory=dict)
    """The last cycle of each stream, by its first."""
    writes: dict[int, tuple[int, int, list[int]]] = field(default_factory=dict)
    """Word, chunk and bytes that the x buffer takes."""
    retires: dict[int, int] = field(default_factory=dict)
    """The context whose pass ends."""

    def room(self, cycle: int) -> int:
        """Return the slots that are free in a cycle."""
        taken = sum(slots for at, slots in self.claims.items() if at < cycle)
        gone = sum(min(last + 1, cycle) - first for first, last in self.streams.items() if first < cycle)
        return GEOMETRY.lane_depth - taken + gone


class Writer:
    """Makes a script, pass after pass, as the sequencer lets them follow each other."""

    def __init__(self, rng: random.Random, tables: np.ndarray) -> None:
        self.rng, self.tables, self.script = rng, tables, Script()
        self.cycle, self.least, self.kinds = 4, 0, Counter[str]()
        self.side = [[0] * GEOMETRY.columns for _ in range(GEOMETRY.side_depth)]
        self._began: dict[int, int] = {}

    def settings(self, lane: Lane, slots: int) -> dict[str, int]:
        rng = self.rng
        return {
            "lane": int(lane), "pre": rng.choice((0, rng.randrange(8), rng.randrange(16))),
            "post": rng.choice((rng.randrange(4), rng.randrange(20))), "norm_table": rng.randrange(2),
            "tail": rng.randrange(1, GEOMETRY.columns + 1), "context": rng.randrange(4),
            "x_dst": rng.randrange(GEOMETRY.x_depth + 1 - -(-slots // CHUNKS)),
        }  # fmt: skip

    def results(self) -> list[int]:
        rng, bits = self.rng, self.rng.randrange(16)
        if rng.random() < 0.2:
            return [rng.choice(CORNERS) for _ in range(GEOMETRY.columns)]
        return [rng.randrange(-32768, 32768) >> bits for _ in range(GEOMETRY.columns)]

    def idle(self) -> None:
        """Let nothing enter for some cycles; a multiplicand may be written."""
        for _ in range(self.rng.randrange(4)):
            self._put({"y": self.results(), "to_side": self.rng.random() < 0.3, "slot": self._slot()})

    def _slot(self) -> int:
        return self.rng.randrange(GEOMETRY.side_depth)

    def _put(self, now: dict[str, Any]) -> None:
        self.script.inputs[self.cycle] = now
        if now["to_side"]:
            self.side[now["slot"]] = [(y & 255) - 2 * (y & 128) for y in now["y"]]
        self.cycle += 1

    def _after_streams(self) -> None:
        self.cycle = max([self.cycle, *(last + 1 for last in self.script.streams.values())])

    def _enters(self, number: int, slots: int, settings: dict[str, int], side: bool) -> dict[str, Any]:
        """Return a result of a pass; ``side``: the slot is that of its multiplicand."""
        return {
            "valid": 1, "y": self.results(), "slot": self._slot(),
            "to_side": not side and self.rng.random() < 0.2,
            "settings": settings | {"first": int(number == 0), "last": int(number == slots - 1)},
        }  # fmt: skip

    def _leaves(self, cycle: int, number: int, slots: int, settings: dict[str, int], x: list[int]) -> None:
        word, chunk = divmod(number, CHUNKS)
        self.script.writes[cycle + LATENCY] = settings["x_dst"] + word, chunk, x
        if number == slots - 1:
            self.script.retires[cycle + x_ready(GEOMETRY) - 2] = settings["context"]

    def passes_through(self, lane: Lane) -> None:
        """Add a pass whose results go through: before a stream begins, if it can, or after the last one."""
        slots, gaps = self.rng.choice((1, 2, 4, self.rng.randrange(1, 30))), self.rng.random() * 0.4
        waits = [self.rng.random() < gaps for _ in range(20)]
        coming = [first for first, last in self.script.streams.items() if last >= self.cycle]
        longest = slots + sum(waits)
        if coming and self.cycle + longest > min(coming):
            self._after_streams()
        elif coming:
            self.kinds["before a stream"] += 1
        settings, number = self.settings(lane, slots), 0
        while number < slots:
            if waits and waits.pop():
                self._put({"y": self.results(), "to_side": 0, "slot": self._slot()})
                continue
            now = self._enters(number, slots, settings, lane == Lane.SIDE)
            factors = self.side[now["slot"]] if lane == Lane.SIDE else [1] * GEOMETRY.columns
            shift = settings["post"] if lane == Lane.SIDE else 0
            x = [int(sat8(rshift_round(y * f, shift))) for y, f in zip(now["y"], factors, strict=True)]
            self._leaves(self.cycle, number, slots, settings, x)
            self._put(now)
            number += 1
        self.kinds[lane.name] += 1

    def norm(self, slots: int) -> None:
        """Add a pass that waits for its norm: at once after a shorter one, or after the last stream."""
        if slots < self.least or slots < BACK_TO_BACK:
            self._after_streams()
        while self.script.room(self.cycle) < slots:
            self.cycle += 1
        if any(last >= self.cycle for last in self.script.streams.values()):
            self.kinds["back to back"] += 1
        self.script.claims[self.cycle] = self.least = slots
        gaps, settings = self.rng.random() * 0.3, self.settings(Lane.NORM, slots)
        rows, sums = [], [0] * GEOMETRY.columns
        for number in range(slots):
            while self.rng.random() < gaps:
                self._put({"y": self.results(), "to_side": self.rng.random() < 0.3, "slot": self._slot()})
            now = self._enters(number, slots, settings, side=False)
            rows.append(now["y"])
            for c, y in enumerate(now["y"]):
                if number < slots - 1 or c < settings["tail"]:
                    sums[c] += int(sat8(rshift_round(y, settings["pre"]))) ** 2
            self._put(now)
        first = self.cycle - 1 + STREAM_GAP
        mantissa, shift = NormUnit.model(sums, self.tables[settings["norm_table"]], settings["post"])
        for number, row in enumerate(rows):
            x = [int(sat8(rshift_round(y * mantissa, shift))) for y in row]
            self._leaves(first + number, number, slots, settings, x)
        self.script.streams[first] = first + slots - 1
        self.kinds["NORM"] += 1


def script(seed: int, passes: int) -> tuple[Script, np.ndarray, Counter[str], int]:
    """Return a script, its tables, what is in it, and its cycles."""
    rng = random.Random(seed)
    tables = np.array([[rng.randrange(256) for _ in range(256)] for _ in range(2)])
    made = Writer(rng, tables)
    for _ in range(passes):
        kind = rng.randrange(5)
        if kind == 0:
            for slots in sorted(rng.randrange(BACK_TO_BACK, 24) for _ in range(rng.randrange(1, 6))):
                made.norm(slots)
        elif kind == 1:
            made.norm(rng.choice((1, 2, rng.randrange(1, 30), GEOMETRY.lane_depth)))
        else:
            made.passes_through(rng.choice((Lane.DIRECT, Lane.SIDE)))
        made.idle()
    made._after_streams()
    return made.script, tables, made.kinds, made.cycle + LATENCY + 1


def check(dut: SideLane, plan: Script, tables: np.ndarray, cycles: int, seed: int = 0) -> None:
    """Drive the lane; what says nothing in a cycle is random."""
    rng = random.Random(seed)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.norm_wr_en, 1)
        for address, value in enumerate(tables.reshape(-1)):
            ctx.set(dut.norm_wr_addr, address)
            ctx.set(dut.norm_wr_data, int(value))
            await ctx.tick()
        ctx.set(dut.norm_wr_en, 0)
        members = [name for name, _ in dut.settings.shape()]
        for cycle in range(cycles):
            now = plan.inputs.get(cycle, {})
            given = now.get("settings", {})
            for name in members:
                port = getattr(dut.settings, name)
                ctx.set(port, given.get(name, rng.randrange(1 << len(port))))
            ctx.set(dut.valid, now.get("valid", 0))
            ctx.set(dut.to_side, now.get("to_side", 0))
            ctx.set(dut.slot, now.get("slot", rng.randrange(GEOMETRY.side_depth)))
            for c, port in enumerate(dut.y):
                ctx.set(port, now["y"][c] if now else rng.randrange(-32768, 32768))
            ctx.set(dut.claim, cycle in plan.claims)
            ctx.set(dut.claim_slots, plan.claims.get(cycle, rng.randrange(1, 60)))
            ctx.set(dut.norm_wr_addr, rng.randrange(512))
            ctx.set(dut.norm_wr_data, rng.randrange(256))
            assert ctx.get(dut.room) == plan.room(cycle), cycle
            assert ctx.get(dut.x_en) == (cycle in plan.writes), cycle
            if cycle in plan.writes:
                x = [int(ctx.get(dut.x[c])) for c in range(GEOMETRY.columns)]
                got = ctx.get(dut.x_word), ctx.get(dut.x_chunk), [(v & 255) - 2 * (v & 128) for v in x]
                assert got == plan.writes[cycle], cycle
            assert ctx.get(dut.retire) == (cycle in plan.retires), cycle
            if cycle in plan.retires:
                assert ctx.get(dut.retire_context) == plan.retires[cycle], cycle
            await ctx.tick()

    simulate(dut, bench)


@pytest.mark.parametrize("seed", range(2))
def test_passes_of_every_kind_in_any_order(seed: int) -> None:
    plan, tables, kinds, cycles = script(seed, 100)
    assert min(kinds[name] for name in ("DIRECT", "SIDE", "NORM", "back to back", "before a stream")) >= 3
    check(SideLane(GEOMETRY), plan, tables, cycles)


@pytest.mark.parametrize("part", ["room", "x_en", "retire"])
def test_what_comes_a_cycle_later_is_told(part: str) -> None:
    """The planted fault: the lane is expected to do one thing a cycle later than it does."""
    plan, tables, _, cycles = script(0, 8)
    late: dict[str, Any] = {"room": "claims", "x_en": "writes", "retire": "retires"}
    old = getattr(plan, late[part])
    if part == "room":
        plan.room = lambda cycle: Script.room(plan, cycle - 1)  # type: ignore[method-assign]
    else:
        setattr(plan, late[part], {cycle + 1: what for cycle, what in old.items()})
    with pytest.raises(AssertionError):
        check(SideLane(GEOMETRY), plan, tables, cycles)
