"""Loopback bitstreams: their plans, what is shipped, and the PLL's second output through place and route."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal

from ternac import manifest
from ternac.cli.main import main
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.build import loopback
from ternac.hdl.build.bitstream import shipped_figures
from ternac.hdl.build.loopback import loopback_plan
from ternac.hdl.build.plan import Plan, make_plan
from ternac.hdl.build.recipe import build
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.design import PhaseControl, loopback_board
from ternac.hdl.diagnostics.phase import PhaseStepper
from ternac.hdl.diagnostics.registers import LOOPBACK
from ternac.hdl.sdram.controller import SdramPins
from ternac.manifest import read_manifest
from tests.hdl.board_designs import Blank, Identified

SHIPPED = [target for target in BOARDS.values() if read_manifest(target.name, LOOPBACK.name)]


class Moving(Blank):
    """Steps the phase whenever a byte begins, and drives the SDRAM's pins with a counter."""

    def __init__(self, identity: bytes) -> None:
        super().__init__()
        self.sdram: Any = SdramPins.create()
        self.phase = PhaseControl(Signal(name="direction"), Signal(name="step"))

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.submodules.stepper = stepper = PhaseStepper()
        count = Signal(16, name="count")
        m.d.sync += count.eq(count + self.sdram.dq_i)
        m.d.comb += [
            stepper.start.eq(~self.rx), stepper.earlier.eq(count[0]),
            self.phase.direction.eq(stepper.direction), self.phase.step.eq(stepper.step),
            self.sdram.dq_o.eq(count), self.sdram.a.eq(count), self.sdram.cke.eq(1),
            self.busy.eq(stepper.busy),
        ]  # fmt: skip
        return m


def moving_plan(target: Board) -> Plan:
    return make_plan(target, target.clock_hz, LOOPBACK.hash, Moving)


def test_the_plan_moves_the_memorys_clock_and_nothing_else() -> None:
    """Only where the payload has a phase is there a second output, behind a gate like the first."""
    target = loopback_board(board("ulx3s-85f"))
    plan = moving_plan(target)
    assert plan.design.count('parameter \\DPHASE_SOURCE "ENABLED"') == 1
    assert plan.design.count('parameter \\CLKOS_ENABLE "ENABLED"') == 1
    assert plan.design.count("cell \\DCCA ") == 2
    plain = make_plan(target, target.clock_hz, bytes(8), lambda identity: Blank())  # type: ignore[arg-type]
    assert '"DISABLED"' in plain.design and "CLKOS" not in plain.design
    assert plain.design.count("cell \\DCCA ") == 1


@pytest.mark.slow
def test_the_moved_clock_is_placed_and_routed(tmp_path: Path) -> None:
    target = loopback_board(board("ulx3s-85f"))
    data = build(moving_plan(target), tmp_path, lambda text: None)
    assert data["fmax_mhz"] > data["clock_mhz"] == 60
    config = (Path(data["bitstream"]).parent / "routed.config").read_text()
    assert "enum: DPHASE_SOURCE ENABLED" in config
    assert "enum: CLKOS_ENABLE ENABLED" in config
    assert config.count(".MODE DCCA") == 2  # both clocks on global nets, behind a gate each


@pytest.mark.slow
@pytest.mark.parametrize("target", SHIPPED, ids=lambda target: target.name)
def test_the_shipped_loopback_is_that_of_the_rtl(target: Board) -> None:
    shipped = read_manifest(target.name, LOOPBACK.name)
    assert shipped is not None
    assert shipped["source"] == loopback_plan(target).source_hash
    assert shipped["fmax_mhz"] > shipped["clock_mhz"]
    assert shipped["dsp"] == shipped["multiplier_cells"] == 0


@pytest.mark.parametrize("target", SHIPPED, ids=lambda target: target.name)
def test_the_shipped_loopback_is_taken(target: Board) -> None:
    timed = loopback_board(target)
    figures = shipped_figures(timed, LOOPBACK)
    assert isinstance(figures, dict), figures
    assert figures["bitstream"].endswith(f"loopback/{target.name}{target.bitstream_suffix}")
    assert target.tech in (Technology.ECP5, Technology.ICE40)


def test_build_ships_the_loopback_beside_the_engine_and_then_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a blank design in its place; into bitstreams/, without figures of an engine."""

    def blank(target: Board) -> Plan:
        timed = loopback_board(target)
        return make_plan(timed, timed.clock_hz, LOOPBACK.hash, Identified)

    monkeypatch.setattr(loopback, "loopback_plan", blank)
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "BITSTREAMS", tmp_path / "bitstreams")
    words = ["build", "--board", "icebreaker", "--loopback", "--json"]
    made = []
    for out in ("one.bin", "other.bin"):
        assert main([*words, "--out", str(tmp_path / out)]) == 0
        made.append(json.loads(capsys.readouterr().out))
    first, second = made
    where = tmp_path / "bitstreams" / "icebreaker" / "loopback"
    assert {path.name for path in where.iterdir()} == {"icebreaker.bin", "manifest.json", "report.json"}
    shipped = json.loads((where / "manifest.json").read_text())
    assert shipped["command"] == "ternac build --board icebreaker --loopback --force"
    assert (first["geometry"], second["origin"]) == ("loopback", "shipped bitstream")
    assert first["sha256"] == second["sha256"] == shipped["sha256"] and "memories" not in shipped
    assert (tmp_path / "one.bin").read_bytes() == (where / "icebreaker.bin").read_bytes()
