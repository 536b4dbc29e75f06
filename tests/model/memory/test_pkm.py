"""Constant rows at product keys: models and their programs, and the shipped ones at equal bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.model.memory import pkm
from ternac.model.memory.pkm_model import VOCAB, make_model
from ternac.model.memory.system import Case, Found, open_system
from ternac.run.numpy_executor import NumpyExecutor


@pytest.mark.parametrize("part", [pkm.PLAIN, pkm.ROWS])
def test_a_model_computes_what_its_program_does(part: str) -> None:
    torch.manual_seed(7)
    model = make_model(part).eval()
    executor = NumpyExecutor(model.to_program("pkm", {}))
    tokens = np.random.default_rng(1).integers(0, VOCAB, (40, 3))
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:17]))
        second, _ = model(torch.from_numpy(tokens[17:]), states)
    state = executor.open(3)
    expected = np.stack([executor.step(state, row) for row in tokens])
    assert np.array_equal(torch.cat((first, second)).numpy(), expected)


def test_the_model_with_rows_has_no_more_bytes_and_nearly_as_many() -> None:
    plain, rows = (
        pkm.program_bytes(make_model(part).to_program("pkm", {})) for part in (pkm.PLAIN, pkm.ROWS)
    )
    assert 0.99 * plain <= rows <= plain


def test_every_constant_counts_trits_at_five_a_byte() -> None:
    program = make_model(pkm.ROWS).to_program("pkm", {})
    roles = program.roles()
    table = next(name for name, role in roles.items() if role == "rows")
    more = replace(program, consts=program.consts | {table: np.zeros((256, 32), np.int8)})
    assert pkm.program_bytes(more) - pkm.program_bytes(program) == (256 - len(program.consts[table])) * 32
    trits = sum(program.consts[name].size for name, role in roles.items() if role == "trits")
    others = sum(each.nbytes for name, each in program.consts.items() if roles[name] != "trits")
    assert program.trits == trits and pkm.program_bytes(program) == pytest.approx(others + trits / 5)


def test_the_loss_is_that_of_a_softmax_of_the_logits() -> None:
    rng = np.random.default_rng(2)
    logits = rng.integers(-2000, 2000, (5, 9)).astype(np.int32)
    case = Case(np.arange(5), np.arange(5), rng.integers(0, 9, 5), ["text"] * 5)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits / 256.0), torch.from_numpy(case.answers)
    )
    assert pkm.nats([Found(case, logits, "")], 8) == pytest.approx(float(expected))


def test_the_cases_are_the_validation_text_and_nothing_trained_on() -> None:
    system = open_system("pkm")
    cases = system.cases(pkm.PLAIN, system.shipped(pkm.PLAIN))
    train, validation = pkm.texts()
    fed = np.concatenate([case.tokens for case in cases])
    assert np.array_equal(fed, validation[: len(fed)]) and len(validation) - len(fed) <= len(cases)
    assert len(train) + len(validation) == 1_115_394
    assert all(np.array_equal(case.tokens[1:], case.answers[:-1]) for case in cases)


def test_the_shipped_models_reach_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "bench", "pkm", "--executors", "native", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    figures = {figure["name"]: figure for figure in run["figures"]}
    assert figures["nats of rows beyond plain"]["bar"] == {"at most": 0.0}
    assert figures["bytes of rows beyond plain"]["met"]
