"""A board from outside the package: the file of docs/add_your_board.md, and files that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ternac import manifest
from ternac.cli.main import main
from ternac.errors import DoesNotFit, UsageError
from ternac.hdl.boards.boards import board
from ternac.hdl.build.bitstream import bitstream_for, engine_plan

PAGE = Path(__file__).parents[3] / "docs" / "add_your_board.md"
SMALL = (('preset("ecp5-25f")', 'preset("tiny")'), ("target_hz=75_000_000", "target_hz=60_000_000"))
"""What makes the page's board quick to build: a small engine and no aim beyond its clock."""


def declaration(*changes: tuple[str, str]) -> str:
    """Return the file that the page shows, with some of its text replaced."""
    (text,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "my_board.py"
    path.write_text(declaration(*SMALL))
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_page_s_board_is_one_and_fits(tmp_path: Path) -> None:
    path = tmp_path / "my_board.py"
    path.write_text(declaration())
    target = board(str(path))
    assert (target.name, target.geometry, target.clock_hz) == ("my-board", "ecp5-25f", 60_000_000)
    assert board(str(path)) is target


def test_estimate_and_verify_take_the_file(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(capsys, "estimate", "--board", mine)
    assert (status, data["board"], data["geometry"]) == (0, "my-board", "tiny")
    assert data["resources"]["available"]["bram"] == 56 and data["resources"]["fits"]
    assert data["clock_mhz"] == 60 and "stated clock" in data["origin"]
    status, data = run(capsys, "verify", "--executors", "numpy,isa", "--board", mine, "--tokens", "4")
    assert status == 0 and data["geometry"] == "tiny"
    status, data = run(capsys, "run", "--device", "isa", "--board", mine, "--tokens", "2", "--check")
    assert status == 0


@pytest.mark.slow
def test_verify_runs_the_rtl_of_the_file_s_board(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(capsys, "verify", "--executors", "numpy,rtl", "--board", mine, "--tokens", "4")
    assert (status, data["mismatches"]) == (0, 0)


def test_its_design_elaborates_with_its_pins(mine: str) -> None:
    target = board(mine)
    plan = engine_plan(target, target.engine, target.clock_hz)
    assert 'LOCATE COMP "uart_0__rx__io" SITE "H18";' in plan.constraints
    assert "EHXPLLL" in plan.design and len(plan.source_hash) == 64
    assert plan.place_and_route[:5] == ("--25k", "--package", "CABGA381", "--speed", "6")


@pytest.mark.slow
def test_it_is_placed_and_routed_and_never_shipped(
    mine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "BITSTREAMS", tmp_path / "bitstreams")
    figures = bitstream_for(mine, lambda _: None)
    assert figures["board"] == "my-board" and figures["dsp"] == figures["multiplier_cells"] == 0
    assert Path(figures["bitstream"]).read_bytes().startswith(b"\xff\x00")
    assert not (tmp_path / "bitstreams").exists()


def test_an_engine_that_the_chip_does_not_hold_is_refused_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "large.py"
    path.write_text(declaration(('preset("ecp5-25f")', 'preset("ulx3s-85f")')))
    with pytest.raises(DoesNotFit, match=r"ulx3s-85f would take .* 207 bram of 56 on my-board"):
        bitstream_for(str(path), lambda _: None)
    path = tmp_path / "other.py"
    path.write_text(declaration(('preset("ecp5-25f")', 'preset("icebreaker")')))
    with pytest.raises(DoesNotFit, match="single-port RAM, which ecp5 does not have"):
        bitstream_for(str(path), lambda _: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"bad\.py, line 1: SyntaxError"),
        ("\n\nx = 1 / 0\n", r"bad\.py, line 3: ZeroDivisionError: division by zero"),
        ("import no_such_module\n", r"bad\.py, line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", r"bad\.py, line 1: SystemExit: 3"),
        ("x = 1\n", r"bad\.py: there is no BOARD in it"),
        ("BOARD = 7\n", r"bad\.py: BOARD is a int, not a Board"),
        (declaration(("    baud=115_200,\n", "")), r"TypeError: .*missing 1 required keyword-only .*'baud'"),
        (declaration(("baud=", "bauds=")), r"TypeError: .*unexpected keyword argument 'bauds'"),
        (declaration(("115_200", '"fast"')), r"bad\.py: board 'my-board': baud is 'fast'"),
        (declaration(("my-board", "ulx3s-85f")), "is that of a board in the package"),
        (declaration(("60_000_000", "61_300_000")), "no ECP5 PLL setting makes 61.3 MHz"),
    ],
)  # fmt: skip
def test_a_file_with_an_error_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        board(str(path))


def test_what_is_no_board_is_refused_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for given, message, hint in (
        ("no/such.py", "there is no board file no/such.py", "docs/add_your_board.md"),
        ("icebraker", "no board is called 'icebraker'", "choose one of: icebreaker"),
        ("tiny", "this is an engine, not a board", "write --geometry tiny"),
    ):
        status, data = run(capsys, "estimate", "--board", given)
        assert status == 2
        assert message in data["error"]["message"] and hint in data["error"]["hint"]
