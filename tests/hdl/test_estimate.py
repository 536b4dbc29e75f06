"""The estimate verb: figures that follow from each other, and refusals with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac import cli
from ternac.program import save
from ternac.random_program import random_program


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = cli.main(["estimate", *args, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def model(tmp_path: Path) -> str:
    program = random_program(np.random.default_rng(1), 24, 48, 2, 256)
    path = tmp_path / "small.safetensors"
    save(replace(program, meta={"tokenizer": "bytes"}), path)
    return str(path)


@pytest.mark.parametrize("board", ["ulx3s-85f", "icebreaker"])
def test_figures_follow_from_each_other(board: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run([model, "--board", board], capsys)
    assert status == 0
    assert data["tokens_per_second"] == pytest.approx(data["clock_mhz"] * 1e6 / data["cycles_per_token"])
    rows = data["cycles_by_op"]
    assert sum(r["dot_words"] for r in rows) == pytest.approx(
        data["dot_unit_busy"] * data["cycles_per_token"]
    )
    assert 0 < data["cycles_per_token"] - sum(r["cycles"] for r in rows) < 64  # the first fetch, and sampling
    assert all(0 < m["used"] <= m["depth"] for m in data["memory"].values())
    assert data["energy"]["joules_per_token"] is None
    assert "schedule" in data["origin"]


def test_model_too_large_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.safetensors"
    save(random_program(np.random.default_rng(2), 192, 384, 3, 256), path)
    status, data = run([str(path), "--board", "icebreaker"], capsys)
    assert status == 2
    assert data["error"]["type"] == "DoesNotFit"
    assert "icebreaker has" in data["error"]["message"]
