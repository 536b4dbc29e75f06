"""KAN: what is trained is what the program computes, and the shipped models reach their bars."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.model.memory.kan import (
    CODES,
    LAG,
    LAGS,
    PIXELS,
    SPAN,
    TRAINING_IMAGES,
    images,
    series,
    series_case,
    to_codes,
    to_values,
)
from ternac.model.memory.kan_model import Digits, Series, lag_windows, spline_basis
from ternac.model.memory.system import Case, open_system, run_cases, silent
from ternac.run.numpy_executor import NumpyExecutor

META = {"system": "kan"}


def untrained(kind: type[torch.nn.Module]) -> torch.nn.Module:
    """A model whose rows and sums reach both ends of their range."""
    torch.manual_seed(5)
    model = kind()
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.coefficients.mul_(60.0 / layer.coefficients.std())
    return model.eval()


def test_digits_are_what_their_program_computes_image_after_image() -> None:
    model = untrained(Digits)
    pixels = np.random.default_rng(1).integers(0, 16, (3, 4, PIXELS))
    cases = [
        Case(each.reshape(-1), np.arange(1, 5) * PIXELS - 1, np.zeros(4, np.int64), ["x"] * 4)
        for each in pixels
    ]
    found = run_cases(NumpyExecutor(model.to_program(META)), cases, silent)
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels).float()).numpy()
        nodes = model.first(torch.from_numpy(pixels).float()) * 2.0**-model.shift
    assert nodes.max() > 8 and nodes.min() < -9  # codes that saturate
    assert np.array_equal(np.stack([each.logits for each in found]), expected)


def test_the_series_is_what_its_program_computes() -> None:
    model = untrained(Series)
    tokens = np.random.default_rng(2).integers(0, CODES, 80)
    asked = np.arange(SPAN - 1, 80)
    case = Case(tokens, asked, np.zeros(len(asked), np.int64), ["x"] * len(asked))
    (found,) = run_cases(NumpyExecutor(model.to_program(META)), [case], silent)
    assert np.array_equal(found.chosen, model.answer(lag_windows(tokens, asked)))
    assert len(set(found.chosen.tolist())) > 20


def test_lags_are_the_newest_value_and_those_before() -> None:
    codes = np.arange(40)
    assert lag_windows(codes, np.array([20]))[0].tolist() == [20 - LAG * i - CODES // 2 for i in range(LAGS)]


def test_splines_sum_to_one_and_are_smooth() -> None:
    basis = spline_basis(64, 5)
    assert basis.shape == (64, 8) and (basis >= 0).all()
    assert torch.allclose(basis.sum(1), torch.ones(64), atol=1e-6)
    assert (basis.diff(dim=0).abs() < 0.1).all()


def test_codes_stand_for_values_within_half_a_step() -> None:
    values = series()
    codes = to_codes(values)
    assert codes.min() > 0 and codes.max() < CODES - 1  # nothing is cut off
    assert np.abs(to_values(codes) - values).max() <= 0.96 / CODES / 2 + 1e-9


def test_training_and_test_images_are_different_ones() -> None:
    pixels, labels = images()
    assert pixels.shape == (1797, PIXELS) and np.bincount(labels).min() > 170
    known = {each.tobytes() for each in pixels[:TRAINING_IMAGES]}
    assert not any(each.tobytes() in known for each in pixels[TRAINING_IMAGES:])


def test_kan_reaches_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["memory", "bench", "kan", "--executors", "numpy,native", "--json"])
    data = json.loads(capsys.readouterr().out)
    assert status == 0 and data["met"] and data["mismatches"] == 0
    assert sum("bar" in figure for figure in data["runs"][0]["figures"]) == 6


def test_an_output_that_the_training_forward_did_not_have_is_found() -> None:
    system = open_system("kan")
    programs = {part: system.shipped(part) for part in system.parts}
    found = {
        part: run_cases(NumpyExecutor(program), system.cases(part, program), silent)
        for part, program in programs.items()
    }
    changed = found["digits"][3].logits.copy()
    changed[0, 0] += 1
    found["digits"][3] = replace(found["digits"][3], logits=changed)
    equal = [each.value for each in system.figures(programs, found) if "training forward" in each.name]
    assert equal == [0.0, 1.0]


def test_the_series_is_asked_where_all_lags_are_known() -> None:
    case = series_case()
    assert case.asked[0] == SPAN - 1 and len(case.answers) == len(case.asked) > 1700
