"""The span of a token by the sampler against ternac.run.coding: extremes, partial rows, cycles, faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator

from ternac.hdl.engine.sampler import Sampler
from ternac.hdl.engine.span import Frequency, Span
from ternac.link import SPAN_WORDS, decode_span, encode_span
from ternac.run.coding import EXP2, LOG2_E_SHIFT, spans

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "coding.json"

Case = tuple[np.ndarray, int, int]
"""Logits, the program's logit_scale_bits, a token."""


def _cases(rng: np.random.Generator, vocab: int, count: int) -> list[Case]:
    cases = []
    for _ in range(count):
        spread, shift = int(rng.integers(0, 16)), int(rng.choice([0, 1, 6, 7, 8, 11, 16, 31]))
        logits = np.clip(rng.integers(-(1 << spread), (1 << spread) + 1, vocab), -32768, 32767)
        if rng.integers(0, 4) == 0:
            logits = rng.choice([-32768, 32767, 0, -1], vocab)
        cases.append((logits, shift, int(rng.integers(0, vocab))))
    return cases


def _run(dut: Sampler, vocab: int, cases: list[Case], rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return the spans that the sampler reports."""
    columns, found = dut.columns, list[tuple[int, int, int]]()
    last, tail = (vocab - 1) // columns, (vocab - 1) % columns + 1

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        ctx.set(dut.last_slot, last)
        ctx.set(dut.tail, tail)
        for logits, shift, token in cases:
            padded = np.concatenate([logits, rng.integers(-32768, 32768, columns)])
            for slot in range(last + 1):
                ctx.set(dut.row_valid, 1)
                ctx.set(dut.row_slot, slot)
                for column in range(columns):
                    ctx.set(dut.row[column], int(padded[slot * columns + column]))
                await ctx.tick()
            ctx.set(dut.row_valid, 0)
            await ctx.tick().repeat(max(1, columns.bit_length() + 1))
            ctx.set(dut.span_token, token)
            ctx.set(dut.span_shift, shift)
            ctx.set(dut.span_start, 1)
            await ctx.tick()
            ctx.set(dut.span_start, 0)
            cycles = 1
            while not ctx.get(dut.span_done):
                assert ctx.get(dut.busy)
                await ctx.tick()
                cycles += 1
            assert cycles == dut.span_latency(vocab)
            words = []
            for number in range(SPAN_WORDS):
                ctx.set(dut.span_number, number)
                words.append(ctx.get(dut.span_word))
            found.append(decode_span(words))
            await ctx.tick()
            assert not ctx.get(dut.busy)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize(
    ("columns", "slots", "vocab", "pace"),
    [(1, 9, 9, 1), (2, 16, 31, 4), (3, 7, 20, 1), (4, 8, 1, 4), (12, 4, 37, 1)],
)
def test_the_sampler_reports_the_span_of_the_page(columns: int, slots: int, vocab: int, pace: int) -> None:
    rng = np.random.default_rng(100 * columns + vocab)
    cases = _cases(rng, vocab, 24)
    found = _run(Sampler(columns=columns, slots=slots, pace=pace, spans=True), vocab, cases, rng)
    assert found == [Span.model(*(case[0], case[2], case[1])) for case in cases]


def test_frozen_texts_have_their_spans_in_the_fabric() -> None:
    """Of the vectors that every other reading of the page is held to: those of at most 64 tokens."""
    rng, checked = np.random.default_rng(6), 0
    for text in json.loads(VECTORS.read_text()):
        rows = [np.array(row) for row in text["logits"]][:8]
        if not rows or len(rows[0]) > 64:
            continue
        cases = [(row, text["scale_bits"], token) for row, token in zip(rows, text["tokens"], strict=False)]
        dut = Sampler(columns=3, slots=22, spans=True)
        found = _run(dut, len(rows[0]), cases, rng)
        assert found == [tuple(span) for span in text["spans"][: len(found)]]
        checked += len(found)
    assert checked


def test_a_token_that_is_none_has_no_size() -> None:
    rng = np.random.default_rng(3)
    logits = rng.integers(-500, 500, 20)
    ((start, size, total),) = _run(Sampler(columns=4, slots=8, spans=True), 20, [(logits, 6, 20)], rng)
    assert (start, size) == (0, 0) and total == int(spans(logits[None], 6, [0])[0, 2])


@pytest.mark.parametrize("fault", ["table", "shift"])
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the table, or a shift of one more, is seen."""
    if fault == "table":
        table = EXP2.copy()
        table[0] ^= 1
        monkeypatch.setattr("ternac.hdl.engine.span.EXP2", table)
    else:
        monkeypatch.setattr("ternac.hdl.engine.span.LOG2_E_SHIFT", LOG2_E_SHIFT + 1)
    rng = np.random.default_rng(4)
    cases = _cases(rng, 20, 8)
    found = _run(Sampler(columns=4, slots=8, spans=True), 20, cases, rng)
    assert found != [Span.model(logits, token, shift) for logits, shift, token in cases]


def test_the_frequency_of_every_distance() -> None:
    """All shifts, the distances about each halving, at the latency that is documented."""
    rng = np.random.default_rng(5)
    dut = Frequency()

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for shift in (0, 1, 5, 8, 9, 15, 24, 31):
            distance = np.concatenate(
                [
                    [0, 1, 65535, 32768],
                    rng.integers(0, 65536, 60),
                    rng.integers(0, 1 + (24 << shift) % 65536, 60),
                ]
            )
            ctx.set(dut.shift, shift)
            seen = []
            for cycle in range(len(distance) + dut.latency):
                ctx.set(dut.distance, int(distance[min(cycle, len(distance) - 1)]))
                await ctx.tick()
                seen.append(ctx.get(dut.above))
            assert (
                seen[dut.latency - 1 : dut.latency - 1 + len(distance)]
                == Frequency.model(distance, shift).tolist()
            )

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_words_hold_a_span() -> None:
    for span in ((0, 0, 0), (1 << 40, (1 << 24) + 1, (1 << 41) - 1), (5, 6, 70000)):
        words = encode_span(*span)
        assert len(words) == SPAN_WORDS and max(words) < 1 << 16 and decode_span(words) == span
