"""Sampling: its definition in plain integers, its edges, and that it draws what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.run.sampling import (
    EXP,
    GREEDY,
    Chooser,
    Reshape,
    Sampling,
    argmax,
    choose,
    seed_state,
    weights,
    xorshift32,
)

LOGITS = st.lists(st.integers(-32768, 32767), min_size=1, max_size=60)
U32 = st.integers(1, (1 << 32) - 1)


def plain(logits: list[int], m: int, s: int, top_k: int, rng: int) -> tuple[int, int]:
    """The page in plain Python."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    kept = set(order if top_k == 0 else order[:top_k])
    top = max(logits)
    w = [int(EXP[min(255, (top - v) * m >> s)]) if i in kept else 0 for i, v in enumerate(logits)]
    rng ^= rng << 13 & 0xFFFFFFFF
    rng ^= rng >> 17
    rng ^= rng << 5 & 0xFFFFFFFF
    r = rng * sum(w) >> 32
    for token, weight in enumerate(w):
        if r < weight:
            return token, rng
        r -= weight
    raise AssertionError("r is below the total")


@given(LOGITS, st.integers(1, 255), st.integers(0, 31), st.integers(0, 70), U32)
def test_choose_is_the_definition(logits: list[int], m: int, s: int, top_k: int, rng: int) -> None:
    assert choose(np.array(logits), Sampling(False, m, s, top_k), rng) == plain(logits, m, s, top_k, rng)


@given(LOGITS, U32)
def test_greedy_takes_the_lowest_of_the_largest(logits: list[int], rng: int) -> None:
    assert choose(np.array(logits), GREEDY, rng) == (logits.index(max(logits)), rng)
    assert argmax(logits) == logits.index(max(logits))
    token, after = choose(np.array(logits), Sampling(False, 255, 0, top_k=1), rng)
    assert (token, after) == (logits.index(max(logits)), xorshift32(rng))


def test_a_draw_of_zero_skips_tokens_without_weight() -> None:
    low = next(x for x in range(1, 1 << 20) if xorshift32(x) < 32768)  # r = 0
    assert choose(np.array([-9999, 0, 0]), Sampling(False, 255, 0), low)[0] == 1


def test_exp_table() -> None:
    assert [round(65535 * math.exp(-c / 16)) for c in range(256)] == EXP.tolist()


def test_xorshift32_known_values_and_never_zero() -> None:
    assert xorshift32(1) == 270369
    assert xorshift32(270369) == 67634689
    assert all(xorshift32(1 << bit) for bit in range(32))


@given(st.integers(-(1 << 70), 1 << 70))
def test_seeds_give_states(seed: int) -> None:
    assert 1 <= seed_state(seed) < 1 << 32


def test_nearby_seeds_differ_at_once() -> None:
    first = [xorshift32(seed_state(seed)) >> 28 for seed in range(64)]
    assert len(set(first)) > 10


def test_top_k_ties_go_to_the_lowest_index() -> None:
    w = weights(np.array([5, 9, 5, 9, 5]), Sampling(False, 1, 0, top_k=3))
    assert [bool(v) for v in w] == [True, True, False, True, False]
    assert weights(np.array([1, 2]), Sampling(False, 1, 0, top_k=9)).all()


@pytest.mark.parametrize("bits", [0, 4, 6, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 1.3, 5.0])
def test_temperature_is_met_within_half_a_step(temperature: float, bits: int) -> None:
    sampling = Sampling.from_temperature(temperature, bits)
    want = 16 * 2.0**-bits / temperature
    assert 128 <= sampling.m <= 255
    assert abs(sampling.m / 2**sampling.s - want) <= 0.5 / 2**sampling.s


def test_temperature_edges() -> None:
    assert Sampling.from_temperature(0, 5, 3) == Sampling(True, top_k=3)
    assert Sampling.from_temperature(1e-9, 0) == Sampling(False, 255, 0)
    assert Sampling.from_temperature(1e30, 5) == Sampling(False, 1, 31)
    assert Sampling.from_temperature(16 / 255.9, 0) == Sampling(False, 255, 0)
    assert Sampling.from_temperature(16 / 255.9, 3) == Sampling(False, 128, 2)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="temperature is"):
            Sampling.from_temperature(bad, 5)
    for kwargs in ({"m": 0}, {"m": 256}, {"s": 32}, {"top_k": -1}):
        with pytest.raises(UsageError, match="sampling parameter"):
            Sampling(False, **kwargs)
    with pytest.raises(UsageError, match="generator state is 0"):
        choose(np.array([1]), Sampling(False), 0)


def test_frequencies_follow_the_softmax() -> None:
    """20,000 draws at temperature 1 with logits in units of 2^-4."""
    logits = np.array([0, 16, 8, -16, 40])
    sampling, rng = Sampling.from_temperature(1.0, 4), seed_state(5)
    counts = np.zeros(5)
    for _ in range(20_000):
        token, rng = choose(logits, sampling, rng)
        counts[token] += 1
    want = np.exp(logits / 16) / np.exp(logits / 16).sum()
    assert np.abs(counts / 20_000 - want).max() < 0.015


def test_a_reshape_is_in_integers() -> None:
    """Nearest integers, halves to even; what changes nothing is neutral; no probability is refused."""
    found = Reshape.from_real(
        3, bias={1: 0.0625, 2: 0.1875, 3: 0.01}, presence=-0.5, frequency=0.25, top_p=0.5
    )
    assert found == Reshape({2: 2}, -4, 2, 1 << 15, 0)
    assert Reshape.from_real(3, bias={1: 0.0}).neutral
    for wrong in ({"top_p": 1.1}, {"min_p": -0.1}, {"presence": 1e12}, {"bias": {0: math.nan}}):
        with pytest.raises(UsageError):
            Reshape.from_real(3, **wrong)  # type: ignore[arg-type]


def test_top_p_keeps_the_token_that_reaches_it() -> None:
    """Four equal weights: half of them is two tokens, of equals the lowest; 0 keeps the first alone."""
    logits, flat = [5, 5, 5, 5], Sampling(False, 1, 31)
    for top_p, kept in ((0.0, 1), (0.25, 1), (0.2501, 2), (0.5, 2), (0.75, 3), (0.7501, 4)):
        w = Reshape.from_real(0, top_p=top_p).weights(logits, flat)
        assert w.tolist() == [65535] * kept + [0] * (4 - kept)


def test_min_p_keeps_what_is_as_likely_as_its_part() -> None:
    """One step of the table each: exp(-1/16) of the greatest and less."""
    logits, sampling = [3, 1, 2], Sampling(False, 1, 0)
    for min_p, kept in ((0.93, [1, 0, 1]), (0.95, [1, 0, 0]), (1.0, [1, 0, 0]), (0.88, [1, 1, 1])):
        w = Reshape.from_real(0, min_p=min_p).weights(logits, sampling)
        assert [int(v > 0) for v in w] == kept


def test_penalties_count_what_was_chosen() -> None:
    chooser = Chooser(Sampling(), Reshape(presence=3, frequency=1))
    assert [chooser.choose([10, 8, 0], 1)[0] for _ in range(4)] == [0, 1, 0, 0]
