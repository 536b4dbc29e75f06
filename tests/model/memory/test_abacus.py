"""Abacus: what is trained is what the program computes, places are counted, sums are texts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.model.memory.abacus import END, EQUALS, PLUS, VOCAB, text
from ternac.model.memory.abacus_model import last_writers, make_model
from ternac.program.loops import MemoryPart
from ternac.run.executor import memory_view
from ternac.run.numpy_executor import NumpyExecutor


def test_an_abacus_computes_what_its_program_does() -> None:
    torch.manual_seed(3)
    model = make_model("abacus").eval()
    program = model.to_program("abacus", {})
    tokens = np.random.default_rng(1).choice(VOCAB, (90, 3), p=[0.09] * 10 + [0.04, 0.04, 0.02])
    with torch.no_grad():
        found, _ = model(torch.from_numpy(tokens))
    executor = NumpyExecutor(program)
    state = executor.open(3)
    expected = np.stack([executor.step(state, row) for row in tokens])
    assert np.array_equal(found.numpy(), expected)
    (name,) = program.memories
    rows = memory_view(state, MemoryPart(program.memory_slices()[name].start, program.memories[name]))
    assert (rows != 0).any(-1).sum() > 20


def test_a_sum_is_text_from_the_lowest_digit_on() -> None:
    tokens, asked = text(95, 7)
    assert tokens == [5, 9, PLUS, 7, EQUALS, 2, 0, 1, END]
    assert [tokens[at + 1] for at in asked] == [2, 0, 1, END]


def test_a_token_reads_what_its_place_and_the_next_were_written_last() -> None:
    tokens, _ = text(95, 7)
    mine, following, before = (each[:, 0].tolist() for each in last_writers(torch.tensor(tokens)[:, None]))
    #                   5   9   +   7  =  2  0   1   .
    assert mine == [-1, -1, -1, 0, 2, 3, 1, -1, 4]
    assert following == [-1, -1, 0, 1, 3, 1, -1, -1, 5]
    assert before == [0, 0, 0, 1, 1, 2, 1, 0, 2]


def test_the_abacus_reaches_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["memory", "bench", "abacus", "--executors", "native", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert status == 0 and data["met"]
    assert sum("bar" in figure for figure in data["runs"][0]["figures"]) == 2
