"""The systems that are shipped: their figures, and that a bench finds what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.host.executors import IsaExecutor
from ternac.model.memory import cache
from ternac.model.memory.abacus import text
from ternac.model.memory.cache import DOT, FIRST_CLASS, FIRST_ENTITY, IS, world
from ternac.model.memory.picture import write_picture
from ternac.model.memory.system import (
    NAMES,
    SHIPPED,
    Case,
    Figure,
    Found,
    open_system,
    run_cases,
    share_right,
    share_whole,
    silent,
)
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor

MOST_BYTES = 2 << 20
LISTED = sorted(path.name for path in SHIPPED.iterdir())


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main(["memory", "bench", *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", LISTED)
def test_every_system_ships_small_models_with_a_card(name: str) -> None:
    system = open_system(name)
    folder = SHIPPED / name
    assert (folder / "card.md").read_text().startswith(f"# {name}")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES
    for part in system.parts:
        program = system.shipped(part)
        assert all(len(case.asked) == len(case.answers) for case in system.cases(part, program))


def test_the_session_cache_reaches_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    status, data = bench(capsys, "cache", "--executors", "native")
    (run,) = data["runs"]
    assert status == 0 and data["met"] and data["mismatches"] == 0
    assert all(figure["met"] for figure in run["figures"])


def test_a_bar_that_is_missed_fails_the_bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_system("cache")
    monkeypatch.setattr(type(system), "cases", lambda self, part, program: [Case.of([1, 2, 3], [0], "x")])
    monkeypatch.setattr(type(system), "figures", lambda self, programs, found: [Figure("share", 0.5, 0.99)])
    status, data = bench(capsys, "cache", "--executors", "numpy")
    assert status == 1 and not data["met"]
    assert data["runs"][0]["figures"] == [
        {"name": "share", "value": 0.5, "met": False, "bar": {"at least": 0.99}}
    ]


def test_a_different_executor_fails_the_bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_system("cache")
    case = Case.of(list(range(20)), [5, 18], "x")
    monkeypatch.setattr(type(system), "cases", lambda self, part, program: [case])
    monkeypatch.setattr(type(system), "figures", lambda self, programs, found: [])
    step = NumpyExecutor.step

    def wrong(self, state, tokens, trace=None, *, loops=None):
        logits = step(self, state, tokens, trace, loops=loops)
        state[0, -1] += 1  # an element of a row
        return logits

    monkeypatch.setattr(NumpyExecutor, "step", wrong)
    status, data = bench(capsys, "cache", "--executors", "native,numpy")
    assert status == 1 and data["mismatches"] == 1


def test_cases_of_unequal_length_and_loops_are_found_in_their_order() -> None:
    program = random_memory_program(np.random.default_rng(8), layers=2, loop="free")
    rng = np.random.default_rng(1)
    cases = [
        Case.of(rng.integers(0, program.vocab, length).tolist(), [2, length - 2], ["a", "b"], loops)
        for length, loops in ((9, None), (12, 1), (5, None), (7, 2), (6, 1))
    ]
    executor = NumpyExecutor(program)
    for case, found in zip(cases, run_cases(executor, cases, silent), strict=True):
        (alone,) = run_cases(executor, [case], silent)
        assert found.case is case and found.digest == alone.digest
        state = executor.open()
        logits = [executor.step(state, [int(token)], loops=case.loops)[0] for token in case.tokens]
        assert np.array_equal(found.logits, np.array(logits)[case.asked])
    (some,) = run_cases(executor, [cases[0]], silent, limit=4)
    assert len(some.logits) == 1


def test_shares_are_of_groups_and_of_whole_cases() -> None:
    program = random_memory_program(np.random.default_rng(8), layers=1, loop="")
    executor = NumpyExecutor(program)
    found = run_cases(executor, [Case.of([0, 1, 0, 1, 0], [0, 1, 2], ["a", "b", "b"])], silent)
    right = found[0].right
    assert share_right(found, "a") == right[0] and share_right(found, "b") == right[1:].mean()
    assert share_right(found) == right.mean() and share_whole(found) == right.all()
    all_right = [replace(found[0].case, answers=found[0].chosen)]
    assert share_whole(run_cases(executor, all_right, silent)) == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench"], "needs the name of a system"),
        (["bench", "caches"], "no memory system is called 'caches'"),
        (["bench", "cache", "--seeds", "1,2"], "go with --train"),
        (["bench", "cache", "--train", "--seeds", "one"], "seed 'one' is not a number"),
        (["bench", "cache", "--geometry", "tiny-rows"], "--geometry has no effect with --executors"),
        (["bench", "cache", "--executors", "isa"], "name one that runs all cases"),
        (["list", "cache"], "list takes no name"),
        (["list", "--train"], "--train does not go with list"),
        (["list", "--plot", "a.png"], "--plot does not go with list"),
        (["bench", "cache", "--plot", "a.txt"], "the name must end in .png, .svg, .pdf"),
    ],
)
def test_bad_words_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", *words, "--json"]) == 2
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]


def test_every_system_that_is_named_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "list", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["systems"]) == list(NAMES)


def test_the_curves_of_the_cache_are_those_of_its_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text, with two answers in its first piece, one of them wrong."""
    system = open_system("cache")
    known = [FIRST_ENTITY + 3, IS, FIRST_CLASS + world()[3], DOT]
    wrong = [FIRST_ENTITY + 4, IS, FIRST_CLASS + (world()[4] + 1) % 16, DOT]
    tokens = [*known, *wrong, *[DOT] * 248]
    cases = [Case.of(tokens, [1, 5], "untouched")]
    monkeypatch.setattr(type(system), "cases", lambda self, part, program: cases)
    monkeypatch.setattr(type(system), "figures", lambda self, programs, found: [])
    status, data = bench(capsys, "cache", "--executors", "numpy", "--plot", str(tmp_path / "a" / "b.svg"))
    assert status == 0 and data["plot"].endswith("b.svg")
    assert "rows that are not zero" in (tmp_path / "a" / "b.svg").read_text()
    program = system.shipped("cache")
    found = run_cases(NumpyExecutor(program), cases, silent)
    right, rows = system.curves({"cache": program}, {"cache": found})
    assert right.lines == {"corrected": ([], []), "untouched": ([128], [0.5])}
    executor = NumpyExecutor(program)
    state = executor.open(1)
    for token in tokens:
        executor.step(state, [token])
    used = int(executor.state_dict(state)["1.rows"].any(-1).sum())
    assert rows.lines["of 256"][0] == [0, 128, 256] and rows.lines["of 256"][1][-1] == used


