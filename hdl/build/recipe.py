"""Content-addressed builds: plan -> <root>/<board>/<hash>/ -> bitstream, in named, resumable steps.

Figures come from nextpnr's JSON report and yosys' JSON netlist, never from a log. A build whose clock is
faster than what place and route achieved, or whose netlist multiplies, fails.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ternac.cache import locked
from ternac.errors import BuildFailed
from ternac.files import write_text
from ternac.hdl.build.plan import PLACERS, Plan
from ternac.hdl.build.steps import Step, is_done, run_step, seconds_of, sha256_of
from ternac.hdl.netlist import bram_patch, memory_map
from ternac.hdl.netlist import cells as netlist
from ternac.hdl.netlist.parts import parts_of, require_engine
from ternac.hdl.netlist.passes import prepare

Run = Callable[..., None]
Say = Callable[[str], None]

REPORT = "report.json"
MEMORIES = "memories.json"
PARTS = "parts.json"
QUIET = ("--quiet", "--log", "progress.log")
"""Options of nextpnr: messages go to its own log."""


def _synthesize(run: Run, scratch: Path) -> None:
    run("yosys", "-q", "../synth.ys")
    written = netlist.products((scratch / "products.il").read_text())
    mapped = netlist.netlist_cells(netlist.load(scratch / "netlist.json"))
    cells = {
        "mapped": dict(sorted(mapped.items())),
        "multipliers": {
            "design": netlist.multipliers(written),
            "mapped": netlist.multipliers(mapped),
        },
    }
    (scratch / "cells.json").write_text(json.dumps(cells, indent=1))


def _mark_ecp5(plan: Plan) -> Callable[[Run, Path], None]:
    def work(run: Run, scratch: Path) -> None:
        design = netlist.load(scratch.parent / "netlist.json")
        originals = {
            name: bram_patch.contents_of(cell["parameters"]).tolist()
            for name, cell in design["modules"]["top"]["cells"].items()
            if cell["type"] == "DP16KD"
        }
        planned = plan.board.chip.floor_plans
        placed, parts = prepare(design, floor_plan=planned), parts_of(design)
        if plan.geometry_hash == plan.board.engine.hash:
            if planned and not placed:
                raise BuildFailed(
                    f"no floor plan fits the block RAMs of {plan.board.geometry}, which has one",
                    "an instance has another name: adapt hdl/netlist/floorplan.py or hdl/sdram/floorplan.py",
                )
            require_engine(parts)
        (scratch / PARTS).write_text(json.dumps(parts, indent=1))
        names = bram_patch.mark(design)
        (scratch / "marked.json").write_text(json.dumps(design))
        (scratch / "marks.json").write_text(json.dumps([[name, originals[name]] for name in names]))

    return work


def _place(plan: Plan, netlist_name: str, output: tuple[str, str]) -> Callable[[Run, Path], None]:
    placer = PLACERS[plan.board.family]
    files = ("--json", f"../{netlist_name}", *placer.constrained(f"../{plan.constraint_file}"), *output)

    def work(run: Run, scratch: Path) -> None:
        run(placer.tool, *QUIET, *plan.place_and_route, *files, "--report", REPORT)

    return work


def _pack_ecp5(plan: Plan) -> Callable[[Run, Path], None]:
    def work(run: Run, scratch: Path) -> None:
        config = (scratch.parent / "routed.config").read_text()
        marks = json.loads((scratch.parent / "marks.json").read_text())
        numbers = bram_patch.find_marks(config, [name for name, _ in marks])
        contents = {numbers[name]: bram_patch.as_contents(words) for name, words in marks}
        (scratch / "empty.config").write_text(bram_patch.patch(config, contents))
        cells = memory_map.locate(netlist.load(scratch.parent / "netlist.json"), numbers)
        (scratch / MEMORIES).write_text(memory_map.dumps(cells))
        run("ecppack", "--compress", "--input", "empty.config", "--bit", f"top{plan.board.bitstream_suffix}")

    return work


def _pack_ice40(run: Run, scratch: Path) -> None:
    # -s: leave the flash awake after configuration, so that the design can read a model from it
    run("icepack", "-s", "../routed.asc", "top.bin")


def _pack_gowin(plan: Plan) -> Callable[[Run, Path], None]:
    def work(run: Run, scratch: Path) -> None:
        database = plan.board.chip.nextpnr[1]
        pins = ("--sspi_as_gpio", "--mspi_as_gpio")  # lamps and serial lines are on such pins
        run("gowin_pack", "-d", database, *pins, "-o", f"top{plan.board.bitstream_suffix}", "../routed.json")

    return work


def steps(plan: Plan) -> tuple[Step, ...]:
    """Return the steps of a build, in order."""
    synth = Step("synth", ("netlist.json", "cells.json"), _synthesize)
    if plan.board.family == "ecp5":
        return (
            synth,
            Step("mark", ("marked.json", "marks.json", PARTS), _mark_ecp5(plan)),
            Step(
                "place-and-route",
                ("routed.config", REPORT),
                _place(plan, "marked.json", ("--textcfg", "routed.config")),
            ),
            Step("pack", (f"top{plan.board.bitstream_suffix}", MEMORIES), _pack_ecp5(plan)),
        )
    if plan.board.family == "gowin":
        return (
            synth,
            Step(
                "place-and-route",
                ("routed.json", REPORT),
                _place(plan, "netlist.json", ("--write", "routed.json")),
            ),
            Step("pack", (f"top{plan.board.bitstream_suffix}",), _pack_gowin(plan)),
        )
    return (
        synth,
        Step(
            "place-and-route", ("routed.asc", REPORT), _place(plan, "netlist.json", ("--asc", "routed.asc"))
        ),
        Step("pack", (f"top{plan.board.bitstream_suffix}",), _pack_ice40),
    )


def directory_of(plan: Plan, root: Path) -> Path:
    """Return the folder of a plan's build: ``root``/<board>/<first 16 digits of its hash>."""
    return root / plan.board.name / plan.hash[:16]


