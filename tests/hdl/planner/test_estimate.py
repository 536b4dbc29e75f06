"""The estimate verb: figures that follow from each other, and refusals with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac import manifest
from ternac.cli import main as cli
from ternac.compile.geometry import PRESETS, preset
from ternac.hdl.boards.boards import BOARDS
from ternac.program.file import save
from ternac.program.random import random_program
from ternac.program.zoo import open_program


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
    energy = data["energy"]
    assert energy["joules_per_token"] == pytest.approx(2.5 / data["tokens_per_second"])
    assert energy["origin"].startswith("estimate, an upper bound") and data["cycles_are"] == "exact"
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


@pytest.mark.parametrize("board", ["ulx3s-85f", "icebreaker"])
def test_area_comes_from_the_geometry_and_the_shipped_build_stands_beside_it(
    board: str,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without any shipped build the same figures; with one of the same geometry, and only then, its own."""
    monkeypatch.setattr(manifest, "BITSTREAMS", tmp_path / "bitstreams")
    _, bare = run([model, "--board", board], capsys)
    assert bare["shipped"] is None
    assert bare["resources"]["fits"]
    assert bare["comb"] == sum(bare["resources"]["comb_by_group"].values())
    assert bare["bram"] == sum(bare["resources"]["bram_by_memory"].values())
    assert bare["resources"]["origin"].startswith("estimate")

    geometry = BOARDS[board].engine
    folder = tmp_path / "bitstreams" / board / geometry.name
    folder.mkdir(parents=True)
    figures = {"comb": 1, "ff": 2, "bram": 3, "dsp": 0, "clock_mhz": 10.0, "fmax_mhz": 11.0}
    for name, expected in ((geometry.hash.hex(), {**figures}), ("00" * 8, None)):
        (folder / "manifest.json").write_text(json.dumps({**figures, "geometry_hash": name}))
        _, data = run([model, "--board", board], capsys)
        assert [data[key] for key in ("comb", "ff", "bram")] == [bare[key] for key in ("comb", "ff", "bram")]
        found = data["shipped"]
        assert (found and {key: found[key] for key in figures}) == expected
        if found:
            assert "place and route" in found["origin"]


def test_other_geometries_are_estimated_too(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, tiny = run([model, "--board", "ulx3s-85f", "--geometry", "tiny"], capsys)
    _, data = run([model, "--board", "ulx3s-85f"], capsys)
    lanes = preset("ulx3s-85f").macs - preset("tiny").macs
    assert tiny["geometry"] == "tiny"
    assert data["comb"] - tiny["comb"] > 13 * lanes
    assert "assumed" in tiny["origin"]


def test_streamed_weights_give_a_bound_and_the_shipped_builds_area(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "ulx3s-85f-sdram"
    status, data = run([model, "--board", "ulx3s-85f", "--geometry", name], capsys)
    assert status == 0 and data["cycles_are"] == "a lower bound"
    assert data["cycles_per_token"] >= data["bytes_per_token"] / 2 >= open_program(model).trits / 10
    assert data["energy"]["joules_per_token"] is None
    shipped = manifest.read_manifest("ulx3s-85f", name)
    assert shipped is not None
    assert [data[key] for key in ("comb", "clock_mhz")] == [shipped[key] for key in ("comb", "clock_mhz")]


def test_engine_larger_than_the_chip_is_said_to_be(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "deep", replace(preset("ulx3s-85f"), name="deep", embed_depth=16384))
    status, data = run([model, "--board", "ulx3s-85f", "--geometry", "deep"], capsys)
    assert status == 0
    assert not data["resources"]["fits"]
    assert data["resources"]["too_small"] == [f"{data['bram']} bram of 208"]


def test_memories_that_a_chip_cannot_form_are_refused(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run([model, "--board", "ulx3s-85f", "--geometry", "icebreaker"], capsys)
    assert status == 2
    assert data["error"]["type"] == "DoesNotFit"
    assert "single-port RAM, which ecp5 does not have" in data["error"]["message"]
