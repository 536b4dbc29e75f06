"""The fuzzer itself: it finds what is planted, and a short run of every target finds nothing."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable

import pytest

from ternac.errors import UsageError
from tests.fuzz import __main__ as runner
from tests.fuzz.mutate import DEEP, LEVELS, MOST, dumped, mutated, mutated_json
from tests.fuzz.targets import TARGETS, Target


def refuse(data: bytes) -> None:
    raise UsageError("no")


def fail(data: bytes) -> None:
    if b"x" in data:
        raise KeyError(data)


def hang(data: bytes) -> None:
    if b"x" in data:
        time.sleep(600)


def die(data: bytes) -> None:
    if b"x" in data:
        os.kill(os.getpid(), 9)


@pytest.mark.parametrize(
    ("fault", "said"), [(fail, "KeyError"), (hang, "ran for more than 1 s"), (die, "ended with status -9")]
)
def test_a_planted_fault_is_found_and_its_input_kept(
    fault: Callable[[bytes], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "planted", Target("planted", fault, lambda: [b"aaxa"]))
    text, file = runner.fuzz("planted", 5, 1, patience=1)
    assert said in text
    assert file is not None and b"x" in file.read_bytes()
    file.unlink()


def test_what_is_refused_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "planted", Target("planted", refuse, lambda: [b"a"]))
    text, file = runner.fuzz("planted", 0.2, 1)
    runs, refused = (int(words.split()[0]) for words in text.split(", "))
    assert file is None and runs == refused > 5


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str) -> None:
    """Seeds and corpus, then mutations for a second; `make fuzz` takes ten minutes."""
    text, file = runner.fuzz(name, 1.0, 1)
    assert file is None, text


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_change_seeds_and_are_those_of_their_seed(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    made = [
        [target.mutate(rng, seed, seeds) for seed in seeds for _ in range(20)]
        for rng in (random.Random(1), random.Random(1))
    ]
    assert made[0] == made[1]
    assert len(set(made[0]) - set(seeds)) > len(seeds) * 10


def test_mutations_reach_what_is_nested_deep_and_every_place() -> None:
    assert dumped({"a": DEEP}) == '{"a":' + "[" * LEVELS + "]" * LEVELS + "}"
    rng, value = random.Random(1), {"a": [1, {"b": "x"}], "c": 2}
    found = {dumped(mutated_json(rng, value)) for _ in range(300)}
    assert len(found) > 150
    assert value == {"a": [1, {"b": "x"}], "c": 2}
    grown = {"a": [["x" * 1000] * 20]}
    assert max(len(json.dumps(mutated_json(rng, grown))) for _ in range(2000)) < 21_000 + 4 * MOST
    assert len({mutated(rng, b"0123456789", [b"abc"]) for _ in range(300)}) > 150