def test_a_system_without_curves_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(open_system("cache")), "draws", False)
    assert main(["memory", "bench", "cache", "--plot", "a.png", "--json"]) == 2
    assert "cache has no curves to draw" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_system_whose_model_is_not_shipped_says_how_to_train_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model nothing of cache is shipped"):
        open_system("cache").shipped("nothing")
    assert "cache" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_curves_are_drawn_of_what_was_found(name: str, tmp_path: Path) -> None:
    """Of the first cases of each group, with right answers: a share of rights is 1 everywhere."""
    system = open_system(name)
    if not system.draws:
        pytest.skip("it has none")
    programs, found = {}, {}
    for part in system.parts:
        programs[part] = system.shipped(part)
        found[part] = [
            Found(case, np.eye(programs[part].vocab, dtype=np.int32)[case.answers], "")
            for case in system.cases(part, programs[part])
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "LENGTH", 256)  # of the text whose rows are counted
        panels = system.curves(programs, found)
    write_picture(tmp_path / "curves.svg", system.title, panels)
    assert (tmp_path / "curves.svg").stat().st_size > 10_000
    for panel in panels:
        assert panel.lines
        for across, up in panel.lines.values():
            assert len(across) == len(up) > 0
            assert "share" not in panel.up or set(up) == {1.0}


def few_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave two short sums of the abacus, and no figures."""
    cases = [Case.of(*text(first, 58), "sum") for first in (97, 3)]
    monkeypatch.setattr(type(open_system("abacus")), "cases", lambda self, part, program: cases)
    monkeypatch.setattr(type(open_system("abacus")), "figures", lambda self, programs, found: [])


def test_an_engine_runs_some_cases_of_the_models_that_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few_sums(monkeypatch)
    status, data = bench(capsys, "abacus", "--executors", "numpy,isa")
    (row,) = data["runs"][0]["engine"]["rows"]
    assert status == 0 and data["mismatches"] == 0
    assert (row["geometry"], row["cases"], row["tokens"]) == ("tiny-rows", 2, 10 + 8)
    assert row["cycles"] is None  # the image has no clock


def test_a_row_that_differs_on_an_engine_fails_the_bench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few_sums(monkeypatch)
    honest = IsaExecutor.step

    def wrong(self, state, tokens, trace=None, *, loops=None):
        logits = honest(self, state, tokens, trace, loops=loops)
        state[0, -1] ^= 1  # an element of a row
        return logits

    monkeypatch.setattr(IsaExecutor, "step", wrong)
    status, data = bench(capsys, "abacus", "--executors", "numpy,isa")
    assert status == 1 and data["mismatches"] == 2  # both cases
    (row,) = data["runs"][0]["engine"]["rows"]
    assert len(row["divergences"]) == row["mismatches"] == 2


def test_a_model_that_does_not_fit_is_told_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_system("kan")
    monkeypatch.setattr(type(system), "cases", lambda self, part, program: [Case.of([1, 2, 3], [0], "x")])
    monkeypatch.setattr(type(system), "figures", lambda self, programs, found: [])
    status, data = bench(capsys, "kan", "--executors", "numpy,isa", "--geometry", "tiny-rows")
    engine = data["runs"][0]["engine"]
    assert status == 0 and [row["model"] for row in engine["rows"]] == ["series"]
    assert list(engine["does_not_fit"]) == ["digits"] and engine["does_not_fit"]["digits"]["message"]
    assert main(["memory", "bench", "cache", "--executors", "numpy,isa", "--geometry", "tiny-rows"]) != 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_board_adds_with_its_rows_as_numpy_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few_sums(monkeypatch)
    status, data = bench(capsys, "abacus", "--executors", "numpy,rtl")
    (row,) = data["runs"][0]["engine"]["rows"]
    assert status == 0 and data["mismatches"] == 0
    assert row["geometry"] == "tiny-rows" and row["tokens"] == 18 and row["cycles"] > 0
