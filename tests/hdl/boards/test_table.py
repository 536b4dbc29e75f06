"""The table of boards: what an entry says is so, and all that follows from it does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ternac.errors import ToolMissing, UsageError
from ternac.hdl.boards.board import Board, Led
from ternac.hdl.boards.boards import BOARDS, CHIPS, VARIANTS, board, find_board
from ternac.hdl.build.bitstream import engine_plan
from ternac.hdl.build.flash import command
from ternac.hdl.build.plan import make_plan
from ternac.hdl.planner.area import area
from ternac.manifest import BITSTREAMS
from tests.hdl.board_designs import Identified

NAMES = list(BOARDS)
PAGE = Path(__file__).parents[3] / "docs/bitstreams.md"


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_a_board_with_pins_for_clock_serial_line_and_lamps(name: str) -> None:
    target = board(name)
    assert target.name == name and target.title and target.serial and target.verified
    assert "never run on the board" in target.verified  # until somebody has
    plan = make_plan(target, target.clock_hz, target.engine.hash, Identified)
    for word in (target.clock_pin, "uart_0__rx", "uart_0__tx", *(led.resource for led in target.leds)):
        assert word in plan.constraints, word
    assert f"{target.clock_pin}_0__io" in plan.design
    options = " ".join(plan.place_and_route)
    assert target.package in options and target.speed in options and f"--seed {target.seed}" in options


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_of_a_board_fits_its_chip(name: str) -> None:
    target = board(name)
    assert area(target.engine, target).excess(target.resources) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loader_is_told_of_the_board_or_the_owner_how_to_do_without(name: str) -> None:
    target, file = board(name), Path("x")
    if target.loader:
        assert target.loader[0] in ("--board", "--cable")
        assert command(target, file, permanent=False)[1 : 1 + len(target.loader)] == list(target.loader)
    else:
        with pytest.raises(ToolMissing, match="does not know") as caught:
            command(target, file, permanent=False)
        assert caught.value.hint == target.notes != ""


def test_names_are_one_for_one_and_unknown_ones_get_the_nearest() -> None:
    assert all(name == target.name for name, target in BOARDS.items())
    assert {target.chip.name for target in BOARDS.values()} == set(CHIPS)
    assert find_board("nothing") is None
    assert find_board("ulx3s-85f-sdram") is VARIANTS["ulx3s-85f-sdram"]
    with pytest.raises(UsageError, match="no board is called 'ulx3s-84f'") as caught:
        board("ulx3s-84f")
    assert caught.value.hint.startswith("choose one of: ulx3s-8")
    assert all(name in caught.value.hint for name in BOARDS)


def test_the_table_is_known_without_amaranth() -> None:
    code = "import sys; import ternac.hdl.boards.boards; print('amaranth' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "Mine"}, "board 'Mine': this is no name"),
        ({"name": 3}, "name is 3"),
        ({"clock_hz": 61_300_000}, "no ECP5 PLL setting makes 61.3 MHz from 25 MHz"),
        ({"clock_hz": 60.0}, "clock_hz is 60.0"),
        ({"target_hz": 70_000_000}, "target_hz 70000000 is below clock_hz 75000000"),
        ({"baud": 20_000_000}, "baud is 20000000"),
        ({"baud": 100}, "baud is 100"),
        ({"clock_hz": 25, "target_hz": 25}, "clock_hz is 25"),
        ({"crystal_hz": True}, "crystal_hz is True"),
        ({"engine": "ulx3s-85f"}, "engine is 'ulx3s-85f'"),
        ({"chip": "ecp5"}, "chip is 'ecp5'"),
        ({"leds": (Led(),) * 4}, "4 leds"),
        ({"flash_offset": 1 << 20}, "flash_offset is 1048576"),
        ({"make_platform": None}, "make_platform is not callable"),
        ({"baud": 12_000_000, "clock_hz": 25_000_000}, "cannot carry 12000000 baud"),
    ],
)
def test_contradictions_in_a_declaration_are_named(changes: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        replace(board("ulx3s-85f"), **changes)


def plan_of(target: Board) -> str:
    return engine_plan(target, target.engine, target.clock_hz).design


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_board_s_design_elaborates(name: str) -> None:
    assert "rPLL" in plan_of(board(name)) or board(name).family != "gowin"


def test_the_page_has_the_figures_of_every_shipped_bitstream() -> None:
    page = PAGE.read_text()
    manifests = sorted(BITSTREAMS.glob("*/*/manifest.json"))
    assert len(manifests) > 10
    for path in manifests:
        figures = json.loads(path.read_text())
        for figure in (f"{figures['comb']:,}", f"{figures['fmax_mhz']:g}", f"{figures['clock_mhz']:g}"):
            assert figure in page, f"{path}: {figure}"
