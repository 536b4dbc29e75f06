"""The campaign of flipped bits: its trials are those of their seed, and what is planted is told."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ternac.compile.geometry import Mem
from tests.mutants.page import PAGE, RESULTS, page, upsets
from tests.results import merge
from tests.upsets.__main__ import counts, table
from tests.upsets.campaign import WANT, outcome_of, virtual_time
from tests.upsets.model_board import ModelBoard, ModelLine, model_trial


@pytest.fixture(scope="module")
def board() -> ModelBoard:
    return ModelBoard()


def outcome(board: ModelBoard, at: int, change: Any) -> dict[str, Any]:
    with virtual_time(board.clock):
        return outcome_of(ModelLine(copy.deepcopy(board.loaded), board.clock, at, change))


def test_a_trial_is_that_of_its_number(board: ModelBoard) -> None:
    with virtual_time(board.clock):
        found = [[model_trial(board, random.Random(f"1 {n}")) for n in range(6)] for _ in range(2)]
    assert found[0] == found[1]
    assert len({json.dumps(one) for one in found[0]}) == 6


def test_nothing_changed_has_no_effect(board: ModelBoard) -> None:
    assert outcome(board, 1, lambda model: None) == {"outcome": "no effect"}


def test_other_weights_are_told_as_wrong_until_the_program_is_loaded(board: ModelBoard) -> None:
    """The planted fault: all weights are inverted."""

    def invert(model: Any) -> None:
        words = model.engine.memories[Mem.WEIGHT]
        for block in range(words.shape[0]):
            for address in range(words.shape[1]):
                model.engine.write(int(Mem.WEIGHT), block, address, int(words[block, address]) ^ 0xFFFF)

    assert outcome(board, 1, invert) == {"outcome": "wrong", "after": "configured again"}


def test_a_board_that_lost_its_program_is_refused_and_loaded_by_the_next_host(board: ModelBoard) -> None:
    found = outcome(board, board.writes // 2, None)
    assert (found["outcome"], found["after"]) == ("refused", "next host")


def test_a_silent_board_ends_in_a_time_out(board: ModelBoard) -> None:
    def silence(model: Any) -> None:
        model.feed = lambda data: b""

    found = outcome(board, 2, silence)
    assert (found["outcome"], found["error"], found["after"]) == ("refused", "NoAnswer", "configured again")


def test_the_expected_tokens_are_not_all_the_same() -> None:
    assert len(set(b"".join(WANT))) > 2


def test_counts_and_table_are_of_the_trials(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"kind": "a", "outcome": "wrong", "after": "next host"},
        {"kind": "a", "outcome": "no effect"},
        {"kind": "b", "outcome": "refused", "after": "never"},
    ]
    assert table(rows)[2:] == ["| a | 2 | 1 | 0 | 0 | 1 | 1 | 0 |", "| b | 1 | 0 | 0 | 1 | 0 | 0 | 0 |",
                               "| all | 3 | 1 | 0 | 1 | 1 | 1 | 0 |"]  # fmt: skip
    file, keys = tmp_path / "counts.json", ("board", "seed", "kind")
    merge(file, counts("rtl", 1, rows), keys)
    merge(file, counts("python", 1, rows[:1]), keys)
    merge(file, counts("rtl", 2, rows[:1]), keys)
    merged = merge(file, counts("rtl", 1, rows), keys)  # in place of those that are there
    assert json.loads(file.read_text()) == merged
    found = {(row["board"], row["seed"], row["kind"]): row for row in merged}
    assert len(found) == len(merged) == 4
    assert found["RTL", 1, "a"]["trials"] == 2 and found["RTL", 1, "b"]["never"] == 1
    lines = upsets(merged).splitlines()
    assert "| RTL | a | 3 | 1 | 0 | 0 | 2 | 2 | 0 | 0 |" in lines  # of both seeds
    assert "| RTL | all | 4 | 1 | 0 | 1 | 2 | 2 | 0 | 1 |" in lines


def test_the_page_shows_the_results() -> None:
    assert all(path.exists() for path in RESULTS.values())
    assert page(PAGE.read_text()) == PAGE.read_text()
