"""The sampler of large vocabularies: tokens and generator states equal to NumPy's, and its cycles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ternac.hdl.wide.rank import ByteRank
from ternac.hdl.wide.sampler import BlockDraw, VocabularySampler
from ternac.run.sampling import GREEDY, Sampling, choose, draw, seed_state
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist


@dataclass
class Case:
    """Logits of a step and the choices made of them."""

    logits: list[int]
    rules: list[tuple[Sampling, int]]
    found: list[tuple[int, int]] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)

    @property
    def wanted(self) -> list[tuple[int, int]]:
        return [choose(np.array(self.logits), rule, rng) for rule, rng in self.rules]

    @property
    def expected_cycles(self) -> list[int]:
        return [VocabularySampler.latency(len(self.logits), rule) for rule, _ in self.rules]


def run(unit: VocabularySampler, cases: Sequence[Case], rng: random.Random, pauses: float) -> None:
    """Feed steps and choices with pauses; fills ``found`` and ``cycles`` of each case."""

    async def bench(ctx: Any) -> None:
        for case in cases:
            for at, logit in enumerate(case.logits):
                while rng.random() < pauses:
                    ctx.set(unit.logits.valid, 0)
                    ctx.set(unit.logits.payload, {"y": 32767, "last": 1})
                    await ctx.tick()
                ctx.set(unit.logits.valid, 1)
                ctx.set(unit.logits.payload, {"y": logit, "last": at == len(case.logits) - 1})
                while not ctx.get(unit.logits.ready):
                    await ctx.tick()
                assert at == 0 or not ctx.get(unit.choose.ready)  # not before a step is whole
                await ctx.tick()
            ctx.set(unit.logits.valid, 0)
            for rule, state in case.rules:
                ctx.set(unit.choose.valid, 1)
                fields = {"greedy": rule.greedy, "m": rule.m, "s": rule.s, "top_k": rule.top_k, "rng": state}
                ctx.set(unit.choose.payload, fields)
                while not ctx.get(unit.choose.ready):
                    await ctx.tick()
                await ctx.tick()
                ctx.set(unit.choose.valid, 0)
                ctx.set(unit.choose.payload, dict.fromkeys(fields, 0))
                cycles = 1
                while not ctx.get(unit.chosen.valid):
                    assert not ctx.get(unit.logits.ready) and not ctx.get(unit.choose.ready)
                    await ctx.tick()
                    cycles += 1
                while rng.random() < pauses:
                    await ctx.tick()
                ctx.set(unit.chosen.ready, 1)
                payload = ctx.get(unit.chosen.payload)
                case.found.append((payload.token, payload.rng))
                case.cycles.append(cycles)
                await ctx.tick()
                ctx.set(unit.chosen.ready, 0)

    simulate(unit, bench)


def logits_of(rng: random.Random, count: int) -> list[int]:
    """Logits as a head makes them, or of one value, few values, or the whole range."""
    match rng.randrange(4):
        case 0:
            return [rng.choice((-5, 0, 0, 7)) for _ in range(count)]
        case 1:
            return [rng.randrange(-32768, 32768) for _ in range(count)]
        case 2:
            return [max(-32768, min(32767, int(rng.gauss(0, 700)))) for _ in range(count)]
        case _:
            return [rng.choice((-32768, 32767, 0, -1)) for _ in range(count)]


def rules_of(rng: random.Random, count: int) -> list[tuple[Sampling, int]]:
    """Greedy; all; temperatures from flat to steep; k of 1, of ties, of the vocabulary and above."""
    k = rng.choice((0, 1, 2, 40, count - 1, count, 65535, rng.randrange(1, count + 1)))
    m, s = rng.choice(((255, 0), (1, 31), (128, 7), (rng.randrange(1, 256), rng.randrange(16))))
    seed = seed_state(rng.randrange(1 << 32))
    return [(GREEDY, seed), (Sampling(False, m, s, k), seed)]


@pytest.mark.parametrize(("vocab", "pauses", "steps"), [(600, 0.2, 12), (2, 0.0, 6), (300, 0.0, 12)])
def test_choices_and_cycles_are_those_of_numpy(vocab: int, pauses: float, steps: int) -> None:
    rng = random.Random(vocab)
    counts = [vocab, 1, 2, *(rng.randrange(1, vocab + 1) for _ in range(steps - 3))]
    cases = [Case(logits_of(rng, n), rules_of(rng, n)) for n in counts]
    run(VocabularySampler(vocab), cases, rng, pauses)
    for case in cases:
        assert case.found == case.wanted
        assert case.cycles == case.expected_cycles


def test_ties_at_the_threshold_are_kept_from_the_lowest_token_on() -> None:
    """All logits are equal, or all but one: each k, with random numbers from the lowest to the highest."""
    rng = random.Random(5)
    flat, one = [3] * 40, [3] * 20 + [4] + [3] * 19
    rules = [(Sampling(False, 1, 31, k), seed_state(100 * k)) for k in (1, 2, 3, 17, 39, 40)]
    cases = [Case(flat, rules), Case(one, rules)]
    run(VocabularySampler(64), cases, rng, 0.0)
    assert [case.found for case in cases] == [case.wanted for case in cases]


def test_a_planted_logit_is_found() -> None:
    """One logit a step less than the largest, of two that are alike."""
    rng = random.Random(6)
    logits = [rng.randrange(-500, 500) for _ in range(100)]
    logits[20] = logits[70] = 900
    planted = Case([*logits[:20], 899, *logits[21:]], [(GREEDY, 1)])
    run(VocabularySampler(100), [planted], rng, 0.0)
    assert planted.found != Case(logits, [(GREEDY, 1)]).wanted


@pytest.mark.slow
def test_a_vocabulary_of_32_000() -> None:
    rng = random.Random(7)
    logits = [max(-32768, min(32767, int(rng.gauss(0, 900)))) for _ in range(32_000)]
    rules = [
        (rule, seed_state(k))
        for k, rule in enumerate((GREEDY, Sampling(False, 200, 11, 0), Sampling(False, 130, 9, 40)))
    ]
    case = Case(logits, rules)
    run(VocabularySampler(32_000), [case], rng, 0.0)
    assert case.found == case.wanted
    assert case.cycles == case.expected_cycles == [2, 32_448, 98_522]


def ranks(unit: ByteRank, cases: Sequence[tuple[list[int], int]], pauses: float) -> list[tuple[int, int]]:
    """``found`` and ``below`` of each (bytes, need), one after the other."""
    rng, found = random.Random(1), []

    async def bench(ctx: Any) -> None:
        for values, need in [([], 1), *cases]:  # the first walk clears
            for value in values:
                while rng.random() < pauses:
                    ctx.set(unit.valid, 0)
                    await ctx.tick()
                ctx.set(unit.valid, 1)
                ctx.set(unit.byte, value)
                await ctx.tick()
            ctx.set(unit.valid, 0)
            ctx.set(unit.walk, 1)
            ctx.set(unit.need, need)
            await ctx.tick()
            ctx.set(unit.walk, 0)
            cycles = 1
            while not ctx.get(unit.done):
                await ctx.tick()
                cycles += 1
            assert cycles == unit.CYCLES
            found.append((ctx.get(unit.found), ctx.get(unit.below)))

    simulate(unit, bench)
    return found[1:]


def test_a_rank_among_bytes() -> None:
    rng = random.Random(2)
    cases = [([9] * 300, 300), ([9] * 9, 1), ([0, 255], 2), ([255, 0, 0], 2)]
    for _ in range(4):
        values = [rng.choice((0, 3, 3, 4, 255, rng.randrange(256))) for _ in range(rng.randrange(1, 500))]
        cases.append((values, rng.randrange(1, len(values) + 1)))
    wanted = [ByteRank.model(*case) for case in cases]
    assert ranks(ByteRank(), cases, 0.0) == wanted
    assert ranks(ByteRank(), cases[3:6], 0.5) == wanted[3:6]
    planted = [([*values, 0], need) for values, need in cases[4:]]  # a byte more
    assert ranks(ByteRank(), planted, 0.0) != wanted[4:]


def test_the_draw_s_model_is_that_of_sampling() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        w = rng.integers(0, 65536, int(rng.integers(1, 700))) * (rng.random() < 0.9)
        w[int(rng.integers(0, len(w)))] = 65535
        state = int(rng.integers(1, 1 << 32))
        assert BlockDraw.model([int(x) for x in w], state) == draw(w, state)
    with pytest.raises(ValueError, match="all weights are 0"):
        BlockDraw.model([0, 0], 1)


@pytest.mark.slow
def test_no_multiplier_and_area() -> None:
    cells = netlist(VocabularySampler(1024), "synth_ecp5")
    assert_no_multiplier(cells)
    assert comb_ecp5(cells) <= 1400


@pytest.mark.parametrize("vocab", [1, 65537])
def test_refused(vocab: int) -> None:
    with pytest.raises(ValueError, match=f"vocab must be 2..65536, not {vocab}"):
        VocabularySampler(vocab)
