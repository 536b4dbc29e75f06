"""Sleep: weights from a program, replay of sessions into them, and the files that sessions are read from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ternac.errors import CheckpointError, Mismatch, TernacError, TrainingDiverged, UsageError
from ternac.model.memory import abacus_model, cache_model, loop_model
from ternac.model.memory.parts import Stack
from ternac.model.memory.sleep import base_texts, session_texts
from ternac.model.memory.system import open_system
from ternac.model.net.config import SleepConfig
from ternac.model.training.session_text import read_texts
from ternac.model.training.sleep import (
    META,
    Sleeper,
    check_tokens,
    compare,
    record,
    replay,
    trits_changed,
)
from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.snapshot import Snapshot

SHORT = SleepConfig(steps=3, batch=4, window=12, share=0.5)


def silent(done: int, steps: int, note: str) -> None:
    """Report nothing."""


def arrays(*texts: list[int]) -> list[np.ndarray]:
    return [np.array(text) for text in texts]


@pytest.fixture
def cache() -> Program:
    return open_system("cache").shipped("cache")


@pytest.mark.parametrize(
    ("make", "part"),
    [(cache_model.make_model, "cache"), (abacus_model.make_model, "abacus"), (loop_model.make_model, "loop")],
)
def test_a_model_takes_the_weights_of_its_program(make: Callable[[str], Stack], part: str) -> None:
    torch.manual_seed(1)
    program = make(part).eval().to_program("one", {})
    torch.manual_seed(2)
    model = make(part).eval()
    assert model.to_program("one", {}).hash != program.hash
    model.take(program)
    assert model.to_program("one", {}).hash == program.hash


def test_shipped_programs_give_their_scales_back(cache: Program) -> None:
    """Training moved them: a shift of the program is not that of an untrained model."""
    model = Sleeper.open(cache, Path()).model
    assert isinstance(model, Stack)
    assert model.to_program(cache.name, {}).hash == cache.hash


def test_a_program_of_another_model_is_refused(cache: Program) -> None:
    with pytest.raises(UsageError, match="is no program of this model"):
        abacus_model.make_model("abacus").eval().take(cache)
    table = next(name for name, role in cache.roles().items() if role == "table")
    consts = {**cache.consts, table: cache.consts[table] + np.int16(1)}
    with pytest.raises(UsageError, match="is no program of this model"):
        cache_model.make_model("cache").eval().take(replace(cache, consts=consts))
    for system in ("kan", "none"):
        with pytest.raises(UsageError, match="has no model of its parts"):
            Sleeper.open(replace(cache, meta={"system": system}), Path())
    with pytest.raises(CheckpointError, match="none is beside"):
        Sleeper.open(replace(cache, meta={}), Path("nowhere/program.safetensors"))


@pytest.mark.parametrize("heard", [0.0, 0.5, 1.0])
def test_replay_moves_the_weights_and_the_program_follows(cache: Program, heard: float) -> None:
    sessions, base = (arrays(*texts[:3]) for texts in (session_texts(), base_texts()))
    found = []
    for _ in range(2):
        sleeper = Sleeper.open(cache, Path())
        replay(sleeper.model, sessions, base, replace(SHORT, heard=heard, lr=1.0), silent)
        found.append(sleeper.export({META: record(cache, sessions, SHORT)}))
    one, other = found
    assert one.hash == other.hash != cache.hash  # the same seed, the same program
    assert trits_changed(cache, one) > 0 and trits_changed(one, other) == 0
    assert one.meta[META]["from"] == cache.hash and one.meta[META]["sessions"] == 3
    assert one.name == cache.name and one.meta["system"] == "cache"
    assert compare(sleeper.model, one, sessions[0][:30]) == 30
    assert Sleeper.open(one, Path()).export({}).hash == one.hash  # it can sleep again


def test_a_session_shorter_than_a_window_is_replayed_to_its_end(cache: Program) -> None:
    session, base = np.array([5, 0, 55, 2]), np.array([7, 0, 56, 2, 3])
    sleeper = Sleeper.open(cache, Path())
    losses: list[str] = []
    settings = SleepConfig(steps=30, batch=2, window=32, lr=1e-2, share=1.0)
    replay(sleeper.model, [session], [base], settings, lambda done, steps, note: losses.append(note))
    assert float(losses[-1].split()[1]) < 0.5 * float(losses[0].split()[1])
    executor = NumpyExecutor(sleeper.export({}))
    state = executor.open()
    said = [int(executor.step(state, [token])[0].argmax()) for token in session[:-1].tolist()]
    assert said == session[1:].tolist()


def test_a_program_that_differs_from_its_model_is_found(cache: Program) -> None:
    model = Sleeper.open(cache, Path()).model
    tokens = np.array(session_texts()[0][:20])
    assert compare(model, cache, tokens) == 20
    head = cache.consts["head"].copy()
    head[3] = -head[3]
    with pytest.raises(Mismatch, match="logit 3 is"):
        compare(model, replace(cache, consts={**cache.consts, "head": head}), tokens)


def test_a_loss_that_is_not_finite_ends_the_sleep(cache: Program) -> None:
    model = Sleeper.open(cache, Path()).model
    with torch.no_grad():
        model.head.weight[:] = float("nan")
    with pytest.raises(TrainingDiverged, match="at step 0"):
        replay(model, arrays([1, 2, 3]), arrays([4, 5, 6]), SHORT, silent)


@pytest.mark.parametrize(
    ("sessions", "base", "message"),
    [
        ([], [[1, 2]], "there is no session to replay"),
        ([[1, 2]], [], "there is no base text to replay"),
        ([[1, 2], [1]], [[1, 2]], r"session 2 has 1 token\(s\), replay needs at least 2"),
        ([[1, 127]], [[1, 2]], r"session 1 has token 127, the model has 0\.\.126"),
        ([[1, 2]], [[1, 2], [3, -1]], r"base text 2 has token -1, the model has 0\.\.126"),
    ],
)
def test_texts_that_cannot_be_replayed_are_refused(
    sessions: list[list[int]], base: list[list[int]], message: str, cache: Program
) -> None:
    with pytest.raises(UsageError, match=message):
        replay(Sleeper.open(cache, Path()).model, arrays(*sessions), arrays(*base), SHORT, silent)


def test_settings_outside_their_ranges_are_refused() -> None:
    for wrong, message in (
        ({"steps": 0}, "steps = 0 must be at least 1"),
        ({"lr": 0.0}, "lr = 0.0 is outside"),
        ({"share": 0.0}, "share = 0.0 is outside"),
        ({"heard": 1.5}, "heard = 1.5 is outside"),
    ):
        with pytest.raises(UsageError, match=message):
            SleepConfig(**wrong)  # type: ignore[arg-type]
    check_tokens(np.array([0, 3]), 4, "a text")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "abc", [[97, 98, 99]]),
        ("a.json", [1, 2, 3], [[1, 2, 3]]),
        ("a.json", [[1, 2], [3, 4, 5]], [[1, 2], [3, 4, 5]]),
        ("a.json", {"prompt": "a", "text": "bc", "tokens": [9]}, [[97, 98, 99]]),
    ],
)
def test_sessions_are_text_or_tokens(name: str, content: Any, expected: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content if name.endswith(".txt") else json.dumps(content))
    found = read_texts(tmp_path / name, open_program("shakespeare"))
    assert [tokens.tolist() for tokens in found] == expected


def test_files_that_are_no_sessions_are_refused(tmp_path: Path, cache: Program) -> None:
    program = open_program("shakespeare")
    executor = NumpyExecutor(program)
    snapshot = Snapshot(state=executor.open()[0], rng=1, pending=None, fed=0).to_bytes(program)
    for name, data, what, message in (
        ("a.session", snapshot, program, "a.session is a snapshot of a session: it has the state"),
        ("a.json", b"{", program, "a.json is not JSON"),
        ("a.json", b"[]", cache, "has 0 token"),
        ("a.json", b'[1, "a"]', program, "is no list of tokens"),
        ("a.json", b"[1, true]", program, "is no list of tokens"),
        ("a.json", b"[[1], 2]", program, "is no list of tokens"),
        ("a.json", b'{"text": "a"}', program, "is no list of tokens"),
        ("a.json", b"[1, 65536]", program, "is no list of tokens"),
        ("a.txt", b"abc", cache, "a.txt: "),
        ("a.txt", b"", program, "a.txt is empty"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TernacError, match=message):
            check_tokens(read_texts(tmp_path / name, what)[0], what.vocab, "the session")
