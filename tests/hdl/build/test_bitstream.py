"""``ternac build``: what is built, what is taken as shipped, what a model changes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac import cache, manifest
from ternac.cli.main import main
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, preset
from ternac.compile.loading import flash_image
from ternac.errors import BuildFailed, DoesNotFit, UsageError
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, VARIANTS, board
from ternac.hdl.build import bitstream as product
from ternac.hdl.build import recipe
from ternac.hdl.build.plan import Plan, make_plan
from ternac.hdl.build.steps import sha256_of
from ternac.hdl.build.wide import WIDE_BOARDS, wide_board
from ternac.hdl.diagnostics.registers import LOOPBACK
from ternac.hdl.link.spiflash import FlashBoot
from ternac.program.file import save
from ternac.program.random import random_program
from tests.hdl.board_designs import Blank, Identified

KEYS = {
    "bitstream", "sha256", "clock_mhz", "fmax_mhz", "comb", "ff", "bram", "dsp", "multiplier_cells",
    "seconds",
}  # fmt: skip
SAME = KEYS - {"bitstream"}


def blank(target: Board, geometry: Geometry, clock_hz: int) -> Plan:
    return make_plan(target, clock_hz, geometry.hash, Identified)


@pytest.fixture(scope="module")
def build_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture
def workplace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, build_root: Path) -> Path:
    """Blank designs instead of engines, and folders of their own."""
    monkeypatch.setattr(product, "engine_plan", blank)
    monkeypatch.setenv("TERNAC_CACHE", str(build_root))
    monkeypatch.setattr(manifest, "BITSTREAMS", tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["build", "--board", "icebreaker", "--json", *arguments]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def test_build_ships_and_is_then_taken(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys)
    assert set(first) >= KEYS
    where = workplace / "icebreaker" / "icebreaker"
    assert {path.name for path in where.iterdir()} == {"icebreaker.bin", "manifest.json", "report.json"}
    text = (where / "manifest.json").read_text()
    shipped = json.loads(text)
    assert set(shipped) >= KEYS and str(workplace) not in text and "/" not in shipped["bitstream"]
    assert all(shipped[key] == first[key] for key in SAME)
    assert sha256_of(where / shipped["bitstream"]) == shipped["sha256"]

    second = run(capsys)
    assert second["origin"].startswith("shipped") and second["steps_run"] == []
    assert {key: second[key] for key in SAME} == {key: shipped[key] for key in SAME}
    forced = run(capsys, "--force")
    assert forced["steps_run"] and forced["sha256"] == first["sha256"]
    assert (where / "manifest.json").read_text() == text  # nothing changed, nothing written

    # damaged in the repository: not taken, made again
    (where / "icebreaker.bin").write_bytes(b"x")
    assert run(capsys)["sha256"] == first["sha256"]


def test_other_clocks_are_not_shipped(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = run(capsys, "--clock", "12")
    assert built["clock_mhz"] == 12 and Path(built["bitstream"]).is_relative_to(cache.root() / "bitstreams")
    assert list(workplace.iterdir()) == []


def test_out_is_a_copy(workplace: Path, capsys: pytest.CaptureFixture[str], tmp_path_factory) -> None:
    out = tmp_path_factory.mktemp("mine") / "top.bin"
    built = run(capsys, "--clock", "12", "--out", str(out))
    assert built["bitstream"] == str(out) and sha256_of(out) == built["sha256"]


def test_an_installed_package_is_left_as_it_is(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "in_checkout", lambda: False)
    assert run(capsys)["fmax_mhz"]
    assert list(workplace.iterdir()) == []


def test_model_goes_behind_the_bitstream(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = random_program(np.random.default_rng(3), 12, 24, 1, 32)
    model = tmp_path / "model.safetensors"
    save(program, model)
    base = run(capsys)
    # the shipped bitstream is patched as it is: whatever Python or tool is here, nothing is elaborated
    monkeypatch.setattr(product, "engine_plan", None)
    data = run(capsys, str(model))
    assert data["program_hash"] == program.hash
    assert data["base_sha256"] == base["sha256"] != data["sha256"]
    assert data["steps_run"] == []
    written = Path(data["bitstream"]).read_bytes()
    target = board("icebreaker")
    offset = target.flash_offset
    assert offset is not None
    assert written.startswith(Path(base["bitstream"]).read_bytes())
    image = compile_program(program, target.engine)
    assert written[offset:] == flash_image(image)
    played = FlashBoot.model(written, offset)
    assert flash_image(image).startswith(played) and len(played) > 100


def test_a_shipped_bitstream_that_does_not_fit_is_built_anew_and_why_is_said(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, geometry = board("icebreaker"), preset("icebreaker")
    run(capsys)
    file = workplace / "icebreaker" / "icebreaker" / "manifest.json"
    good = json.loads(file.read_text())
    assert isinstance(product.shipped_figures(target, geometry), dict)
    for key, value, why in (
        ("board", "ulx3s-85f", "has board ulx3s-85f, not icebreaker"),
        ("geometry_hash", "00" * 8, f"has geometry_hash {'00' * 8}, not {geometry.hash.hex()}"),
        ("clock_mhz", 12.0, "has clock_mhz 12.0, not 30.0"),
        ("sha256", "00" * 32, "is damaged: its SHA-256 is not that of its manifest"),
        ("bitstream", "gone.bin", "gone.bin is missing"),
    ):
        file.write_text(json.dumps({**good, key: value}))
        assert why in str(product.shipped_figures(target, geometry))
    file.write_text(json.dumps({key: value for key, value in good.items() if key != "bitstream_id"}))
    assert "the shipped manifest lacks bitstream_id" in str(product.shipped_figures(target, geometry))
    file.write_text("{")
    assert "is not JSON" in str(product.shipped_figures(target, geometry))
    assert main(["build", "--board", "icebreaker"]) == 0
    out = capsys.readouterr().out
    assert "is not JSON" in out.splitlines()[0] and "elaborating icebreaker at 30 MHz" in out.splitlines()[0]


def test_place_and_route_is_announced_with_reason_and_time(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def stop(*_: object, say: Any = None) -> None:
        raise BuildFailed("stopped")

    monkeypatch.setattr(recipe, "run_step", stop)
    with pytest.raises(BuildFailed, match="stopped"):
        product.bitstream_for("icebreaker", said.append, force=True)
    assert said[0].startswith("--force is given: elaborating icebreaker")
    assert said[-1].startswith("placing and routing icebreaker for icebreaker now: minutes on a small chip")
    where = workplace / "icebreaker" / "icebreaker"
    where.mkdir(parents=True)
    (where / "manifest.json").write_text('{"seconds": 128.6}')
    assert product.rough_time(board("icebreaker")) == "about 2 minutes, as the shipped icebreaker took"


def test_any_geometry_that_fits_the_chip_is_built_and_not_shipped(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = replace(preset("icebreaker"), name="2x10-own", lanes=10, chain=1)
    built = run(capsys, "--geometry", json.dumps(asdict(own)))
    assert (built["geometry"], built["geometry_hash"]) == ("2x10-own", own.hash.hex())
    assert list(workplace.iterdir()) == []
    large = replace(own, name="large", program_depth=4096)
    with pytest.raises(DoesNotFit, match=r"large would take \d+ bram"):
        product.bitstream_for("icebreaker", lambda _: None, geometry=large)
    with pytest.raises(UsageError, match="icebreaker has no engine 'ulx3s-85f-sdram'"):
        product.bitstream_for("icebreaker", lambda _: None, geometry=preset("ulx3s-85f-sdram"))


SHIPPED = [
    target
    for target in (*BOARDS.values(), *VARIANTS.values())
    if manifest.folder(target.name, target.geometry).is_dir()
]
QUICK = ("ice40",)
"""Families whose designs elaborate in seconds."""


def test_what_is_shipped_is_of_a_board_in_the_table() -> None:
    folders = {
        path.parent.relative_to(manifest.BITSTREAMS) for path in manifest.BITSTREAMS.glob("*/*/manifest.json")
    }
    engines = {path for path in folders if path.name != LOOPBACK.name}
    whole = {Path(name, wide_board(name)[1].name) for name in WIDE_BOARDS}
    assert engines == whole | {Path(target.name, target.geometry) for target in SHIPPED}
    assert {path.parent.name for path in folders} <= set(BOARDS)
    assert {"ulx3s-85f", "icebreaker"} < {target.name for target in SHIPPED}


@pytest.mark.parametrize("target", SHIPPED, ids=lambda target: f"{target.name}-{target.geometry}")
def test_every_shipped_bitstream_is_taken_without_elaborating(
    target: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "engine_plan", None)
    figures = product.bitstream_for(target.name, lambda _: None, geometry=target.engine)
    assert figures["origin"] == "shipped bitstream" and figures["steps_run"] == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(target, marks=[] if target.family in QUICK else pytest.mark.slow)
        for target in SHIPPED
        if not target.engine.streams
    ],
    ids=lambda target: target.name,
)
def test_the_shipped_bitstream_is_that_of_today_s_design(target: Board) -> None:
    """`build` does not look, so this must; on every Python."""
    shipped = manifest.read_manifest(target.name, target.geometry)
    plan = product.engine_plan(target, target.engine, target.clock_hz)
    assert shipped is not None and shipped["source"] == plan.source_hash


def test_model_that_does_not_fit(workplace: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    save(random_program(np.random.default_rng(3), 192, 384, 3, 256), model)
    with pytest.raises(DoesNotFit):
        product.bitstream_for("icebreaker", lambda _: None, model=str(model))


def test_a_design_without_its_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "EngineDesign", lambda *_: Blank())
    target = board("icebreaker")
    with pytest.raises(BuildFailed, match="does not report the bitstream ID"):
        product.engine_plan(target, target.engine, target.clock_hz)
