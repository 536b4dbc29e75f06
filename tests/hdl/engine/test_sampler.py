"""The sampler against ternac.run.sampling: every path, ties, partial last rows, gaps, extremes, cycle
counts.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from amaranth.sim import Simulator

from ternac.hdl.engine.exponential import Exponential
from ternac.hdl.engine.sampler import Sampler
from ternac.run.sampling import U32, Sampling, choose, seed_state, weights, xorshift32
from tests.hdl.yosys import assert_no_multiplier, netlist

Case = tuple[np.ndarray, Sampling, list[int]]
"""Logits, the rule, and the states of the generator from which one token after the other is drawn; without
any a token from the state that the case before left."""


def _logits(rng: np.random.Generator, vocab: int) -> np.ndarray:
    """Logits of very different spread, from all equal to the extremes of 16 bits."""
    spread = int(rng.integers(0, 16))
    kind = rng.integers(0, 4)
    if kind == 0:
        return np.full(vocab, int(rng.integers(-32768, 32768)))
    if kind == 1:
        return rng.choice([-32768, 32767, 0, -1], vocab)
    middle = int(rng.integers(-32768, 32768))
    return np.clip(middle + rng.integers(-(1 << spread), (1 << spread) + 1, vocab), -32768, 32767)


def _cases(rng: np.random.Generator, vocab: int, count: int) -> list[Case]:
    cases = []
    for _ in range(count):
        top_k = int(rng.choice([0, 1, 2, vocab // 2, vocab, vocab + 1, 65535]))
        m, s = int(rng.integers(1, 256)), int(rng.choice([0, 3, 6, 8, 11, 15, 16, 23, 31]))
        cases.append((_logits(rng, vocab), Sampling(bool(rng.integers(0, 4) == 0), m, s, top_k), []))
    return cases


def _state_before(state: int) -> int:
    """Return the state from which the generator comes to ``state``."""
    for shift in (5, -17, 13):
        x = state
        for _ in range(7):
            x = state ^ ((x << shift) & U32 if shift > 0 else x >> -shift)
        state = x
    return state


def _edges(rng: np.random.Generator, logits: np.ndarray, sampling: Sampling, count: int) -> list[int]:
    """Return states whose draws are the last of one token, or the first of the next: another weight shows."""
    w = weights(logits, sampling)
    cumulated = np.cumsum(w)
    total = int(cumulated[-1])
    tokens = rng.permutation(np.flatnonzero(w))[:count]
    states = []
    for edge in (int(cumulated[token]) for token in tokens):
        for r in (edge - 1, edge % total):
            drawn = -(-(r << 32) // total) or 1
            assert drawn * total >> 32 == r
            states.append(_state_before(drawn))
            assert xorshift32(states[-1]) == drawn
    return states


def _run(dut: Sampler, vocab: int, cases: list[Case], rng: np.random.Generator) -> None:
    columns = dut.columns
    last, tail = (vocab - 1) // columns, (vocab - 1) % columns + 1

    async def choose_one(ctx, logits, sampling, drawn_from):  # type: ignore[no-untyped-def]
        ctx.set(dut.greedy, sampling.greedy)
        ctx.set(dut.inv_m, sampling.m)
        ctx.set(dut.inv_s, sampling.s)
        ctx.set(dut.top_k, sampling.top_k)
        ctx.set(dut.rng_in, drawn_from)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        cycles = 1
        while not ctx.get(dut.done):
            assert ctx.get(dut.busy)
            await ctx.tick()
            cycles += 1
        assert cycles == dut.latency(vocab, greedy=sampling.greedy, top_k=sampling.top_k)
        token, state = choose(logits, sampling, drawn_from)
        assert (ctx.get(dut.next_token), ctx.get(dut.rng_out)) == (token, state), (sampling, logits)
        await ctx.tick()
        assert not ctx.get(dut.done) and not ctx.get(dut.busy)
        ctx.set(dut.greedy, 0)
        assert (ctx.get(dut.next_token), ctx.get(dut.rng_out)) == (token, state)
        return state

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        ctx.set(dut.last_slot, last)
        ctx.set(dut.tail, tail)
        state = seed_state(columns)
        for logits, sampling, states in cases:
            gaps = int(rng.integers(0, 3))
            padding = rng.integers(-32768, 32768, columns)  # what lies beyond the vocabulary must not matter
            padded = np.concatenate([logits, padding])
            for slot in range(last + 1):
                while gaps and rng.integers(0, gaps + 1):
                    await ctx.tick()
                ctx.set(dut.row_valid, 1)
                ctx.set(dut.row_slot, slot)
                for column in range(columns):
                    ctx.set(dut.row[column], int(padded[slot * columns + column]))
                await ctx.tick()
                ctx.set(dut.row_valid, 0)
                for column in range(columns):
                    ctx.set(dut.row[column], int(rng.integers(-32768, 32768)))
            for _ in range(int(rng.integers(1, 4))):
                await ctx.tick()
            for drawn_from in states or [state]:
                state = await choose_one(ctx, logits, sampling, drawn_from)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    ("columns", "slots", "vocab", "pace"),
    [(1, 9, 9, 1), (2, 16, 32, 4), (2, 16, 31, 1), (3, 7, 20, 4), (4, 8, 5, 1), (4, 8, 1, 4), (12, 4, 37, 1)],
)
def test_matches_model(columns: int, slots: int, vocab: int, pace: int) -> None:
    rng = np.random.default_rng(1000 * columns + vocab)
    _run(Sampler(columns=columns, slots=slots, pace=pace), vocab, _cases(rng, vocab, 30), rng)


def test_ties_at_the_threshold() -> None:
    """Many equal logits around the k-th: the lowest indices are kept, whatever the random number."""
    rng = np.random.default_rng(7)
    cases = []
    for _ in range(60):
        logits = rng.integers(0, 3, 24) * 8
        cases.append((logits, Sampling(False, 128, int(rng.integers(3, 12)), int(rng.integers(1, 25))), []))
    _run(Sampler(columns=4, slots=6), 24, cases, rng)


@pytest.mark.parametrize("pace", [1, 4])
def test_draws_at_the_edges_of_weights(pace: int) -> None:
    """Logits of which every weight counts, drawn again and again at the edge between two tokens."""
    rng = np.random.default_rng(pace)
    vocab, cases = 20, []
    for number in range(32):
        m, s = int(rng.integers(1, 256)), number
        widest = min(65535, (int(rng.choice([40, 150, 300])) << s) // m + 1)
        top = int(rng.integers(-32768 + widest, 32768))
        logits = top - rng.integers(0, widest + 1, vocab)
        sampling = Sampling(False, m, s, int(rng.choice([0, 0, 3, 9, 15])))
        cases.append((logits, sampling, _edges(rng, logits, sampling, 3)))
        cases.append((rng.integers(-32768, 32768, vocab), Sampling(True), []))
    _run(Sampler(columns=3, slots=7, pace=pace), vocab, cases, rng)


def test_model_is_the_reference() -> None:
    rng = np.random.default_rng(3)
    logits = rng.integers(-500, 500, 50)
    expected = choose(logits, Sampling(False, 200, 9, 5), 77)
    assert Sampler.model(logits, greedy=False, inv_m=200, inv_s=9, top_k=5, rng_in=77) == expected


@pytest.mark.parametrize("pace", [1, 4])
def test_exponential(pace: int) -> None:
    """Elements back to back, all shifts, distances at both ends; the documented latency."""
    rng = np.random.default_rng(5)
    dut = Exponential(pace=pace)

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for s in range(32):
            m = int(rng.choice([1, 128, 255, int(rng.integers(1, 256))]))
            near = 300 * 2**s // m + 2
            distance = np.concatenate([[0, 1, 65535], rng.integers(0, min(65536, near), 40)])
            keep = rng.integers(0, 4, len(distance)) > 0
            ctx.set(dut.m, m)
            ctx.set(dut.s, s)
            seen = []
            for cycle in range(pace * len(distance) + dut.latency):
                element, phase = divmod(cycle, pace)
                if element < len(distance):
                    ctx.set(dut.distance, int(distance[element]))
                    ctx.set(dut.keep, int(keep[element]) if phase == 0 else 0)
                    ctx.set(dut.strobe, phase == 0)
                if cycle >= dut.latency:
                    seen.append(ctx.get(dut.weight))
                await ctx.tick()
            weights = np.where(keep, dut.model(distance, m, s), 0)
            assert seen == list(np.kron(weights, [1] + [0] * (pace - 1)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": 0, "slots": 8}, "columns must be 1..64, not 0"),
        ({"columns": 65, "slots": 8}, "columns must be 1..64, not 65"),
        ({"columns": 4, "slots": 1}, "slots must be 2..16384 for 4 columns, not 1"),
        ({"columns": 4, "slots": 16385}, "slots must be 2..16384 for 4 columns, not 16385"),
        ({"columns": 4, "slots": 8, "pace": 2}, "pace must be 1 or 4, not 2"),
    ],
)
def test_rejects(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Sampler(**arguments)


def test_area_and_no_multiplier() -> None:
    """The docstring's figures for two columns, as an upper limit."""
    small = netlist(Sampler(columns=2, slots=128, pace=4), "synth_ice40")
    assert_no_multiplier(small)
    assert small["SB_LUT4"] <= 703
    assert_no_multiplier(netlist(Sampler(columns=12, slots=32), "synth_ecp5"))
