"""Vector memory with its lanes: random issues one after the other, with pauses, against NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ternac.compile.wide_code import Factor
from ternac.hdl.wide.vector import VectorIssue, VectorUnit
from tests.hdl.sim import simulate

Ints = npt.NDArray[np.int64]
SLOT = 16
"""Words between two vectors: an issue reads and writes whole vectors of the same place."""


@dataclass
class Work:
    """Issues, their gains, the memory that they begin with and what must come of them."""

    memory: Ints
    curves: list[Ints]
    issues: list[VectorIssue]
    gains: list[Ints]
    results: list[tuple[Ints, int]]


def work(unit: VectorUnit, rng: np.random.Generator, count: int) -> Work:
    lanes, places = unit.lanes, unit.depth // SLOT
    made = Work(
        rng.integers(-32768, 32768, lanes * unit.depth).astype(np.int64),
        [rng.integers(-32768, 32768, 1025).astype(np.int64) for _ in range(unit.slots)],
        [], [], [],
    )  # fmt: skip
    memory = made.memory.copy()
    for _ in range(count):
        a, b, c, out = (int(place) * SLOT for place in rng.integers(0, places, 4))
        squares, factor = bool(rng.random() < 0.3), Factor(int(rng.integers(0, 5)))
        issue = VectorIssue(
            length=int(rng.integers(1, lanes * SLOT + 1)),
            a=a,
            b=a if squares else b,
            c=c,
            out=out,
            factor=Factor.VECTOR if squares else factor,
            value=int(rng.integers(-(1 << 40), 1 << 40)) >> int(rng.integers(0, 40)),
            shift=6 if factor is Factor.CURVE else int(rng.integers(0, 50)),
            slot=int(rng.integers(0, unit.slots)),
            add=bool(rng.random() < 0.3) and factor is not Factor.CURVE,
            narrow=not squares and bool(rng.random() < 0.2),
            store=not squares,
            squares=squares,
            eps=int(rng.integers(0, 1 << 46)) if squares else 0,
        )
        gains = rng.integers(-32768, 32768, issue.length).astype(np.int64)
        made.results.append(unit.model(memory, issue, gains, made.curves))
        made.issues.append(issue)
        made.gains.append(gains)
    return made


def payload(unit: VectorUnit, issue: VectorIssue) -> dict[str, int]:
    fields = {name: int(getattr(issue, name)) for name in (
        "a", "b", "c", "out", "factor", "value", "shift", "slot", "add", "narrow", "store", "squares", "eps"
    )}  # fmt: skip
    words = -(-issue.length // unit.lanes)
    return {**fields, "words": words - 1, "tail": (issue.length - 1) % unit.lanes}


def wrong_results(unit: VectorUnit, made: Work, rng: np.random.Generator, pauses: float) -> list[int]:
    """The issues whose sum of squares, peak or activations are not the model's."""
    lanes, wrong = unit.lanes, set()
    order = {kind: [k for k, i in enumerate(made.issues) if i.squares is kind] for kind in (True, False)}
    narrow = [
        (k, issue.out + w, made.results[k][0][w * lanes : (w + 1) * lanes])
        for k, issue in enumerate(made.issues)
        if issue.narrow
        for w in range(-(-issue.length // lanes))
    ]
    words = []
    for issue, gains in zip(made.issues, made.gains, strict=True):
        if issue.factor is Factor.GAIN:
            padded = np.pad(gains, (0, -issue.length % lanes), constant_values=99)
            words += padded.reshape(-1, lanes).tolist()

    async def fill(ctx: Any) -> None:
        for slot, curve in enumerate(made.curves):
            for at, point in enumerate(curve):
                ctx.set(unit.curve_en, 1)
                ctx.set(unit.curve_slot, slot)
                ctx.set(unit.curve_point, at)
                ctx.set(unit.curve_data, int(point))
                await ctx.tick()
        ctx.set(unit.curve_en, 0)

    async def write(ctx: Any, at: int, keep: int, word: Any) -> None:
        ctx.set(unit.wr_en, 1)
        ctx.set(unit.wr, {"address": at, "keep": keep, "data": [int(x) for x in word]})
        await ctx.tick()
        ctx.set(unit.wr_en, 0)

    async def bench(ctx: Any) -> None:
        if any(issue.factor is Factor.CURVE for issue in made.issues):
            await fill(ctx)
        rows = made.memory.reshape(-1, lanes)
        for at, word in enumerate(rows):  # element by element, and words
            if at % 2:
                await write(ctx, at, (1 << lanes) - 1, word)
            else:
                for lane in range(lanes):
                    await write(ctx, at, 1 << lane, [word[lane]] * lanes)
        await ctx.tick().repeat(unit.latency)  # until the last of them can be read
        next_issue = next_gain = cycle = 0
        while order[True] or order[False] or narrow:
            assert cycle < 100 * len(made.issues) + 1000
            # Words from outside, behind what the issues read and write, each in place of one of theirs.
            ctx.set(unit.wr_en, rng.random() < pauses)
            ctx.set(unit.wr, {"address": unit.depth - 1, "keep": 1, "data": [cycle & 127] * lanes})
            offer = next_issue < len(made.issues) and rng.random() >= pauses
            ctx.set(unit.issue.valid, offer)
            if offer:
                ctx.set(unit.issue.payload, payload(unit, made.issues[next_issue]))
            gain = next_gain < len(words) and rng.random() >= pauses
            ctx.set(unit.gains.valid, gain)
            if gain:
                ctx.set(unit.gains.payload, words[next_gain])
            next_gain += bool(gain and ctx.get(unit.gains.ready))
            next_issue += bool(offer and ctx.get(unit.issue.ready))
            for kind, pulse, found in ((True, unit.squared, unit.ss), (False, unit.peaked, unit.peak)):
                if ctx.get(pulse):
                    k = order[kind].pop(0)
                    if ctx.get(found) != made.results[k][1]:
                        wrong.add(k)
            if ctx.get(unit.x_valid):
                k, at, wanted = narrow.pop(0)
                found = ctx.get(unit.x_data)
                bytes_ = [found >> 8 * lane & 255 for lane in range(len(wanted))]
                if ctx.get(unit.x_addr) != at or bytes_ != [int(x) & 255 for x in wanted]:
                    wrong.add(k)
            await ctx.tick()
            cycle += 1
        for _ in range(3 * unit.latency):
            await ctx.tick()
        assert ctx.get(unit.idle)

    simulate(unit, bench)
    return sorted(wrong)


@pytest.mark.parametrize(("lanes", "slots", "pauses"), [(4, 1, 0.0), (2, 2, 0.4)])
def test_random_issues_are_those_of_numpy(lanes: int, slots: int, pauses: float) -> None:
    """Each finds the results of those before it, as sums, peaks and activations show."""
    rng = np.random.default_rng(lanes)
    unit = VectorUnit(lanes, 4 * SLOT + 1, slots=slots)
    assert wrong_results(unit, work(unit, rng, 30), rng, pauses) == []


def test_a_planted_word_is_found_by_all_that_read_it() -> None:
    rng = np.random.default_rng(8)
    unit = VectorUnit(2, 4 * SLOT, slots=1)
    made = work(unit, rng, 1)
    one = {"length": 20, "a": 0, "b": 0, "factor": Factor.VECTOR}
    made.issues = [VectorIssue(**one, squares=True, store=False), VectorIssue(**one, out=16, shift=9),  # type: ignore[arg-type]
                   VectorIssue(length=20, a=16), VectorIssue(length=20, a=32)]  # fmt: skip
    made.gains = [np.zeros(20, np.int64)] * 4
    memory = made.memory.copy()
    made.results = [unit.model(memory, issue) for issue in made.issues]
    assert wrong_results(unit, made, rng, 0.0) == []
    made.memory[7] = 32767  # of the vector at word 0
    memory = made.memory.copy()
    peaks = [unit.model(memory, issue)[1] for issue in made.issues]
    changed = [
        k for k, (peak, before) in enumerate(zip(peaks, made.results, strict=True)) if peak != before[1]
    ]
    assert changed[:1] == [0] and 3 not in changed
    assert wrong_results(VectorUnit(2, 4 * SLOT, slots=1), made, rng, 0.0) == changed


def test_an_issue_waits_for_what_it_reads() -> None:
    """Issues of one word that each double the one before: none may begin too early."""
    unit = VectorUnit(2, 4 * SLOT, slots=1)
    rng = np.random.default_rng(9)
    made = work(unit, rng, 1)
    made.memory[:] = 1
    double = VectorIssue(length=2, value=2)
    made.issues, made.gains = [double] * 14, [np.zeros(2, np.int64)] * 14
    memory = made.memory.copy()
    made.results = [unit.model(memory, issue) for issue in made.issues]
    assert [peak for _, peak in made.results] == [2 << k for k in range(14)]
    assert wrong_results(unit, made, rng, 0.0) == []


def test_refused() -> None:
    with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
        VectorUnit(0, 64)
