"""Distinct n-grams and loops of what a program writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.repetition import GRAMS, LOOP_TAIL, distinct, looping, repetition, ways


def test_distinct_counts_n_grams_once() -> None:
    assert distinct([1, 2, 1, 2, 1], 2) == 2 / 4
    assert distinct([1, 2, 3, 4], 2) == 1.0
    assert distinct([1] * 100, 4) == 1 / 97
    assert distinct([1], 2) == 1.0


def test_a_loop_is_an_end_that_repeats_itself() -> None:
    """The planted fault: one token that differs in the tail is no loop."""
    text = list(range(50)) + [7, 8, 9] * LOOP_TAIL
    assert looping(text)
    text[-5] = 200
    assert not looping(text)
    assert not looping(list(range(1000))) and not looping([1] * (LOOP_TAIL - 1))


def test_argmax_is_what_the_executor_generates_and_a_penalty_has_more_n_grams() -> None:
    program = random_program(np.random.default_rng(3), d=16, m=24, layers=1, vocab=64)
    tokens = np.random.default_rng(4).integers(0, 64, 400)
    found = {one.way: one for one in repetition(NumpyExecutor(program), tokens, 160, 3)}
    assert list(found) == ["the text itself", *ways(program.logit_scale_bits)]
    executor, texts = NumpyExecutor(program), []
    for at in np.linspace(0, 400 - 224, 3).astype(int):
        state = executor.open(1)
        for token in tokens[at : at + 64]:
            logits = executor.step(state, [token])[0]
        text: list[int] = []
        while len(text) < 160:
            text.append(int(logits.argmax()))
            logits = executor.step(state, [text[-1]])[0]
        texts.append(text)
    want = tuple(float(np.mean([distinct(text, n) for text in texts])) for n in GRAMS)
    assert found["greedy"].distinct == want
    assert found["temperature 1.0"].distinct[2] > want[2]


def test_a_text_that_is_too_short_is_named() -> None:
    program = random_program(np.random.default_rng(3), d=16, m=24, layers=1, vocab=64)
    with pytest.raises(UsageError, match="and 40 behind it need 104"):
        repetition(NumpyExecutor(program), np.zeros(100, np.int64), 40, 2)


def test_the_verb_reports_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_bytes(b"It is a truth universally acknowledged, that a man. " * 8)
    words = ["eval", "shakespeare-small", "--text", str(tmp_path / "text"), "--distinct", "8"]
    assert main([*words, "--passages", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in found["ways"]][:2] == ["the text itself", "greedy"]
    assert all(set(row["distinct"]) == {"2", "3", "4", "8"} for row in found["ways"])
    assert main([*words, "--loops", "2"]) == 2
    assert "loops" in capsys.readouterr().err