def build(plan: Plan, root: Path, say: Say, *, force: bool = False, warn: str = "") -> dict[str, Any]:
    """Build ``plan`` under ``root`` and return its figures; finished steps run again only with ``force``.

    ``warn`` is said before the first step, unless all are done.

    Raises BuildFailed if a step fails, the clock is not met, or a cell multiplies.
    """
    directory = directory_of(plan, root)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory, say):
        if force:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(exist_ok=True)
        write_text(directory / "design.il", plan.design)
        write_text(directory / plan.constraint_file, plan.constraints)
        write_text(directory / "synth.ys", plan.script)
        ran = []
        if warn and not all(is_done(directory, step) for step in steps(plan)):
            say(warn)
        for step in steps(plan):
            if run_step(directory, step, say):
                ran.append(step.name)
            if step.name == "synth":
                refuse_multipliers(directory)
        return {**figures(plan, directory), "steps_run": ran}


def multiplier_cells(directory: Path) -> Counter[str]:
    """Count the multiplying cells of a synthesized design, as written and as mapped, by type."""
    found = json.loads((directory / "cells.json").read_text())["multipliers"]
    return Counter(found["design"]) + Counter(found["mapped"])


def refuse_multipliers(directory: Path) -> None:
    """Raise BuildFailed if a synthesized design multiplies."""
    found = multiplier_cells(directory)
    if found:
        raise BuildFailed(
            f"step synth: the design multiplies: {dict(found)}; netlist: {directory / 'netlist.json'}",
            "products must be shift-add; find the cell in design.il",
        )


def figures(plan: Plan, directory: Path) -> dict[str, Any]:
    """Return the figures of a finished build. Raises BuildFailed if the clock is not met."""
    cells = json.loads((directory / "cells.json").read_text())
    report = json.loads((directory / REPORT).read_text())
    used = Counter({name: int(entry["used"]) for name, entry in report["utilization"].items()})
    mapped = Counter(cells["mapped"])
    bitstream = directory / f"top{plan.board.bitstream_suffix}"
    area = area_of(plan.board.family, used, mapped)
    fmax = min((float(entry["achieved"]) for entry in report["fmax"].values()), default=0.0)
    clock = plan.clock_hz / 1e6
    result = {
        "bitstream": str(bitstream),
        "sha256": sha256_of(bitstream),
        "clock_mhz": clock,
        "fmax_mhz": round(fmax, 2),
        **area,
        "multiplier_cells": sum(multiplier_cells(directory).values()),
        "seconds": round(sum(seconds_of(directory, step) for step in steps(plan)), 1),
        "steps": {step.name: seconds_of(directory, step) for step in steps(plan)},
        "board": plan.board.name,
        "bitstream_id": plan.bitstream_id.hex(),
        "geometry_hash": plan.geometry_hash.hex(),
        "plan": plan.hash,
        "source": plan.source_hash,
        "tools": plan.tools,
        "report": str(directory / REPORT),
    }
    if (directory / PARTS).exists():
        parts = json.loads((directory / PARTS).read_text())
        rest = area["comb"] - sum(part["comb"] for part in parts.values())
        result["parts"] = {**parts, "packing": {"comb": rest, "ff": 0}}
    if (directory / MEMORIES).exists():
        result["memories"] = str(directory / MEMORIES)
    if fmax <= clock:
        raise BuildFailed(
            f"step place-and-route: {fmax:.2f} MHz is not above the clock of {clock:g} MHz; "
            f"critical path: {critical_path(report)}; report: {directory / REPORT}",
            f"take a slower clock: ternac build --board {plan.board.name} --clock MHZ",
        )
    return result


def area_of(family: str, used: Counter[str], mapped: Counter[str]) -> dict[str, int]:
    """Return ``comb``, ``ff``, ``bram``, ``dsp`` (``spram``) of what nextpnr used and synthesis mapped."""
    if family == "ecp5":
        return {
            "comb": used["TRELLIS_COMB"],
            "ff": used["TRELLIS_FF"],
            "bram": used["DP16KD"],
            "dsp": used["MULT18X18D"] + used["ALU54B"],
        }
    if family == "gowin":
        return {
            "comb": used["LUT4"] + used["ALU"],
            "ff": sum(n for kind, n in mapped.items() if kind.startswith("DFF")),
            "bram": used["BSRAM"],
            "dsp": sum(netlist.multipliers(used).values()),
        }
    return {
        "comb": used["ICESTORM_LC"],
        "ff": sum(n for kind, n in mapped.items() if kind.startswith("SB_DFF")),
        "bram": used["ICESTORM_RAM"],
        "dsp": used["ICESTORM_DSP"],
        "spram": used["ICESTORM_SPRAM"],
    }


def critical_path(report: dict[str, Any]) -> str:
    """Return first and last cell and the delay of the longest register-to-register path in a report."""
    best = ("unknown", 0.0)
    for path in report.get("critical_paths", []):
        hops = path["path"]
        delay = sum(float(hop["delay"]) for hop in hops)
        clocked = path["from"].startswith(("posedge", "negedge")) and path["to"].startswith(
            ("posedge", "negedge")
        )
        if hops and clocked and delay > best[1]:
            best = (f"{hops[0]['from']['cell']} -> {hops[-1]['to']['cell']}, {delay:.2f} ns", delay)
    return best[0]
