"""The mutation runner itself: what it changes, what it kills, and that its lists are of this source."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.mutants import __main__ as tool
from tests.mutants import runner
from tests.mutants.modules import MODULES, Module
from tests.mutants.mutate import mutants
from tests.mutants.runner import ROOT

SOURCE = '''
"""A docstring with 1 + 2."""
TABLE: tuple[int, ...] = (1, 2)

def f(x, y=0, *, flag=True):
    """Not x < 1."""
    if not flag or x < y:
        raise ValueError(f"{x + 1} is wrong")
    found = [v for v in range(x) if v % 2]
    found.append(max(x, y))
    x += 1
    return found[-1] << 1
'''
CHANGES = {
    "1 -> 2", "2 -> 3", "0 -> 1", "True -> False", "not flag or x < y -> not flag and x < y",
    "not flag -> flag", "x < y -> x <= y", "without if v % 2", "v % 2 -> v + 2", "max -> min",
    "without found.append(max(x, y))", "without x += 1", "-1 -> 1", "found[-1] << 1 -> found[-1] >> 1",
    "if not flag or x < y -> if not",
}  # fmt: skip


def test_every_place_is_changed_and_no_message_is() -> None:
    found = mutants(SOURCE)
    assert {one.change for one in found} <= CHANGES | {"1 -> 2"}
    assert {one.change for one in found} >= CHANGES - {"-1 -> 1"}
    assert not any("wrong" in one.text or "docstring" in one.text for one in found)
    assert len({one.key for one in found}) == len(found)
    original = compile(SOURCE, "f", "exec")
    assert all(one.code(SOURCE, "f") != original for one in found)


TOY = Module("tests.mutants.toy", ("tests/mutants/toy_tests.py",), 100)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "PATIENCE", 1)
        every = mutants((ROOT / TOY.file).read_text())
        log = tmp_path_factory.mktemp("log") / "log"
        runner.run(TOY, every, lambda one, result: found.update({f"{one.where}: {one.change}": result}), log)
    return found


def test_what_is_tested_is_killed(verdicts: dict[str, str]) -> None:
    killed = {"clamp: min -> max", "count: x > 0 -> x >= 0", "count: without steps += 1",
              "Box.double: self.x * 2 -> self.x + 2", "Box.double: 2 -> 3"}  # fmt: skip
    assert {verdicts[name] for name in killed} == {"killed"}


def test_a_table_is_changed_where_it_is_imported(verdicts: dict[str, str]) -> None:
    assert verdicts["module: 3 -> 4"] == "killed"


def test_a_loop_that_never_ends_is_killed_by_time(verdicts: dict[str, str]) -> None:
    assert verdicts["count: without x -= 1"] == "killed by time"


def test_what_no_test_runs_survives(verdicts: dict[str, str]) -> None:
    """The planted fault: tests that miss something."""
    survived = {name for name, verdict in verdicts.items() if verdict == "survived"}
    assert survived == {"module: 7 -> 8", "untested: x + 1 -> x - 1", "untested: 1 -> 2"}


def test_tests_that_fail_without_a_mutant_are_an_error(tmp_path: Path) -> None:
    bad = tmp_path / "test_bad.py"
    bad.write_text("import tests.mutants.toy\ndef test_it():\n    assert 0\n")
    with pytest.raises(RuntimeError, match="fail without a mutant"):
        runner.run(
            Module("tests.mutants.toy", (str(bad),), 1), [], lambda one, result: None, tmp_path / "log"
        )


def test_a_sample_is_that_of_its_seed() -> None:
    for module in MODULES:
        one, two = tool.sample(module, 1), tool.sample(module, 1)
        assert one == two and len(one) == min(module.count, len(mutants((ROOT / module.file).read_text())))
        assert tool.sample(module, 1, seed=18) != one or len(one) < module.count
    assert sum(module.count for module in MODULES) >= 200


def test_what_is_called_equivalent_is_a_mutant_with_a_reason() -> None:
    names = {module.name: module for module in MODULES}
    for name, reasons in tool.equivalent().items():
        keys = {one.key for one in mutants((ROOT / names[name].file).read_text())}
        assert set(reasons) <= keys, f"{name}: no such mutant: {set(reasons) - keys}"
        assert all(len(reason.split()) >= 4 for reason in reasons.values())


def test_results_are_kept_and_a_survivor_runs_again_after_its_tests_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tool.Results(TOY, tmp_path)
    results.add("a", "killed")
    results.add("b", "survived")
    assert tool.Results(TOY, tmp_path).known == {"a": "killed", "b": "survived"}
    file = tmp_path / "tests.mutants.toy.jsonl"
    rows = [json.loads(line) | {"tests": "other"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tool.Results(TOY, tmp_path).known == {"a": "killed"}
    file.write_text(re.sub('"source": "[0-9a-f]+"', '"source": "other"', file.read_text()))
    assert tool.Results(TOY, tmp_path).known == {}
