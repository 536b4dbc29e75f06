"""The SDRAM engine as a board's second bitstream: pins, refusals, its place beside the usual one."""

from __future__ import annotations

import pytest

from ternac.cli.main import main
from ternac.compile.geometry import preset
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, VARIANTS, board, with_geometry
from ternac.hdl.build.bitstream import bitstream_for, engine_plan
from ternac.hdl.sdram.floorplan import NEAR_ROW, place_sdram_engine
from ternac.manifest import read_manifest
from ternac.sim.cocotb.benches import run_engine
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
        bitstream_for("ulx3s-85f", lambda text: None, model="shakespeare", geometry=preset(NAME))
    with pytest.raises(UsageError, match="no memory for"):
        run_engine(small_program(), preset(NAME))
    assert main(["emit", "--geometry", NAME, "--out", str(tmp_path)]) == 2
    assert main(["bench", "hdl", "--geometry", NAME]) == 2
    assert "ternac bench sdram" in capsys.readouterr().err


def test_floor_plan():
    """A site of its own for every block RAM, the embedding's far away; other designs are left alone."""
    names = [f"core.columns.embed_{c}.bank_{b}.bram_EMBED_{c}_{i}" for c in range(4) for b in range(4)
             for i in range(8)]  # fmt: skip
    names += [
        f"core.columns.bank_{c}_{p}.bram_BANK_{c}_{4 * i}" for c in range(4) for p in (0, 1) for i in range(4)
    ]
    names += ["core.store.reads.storage.0.0", "x.link.frame.ram.0.0"]
    names += ["core.sequencer.fetch.program_0.bram_PROGRAM_0_0"]
    design = {"modules": {"top": {"cells": {name: {"type": "DP16KD"} for name in names}}}}
    cells = design["modules"]["top"]["cells"]
    assert place_sdram_engine(design) == len(names) == 163
    bels = {name: cell["attributes"]["BEL"] for name, cell in cells.items()}
    assert len(set(bels.values())) == len(names)
    assert all((f"/Y{NEAR_ROW}/" in bel) != ("EMBED" in name) for name, bel in bels.items())
    other = {"modules": {"top": {"cells": {"a.link.frame.ram.0.0": {"type": "DP16KD"}}}}}
    assert place_sdram_engine(other) == 0
    assert other == {"modules": {"top": {"cells": {"a.link.frame.ram.0.0": {"type": "DP16KD"}}}}}
