"""The soak: a short one finds nothing, its rounds are those of their seed, and what is planted is told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ternac.host.board.backend import BoardBackend
from ternac.link import Status
from ternac.sim.link_model import LinkModel
from tests.host.adversary import Clock
from tests.soak.__main__ import main, memory
from tests.soak.boards import PythonBoard
from tests.soak.campaign import Hang, round_of, within

BAD = ("wrong", "untyped", "hangs")


def test_a_short_soak_finds_nothing_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    for rounds in ("4", "8"):
        assert main(["--rounds", rounds, "--out", str(tmp_path), "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())
    assert (row["board"], row["seed"], row["rounds"]) == ("Python", 17, 8)
    assert [row[name] for name in BAD] == [0, 0, 0]
    assert row["frames"] > 1000 and row["tokens compared"] > 300 and row["states compared"] > 50
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == row
    assert main(["--rounds", "2", "--seed", "18", "--out", str(tmp_path), "--json", str(file)]) == 0
    assert [row["seed"] for row in json.loads(file.read_text())] == [17, 18]


def test_a_round_is_that_of_its_number() -> None:
    board, clock = PythonBoard(), Clock()

    def counted(number: int) -> dict[str, Any]:
        found = round_of(board, 3, number, clock)
        return {name: value for name, value in found.items() if name not in ("seconds", "mb")}

    assert counted(5) == counted(5) != counted(6)


def test_a_board_that_ignores_the_numbers_is_told_as_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LinkModel, "refusal", lambda board, seq: Status.OK)
    assert main(["--rounds", "12", "--out", str(tmp_path)]) == 1
    assert "instead of" in capsys.readouterr().out


def test_an_error_without_a_type_and_a_hang_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    board = PythonBoard()
    with monkeypatch.context() as patch:
        patch.setattr(BoardBackend, "open", broken)
        found = round_of(board, 1, 0, Clock())
    assert found["untyped"] == 1 and "ZeroDivisionError" in found["traceback"]
    monkeypatch.setattr("tests.soak.campaign.ROUND_SECONDS", 0.05)
    monkeypatch.setattr(BoardBackend, "open", lambda *_: time.sleep(5))
    assert round_of(board, 1, 0, Clock())["hangs"] == 1
    with pytest.raises(Hang), within(0.01):
        time.sleep(5)


def test_memory_is_of_one_process_and_shows_growth() -> None:
    rows = [{"process": 1, "mb": 50.0}] * 3 + [{"process": 2, "mb": 100.0 + number} for number in range(100)]
    assert memory(rows) == (115.0, 194.5)
