"""The SDRAM engine as a board's second bitstream: pins, refusals, its place beside the usual one."""

from __future__ import annotations

import pytest

from ternac.cli import main
from ternac.errors import UsageError
from ternac.geometry import preset
from ternac.hdl.boards import BOARDS, VARIANTS, board, with_geometry
from ternac.hdl.product import engine_plan, produce
from ternac.manifest import read_manifest
from ternac.sim.benches import run_engine
from tests.host.boards import small_program

NAME = "ulx3s-85f-sdram"


def test_variants_are_engines_of_boards():
    assert with_geometry(board("ulx3s-85f"), None) is BOARDS["ulx3s-85f"]
    assert with_geometry(board("ulx3s-85f"), "ulx3s-85f") is BOARDS["ulx3s-85f"]
    variant = with_geometry(board("ulx3s-85f"), NAME)
    assert (variant.name, variant.geometry) == ("ulx3s-85f", NAME)
    with pytest.raises(UsageError, match="icebreaker has no engine 'ulx3s-85f-sdram'"):
        with_geometry(board("icebreaker"), NAME)


def test_the_plan_has_the_memorys_pins_and_is_the_shipped_one():
    target = VARIANTS[NAME]
    plan = engine_plan(target, preset(NAME), target.clock_hz)
    pins = [line for line in plan.constraints.splitlines() if line.startswith("LOCATE") and "sdram" in line]
    assert len(pins) == 39
    assert 'LOCATE COMP "sdram_0__clk__io" SITE "F19";' in pins
    assert plan.design.count("OFS1P3DX") >= 37
    manifest = read_manifest(target.name, NAME)
    assert manifest is not None
    assert manifest["source"] == plan.source_hash
    assert manifest["clock_mhz"] * 1e6 == target.clock_hz < manifest["fmax_mhz"] * 1e6


def test_refusals(capsys, tmp_path):
    with pytest.raises(UsageError, match="no bitstream can hold"):
        produce("ulx3s-85f", lambda text: None, model="shakespeare", engine=NAME)
    with pytest.raises(UsageError, match="no memory for"):
        run_engine(small_program(), preset(NAME))
    assert main(["integrate", "--geometry", NAME, "--out", str(tmp_path)]) == 2
    assert main(["bench", "hdl", "--geometry", NAME]) == 2
    assert "ternac bench sdram" in capsys.readouterr().err
