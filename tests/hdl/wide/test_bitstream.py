"""The shipped bitstream of the engine for whole models: it is of this RTL; what is refused."""

from __future__ import annotations

import json

import pytest

from ternac import manifest
from ternac.cli.main import main
from ternac.compile.sdram import NOMINAL_HZ
from ternac.errors import UsageError
from ternac.hdl.build.bitstream import shipped_figures
from ternac.hdl.build.wide import WIDE_BOARDS, wide_board, wide_plan


@pytest.mark.parametrize("name", WIDE_BOARDS)
def test_the_shipped_bitstream_is_of_this_design(name: str) -> None:
    """Design and constraints have the hash of the manifest, a changed shape another."""
    target, shape = wide_board(name)
    shipped = shipped_figures(target, shape)
    assert not isinstance(shipped, str), shipped
    plan = wide_plan(target, shape)
    assert plan.source_hash == shipped["source"]
    assert plan.bitstream_id.hex() == shipped["bitstream_id"]
    assert shipped["dsp"] == shipped["multiplier_cells"] == 0
    assert shipped["fmax_mhz"] * 1e6 > NOMINAL_HZ


def test_the_shipped_file_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--board", "ulx3s-85f", "--wide", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["origin"] == "shipped bitstream" and found["geometry"] == "ulx3s-85f-wide"
    assert manifest.folder("ulx3s-85f", "ulx3s-85f-wide").is_dir()


def test_a_board_without_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="icebreaker has no engine for whole imported models"):
        wide_board("icebreaker")
    for options in (("shakespeare",), ("--clock", "50"), ("--geometry", "tiny"), ("--loopback",)):
        assert main(["build", "--board", "ulx3s-85f", "--wide", *options]) == 2, options
        assert "no effect" in capsys.readouterr().err
