"""`ternac task`: writes its texts, asks on several executors, and fails when a bar is missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ternac.cli.main import main
from ternac.run import answers

SMALL = "shakespeare-small"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with ``--json``; returns its exit status and what it printed."""
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_texts_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(capsys, "task", "make", str(tmp_path / "t"), "--scale", "0.001")
    assert status == 0 and data["lines"] == {"train": 400, "held-out": 4, "seen": 4}
    assert (tmp_path / "t" / "train.txt").read_text().count(" => ") == 400


def test_executors_are_asked_the_same_and_a_bar_can_be_missed(capsys: pytest.CaptureFixture[str]) -> None:
    bench = ("task", "bench", SMALL, "--questions", "1", "--geometry", "icebreaker")
    status, data = run(capsys, *bench, "--executors", "numpy,native,isa", "--bar", "0")
    assert status == 0 and data["met"] and data["mismatches"] == 0
    assert data["scores"]["held_out"]["right"] == 0 and len(data["wrong"]) == 2
    assert [row["executor"] for row in data["engines"]] == ["isa"] and data["engines"][0]["questions"] == 2
    status, data = run(capsys, *bench, "--executors", "native")
    assert status == 1 and not data["met"] and data["bar"] == 0.98


def test_an_executor_that_answers_otherwise_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answers.ask

    def wrong(executor: Any, *arguments: Any) -> list[list[int]]:
        found = right(executor, *arguments)
        return found if executor.name == "numpy" else [[*found[0], 1], *found[1:]]

    monkeypatch.setattr(answers, "ask", wrong)
    words = ("task", "bench", SMALL, "--questions", "1", "--executors", "numpy,native", "--bar", "0")
    status, data = run(capsys, *words)
    assert status == 1 and data["mismatches"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("make", "make needs the folder of the texts"),
        ("make t --questions 3", "--questions goes with bench, not with make"),
        ("bench --seed 2", "--seed goes with make, not with bench"),
        ("bench", "bench needs a model of the task"),
        ("bench shakespeare-small --executors isa", "name one that is asked all questions"),
        ("bench nothing-of-that-name", "no program file or shipped model"),
        ("bench --questions 0", "--questions is 0"),
    ],
)
def test_bad_arguments_are_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(capsys, "task", *words.split())
    assert status == 2 and message in data["error"]["message"]


def test_the_shipped_model_meets_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(capsys, "task", "bench", "commands", "--questions", "300", "--executors", "native")
    assert status == 0 and data["met"]
    assert data["scores"]["held_out"]["right"] >= 0.98


@pytest.mark.slow
def test_the_shipped_model_answers_alike_on_engines(capsys: pytest.CaptureFixture[str]) -> None:
    bench = ("task", "bench", "commands", "--questions", "20", "--geometry", "icebreaker")
    status, data = run(capsys, *bench, "--executors", "numpy,native,isa,rtl")
    assert status == 0 and data["mismatches"] == 0
    assert [row["executor"] for row in data["engines"]] == ["isa", "rtl"]
