"""The latent loop: its task, its model as a program, and what stops a reader."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.model.memory import loop
from ternac.model.memory.loop_model import Follow
from ternac.model.memory.parts import Stack
from ternac.model.memory.system import Case, open_system, run_cases, share_right, silent
from ternac.model.net.config import Scales
from ternac.program.loops import MemoryPart, loops_of
from ternac.run.executor import memory_view
from ternac.run.numpy_executor import NumpyExecutor

WIDTH = 16


@pytest.mark.parametrize("runs", [1, 3])
def test_the_block_computes_what_its_program_does_rows_included(runs: int) -> None:
    torch.manual_seed(3)
    s = Scales()
    model = Stack(loop.VOCAB, WIDTH, [Follow(WIDTH, s, runs, most=5)], s).eval()
    program = model.to_program("loop", {})
    tokens = np.random.default_rng(1).integers(0, loop.VOCAB, (60, 3))
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:25]))  # the state goes on into a second window
        second, states = model(torch.from_numpy(tokens[25:]), states)
    executor = NumpyExecutor(program)
    state = executor.open(3)
    expected = np.stack([executor.step(state, row, loops=runs) for row in tokens])
    assert np.array_equal(torch.cat((first, second)).numpy(), expected)
    (name,) = program.memories
    part = MemoryPart(program.memory_slices()[name].start, program.memories[name])
    assert np.array_equal(memory_view(state, part), states[0][1].numpy())


def test_the_shipped_models_reach_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "bench", "loop", "--executors", "native", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    figures = {figure["name"]: figure for figure in run["figures"]}
    assert all(figure["met"] for figure in figures.values())
    assert figures["hops 32, as many runs"]["bar"] == {"at least": 0.99}


def test_the_board_s_engine_follows_links_with_the_loops_of_each_case(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_system("loop")
    cases = [case for case in system.cases(loop.LOOPED, system.shipped(loop.LOOPED)) if case.loops in (1, 3)]
    monkeypatch.setattr(type(system), "parts", (loop.LOOPED,))
    monkeypatch.setattr(type(system), "cases", lambda self, part, program: [cases[0], cases[1], cases[-1]])
    monkeypatch.setattr(type(system), "figures", lambda self, programs, found: [])
    arguments = ["memory", "bench", "loop", "--executors", "numpy,isa", "--geometry", "ulx3s-85f-rows"]
    assert main([*arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"][0]["engine"]["rows"]
    assert (row["loops"], row["cases"], row["mismatches"]) == ([1, 3], 2, 0)


def test_only_an_is_writes() -> None:
    program = open_system("loop").shipped(loop.LOOPED)
    executor = NumpyExecutor(program)
    (name,) = program.memories
    part = MemoryPart(program.memory_slices()[name].start, program.memories[name])
    state = executor.open()
    executor.step(state, [3])
    assert not memory_view(state, part).any()
    executor.step(state, [loop.SYMBOLS + 4])
    told = memory_view(state, part).copy()
    executor.step(state, [2 * loop.SYMBOLS + 3])
    assert told.any() and np.array_equal(memory_view(state, part), told)


def test_the_links_lie_in_rows_that_runs_do_not_change() -> None:
    program = open_system("loop").shipped(loop.LOOPED)
    (its_loop,) = loops_of(program.ops)
    assert its_loop.most >= 32 and not its_loop.levels
    assert all(program.ops[at].kind != "MEM_UPDATE" for at in its_loop.body)
    rng = random.Random(1)
    links = loop.permutation(rng)
    tokens = loop.told(links, list(links), rng)
    executor = NumpyExecutor(program)
    states = [executor.open() for _ in range(2)]
    for state, runs in zip(states, (1, 7), strict=True):
        for token in tokens:
            executor.step(state, [token], loops=runs)
    assert np.array_equal(*states)


def test_runs_beyond_those_trained_on_follow_as_many_links() -> None:
    rng = random.Random(2)
    cases = []
    for _ in range(8):
        links = loop.permutation(rng)
        asked = list(links)
        tokens = loop.told(links, asked, rng)
        at = np.arange(len(tokens) - len(asked), len(tokens))
        answers = np.array([loop.SYMBOLS + loop.follow(links, symbol, 11) for symbol in asked])
        cases.append(Case(np.array(tokens), at, answers, [""] * len(asked), 11))
    found = run_cases(NumpyExecutor(open_system("loop").shipped(loop.LOOPED)), cases, silent)
    assert share_right(found) >= 0.99


def test_following_comes_to_the_end_of_a_chain_and_stays() -> None:
    rng = random.Random(3)
    first, second = loop.chains(loop.DEPTH, rng)
    links = loop.links_of([first, second])
    assert len(links) == loop.MAPPED and len(first) == loop.DEPTH + 1
    ends = [loop.follow(links, first[0], hops) for hops in range(loop.DEPTH - 1, loop.DEPTH + 2)]
    assert ends == [first[-2], first[-1], first[-1]]
    assert loop.follow(links, second[0], 40) == second[-1]


def test_a_reader_stops_at_two_equal_answers_in_a_row() -> None:
    assert loop.halted([5, 6, 7, 7, 8]) == (7, 4)
    assert loop.halted([5, 6, 5, 6]) == (6, 4)
    assert loop.halted([5, 5]) == (5, 2)
