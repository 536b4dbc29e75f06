"""What a program costs, counted before it is paid: legal files that cost too much are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ternac import limits
from ternac.cli import main as cli
from ternac.errors import OverBudget
from ternac.program.cost import ELEMENT_WORK, OP_WORK, cost_of
from ternac.program.file import dumps, load, loads, save
from ternac.program.legality import infer
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.zoo import names, resolve
from ternac.run.numpy_executor import NumpyExecutor
from tests.program import costly

BOMBS: dict[str, tuple[Callable[[], Program], str]] = {
    "3 s and 1.5 GB a token": (lambda: costly.chain(6000, 65535), "operations a token"),
    "5.1 GB to open": (lambda: costly.shared(75, 4096), "bytes of memory"),
    "65 thousand ops in a row": (lambda: costly.chain(65000, 16), "ops a token"),
    "a check of minutes": (lambda: costly.rows(200), "bytes to look through"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_legal_file_that_costs_too_much_is_refused_with_both_numbers(case: str, tmp_path: Path) -> None:
    make, resource = BOMBS[case]
    program = make()
    path = tmp_path / "bomb.safetensors"
    path.write_bytes(program.encode(program.file_hash))
    with pytest.raises(OverBudget, match=f"{path}: program bomb needs .* {resource}, the limit is") as found:
        load(path)
    assert found.value.resource == resource
    assert found.value.needed > found.value.limit
    assert f"{found.value.needed:,}" in str(found.value)
    assert "--budget" in found.value.hint


def test_the_budget_that_the_hint_names_lets_the_file_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bomb.safetensors"
    save(costly.shared(6, 4096), path)  # 400 MB, which any machine has
    assert cli.main(["inspect", str(path)]) == 2
    said = capsys.readouterr().err
    factor = said.partition("--budget ")[2].partition(",")[0]
    assert int(factor) > 1
    assert cli.main(["inspect", str(path), "--budget", factor]) == 0
    assert cli.main(["inspect", str(path), "--budget", "0.5"]) == 2
    assert cli.main(["inspect", str(path)]) == 2  # it was raised for one command
    with limits.raised(int(factor)):
        assert load(path).name == "bomb"


def test_the_count_is_that_of_the_definition() -> None:
    program = costly.chain(3, 10)
    cost = cost_of(program, infer(program))
    elements = 10 + 3 * 30 + 20 + 4  # the row, the sums, both requantizations
    assert cost.steps == 7
    assert cost.work == 7 * OP_WORK + ELEMENT_WORK * elements + 20


def test_memory_is_at_least_what_numpy_holds() -> None:
    program = costly.shared(4, 1024)
    values: dict[str, np.ndarray] = {}
    executor = NumpyExecutor(program)
    executor.step(executor.open(), [0], values)
    held = sum(array.nbytes for array in values.values()) + 4 * 4 * 1024 * 1024
    assert cost_of(program, infer(program)).memory >= held


@pytest.mark.parametrize("name", names())
def test_shipped_models_need_a_twentieth_of_what_they_may(name: str) -> None:
    path = resolve(name)
    program, size = load(path), path.stat().st_size
    cost = cost_of(program, infer(program))
    assert 20 * cost.steps <= limits.STEPS.limit(size)
    assert 20 * cost.work <= limits.WORK.limit(size)
    assert 20 * cost.memory <= limits.MEMORY.limit(size)


def test_models_of_any_size_stay_within_the_budget_of_their_file() -> None:
    """What grows with the weights grows no faster than the budget does: half of it at most is used."""
    wide = random_mmfree(np.random.default_rng(1), d=512, m=1024, layers=4, vocab=4096)
    for program in (wide, random_program(np.random.default_rng(1))):
        size = len(dumps(program))
        small, cost = random_mmfree(np.random.default_rng(1)), cost_of(program, infer(program))
        less = cost_of(small, infer(small))
        assert cost.memory - less.memory <= limits.MEMORY.per_byte * size
        assert cost.work - less.work <= limits.WORK.per_byte * size


def test_a_file_of_the_most_ops_is_read_in_seconds() -> None:
    data = dumps(costly.chain(limits.STEPS.limit() - 4, 16))
    began = time.process_time()
    assert len(loads(data).ops) == limits.STEPS.limit()
    assert time.process_time() - began < 60  # 4 s on an idle machine
