"""The system `sleep`: its sessions and base texts, what is shipped, and that its bars can be missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.model.memory import sleep
from ternac.model.memory.cache import FIRST_CLASS, FIRST_ENTITY, IS, NO, VOCAB, world
from ternac.model.memory.system import open_system, run_cases, silent
from ternac.model.training.sleep import Sleeper
from ternac.run.numpy_executor import NumpyExecutor


def test_sessions_correct_each_entity_once_and_do_not_contradict_each_other() -> None:
    told = sleep.told()
    corrected = [entity for session in told for entity in session]
    assert len(corrected) == len(set(corrected)) == 16 and len(told) == 8
    assert all(its != world()[entity] for session in told for entity, its in session.items())
    assert set(sleep.untouched()) == set(range(len(world()))) - set(corrected)
    new = sleep.new_world()
    for tokens in sleep.session_texts():
        assert all(0 <= token < VOCAB for token in tokens) and tokens.count(NO) == 2
        for at, token in enumerate(tokens):
            if token == IS:
                assert tokens[at + 1] - FIRST_CLASS == new[tokens[at - 1] - FIRST_ENTITY]


def test_base_texts_tell_the_old_facts() -> None:
    plain = [text for text in sleep.base_texts() if NO not in text]
    assert len(plain) > 400
    said = {
        (text[at - 1] - FIRST_ENTITY, text[at + 1] - FIRST_CLASS)
        for text in plain
        for at in range(1, len(text) - 1)
        if text[at] == IS
    }
    assert said == set(enumerate(world()))


def test_the_shipped_models_reach_their_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["memory", "bench", "sleep", "--executors", "native", "--plot", str(tmp_path / "a.svg"), "--json"]
    assert main(words) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    figures = {figure["name"]: figure for figure in run["figures"]}
    assert all(figure["met"] for figure in figures.values())
    assert figures["corrected ones, in a fresh session"]["bar"] == {"at least": 0.99}
    assert figures["before: corrected ones, in a fresh session"]["value"] == 0.0
    assert "closed session" in (tmp_path / "a.svg").read_text()


def test_what_slept_says_of_what_and_can_sleep_again() -> None:
    before, after = (open_system("sleep").shipped(part) for part in open_system("sleep").parts)
    slept = after.meta["slept"]
    assert slept["from"] == before.hash != after.hash
    assert slept["sessions"] == 8 and slept["tokens"] == sum(map(len, sleep.session_texts()))
    assert Sleeper.open(after, Path()).export({}).hash == after.hash


def test_a_program_that_did_not_sleep_misses_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    system = open_system("sleep")
    monkeypatch.setattr(sleep, "QUIZZES", 2)
    monkeypatch.setattr(sleep, "LOSS_TEXTS", 1)
    monkeypatch.setattr(sleep, "LOSS_LENGTH", 200)
    before = system.shipped(sleep.BEFORE)
    programs = dict.fromkeys(system.parts, before)
    executor = NumpyExecutor(before)
    found = {part: run_cases(executor, system.cases(part, before), silent) for part in system.parts}
    missed = {figure.name for figure in system.figures(programs, found) if not figure.met}
    assert missed == {
        "corrected ones, in a fresh session",
        "more nats a token, each in its world",
        "another program hash",
    }
