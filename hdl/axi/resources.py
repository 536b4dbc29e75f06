"""Area of an AXI block on a device that no open tool places: counted by yosys, an estimate."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from ternac.errors import BuildFailed
from ternac.hdl.build.toolchain import run_tool
from ternac.hdl.netlist.cells import multipliers

__all__ = ["PARTS", "Part", "count", "resources"]

SYNTH = "synth_xilinx -family xcup -flatten -noiopad -top top"


@dataclass(frozen=True)
class Part:
    """A device: what it has, and the port and geometry that suit it."""

    title: str
    lut: int
    ff: int
    bram36: int
    dsp: int
    geometry: str
    port_bits: int
    wide: str
    """Its engine for whole models."""


PARTS = {
    "kv260": Part(
        "Kria K26 (Zynq UltraScale+ XCK26), one 128-bit port", 117_120, 234_240, 144, 1_248, "tiny", 128,
        "kv260-wide",
    ),
    "u250": Part(
        "Alveo U250 (Virtex UltraScale+ XCU250), one 512-bit port", 1_728_000, 3_456_000, 2_688, 12_288,
        "tiny", 512, "u250-wide",
    ),
}  # fmt: skip
"""Devices by name. 128 bits is what one of the processing system's memory ports has, 512 what a DDR4
controller of the U250 has."""

_RAM_LUTS = {"RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4, "RAM64M": 4, "SRL16E": 1, "SRLC32E": 1}


def count(cells: Counter[str]) -> dict[str, float]:
    """LUTs (those used as memory included), flip-flops, block RAMs of 36 Kbit, DSPs of a mapped netlist."""
    lut = sum(number for kind, number in cells.items() if kind.startswith("LUT"))
    ram = sum(cells[kind] * luts for kind, luts in _RAM_LUTS.items())
    return {
        "lut": lut + ram,
        "lut_as_memory": ram,
        "ff": sum(number for kind, number in cells.items() if kind.startswith("FD")),
        "bram36": sum(n for kind, n in cells.items() if kind.startswith("RAMB36"))
        + sum(n for kind, n in cells.items() if kind.startswith("RAMB18")) / 2,
        "dsp": sum(number for kind, number in cells.items() if kind.startswith("DSP")),
    }


def resources(design: wiring.Component, part: Part) -> dict[str, Any]:
    """Synthesize for ``part``; BuildFailed if yosys fails or the netlist multiplies."""
    with tempfile.TemporaryDirectory(prefix="ternac-axi-") as scratch:
        folder = Path(scratch)
        (folder / "top.il").write_text(rtlil.convert(design, name="top", emit_src=False))
        script = f"read_rtlil top.il\n{SYNTH}\ntee -q -o stat.json stat -json\n"
        (folder / "synth.ys").write_text(script)
        run_tool("yosys", ["-q", "synth.ys"], cwd=folder, log=folder / "log.txt", step="synth_xilinx")
        whole = json.loads((folder / "stat.json").read_text())["design"]
    cells: Counter[str] = Counter(whole["num_cells_by_type"])
    if multipliers(cells):
        raise BuildFailed(f"the netlist multiplies: {multipliers(cells)}")
    found = count(cells)
    return {
        "part": part.title,
        **found,
        "lut_share": found["lut"] / part.lut,
        "ff_share": found["ff"] / part.ff,
        "bram36_share": found["bram36"] / part.bram36,
        "origin": f"synthesis (yosys, {SYNTH.rpartition(' -top')[0]}), not placed: an estimate",
    }
