"""Attribute each cell of a flat netlist to a part of the engine, and count what the cell takes of the chip.

Synthesis names cells after the signals that they drive or read, hierarchy included; so the first names of the
path say which component a cell belongs to. A component declares its part as ``AREA_PART``; a test walks the
engine's components and holds the rules here equal to that. A name at the border of two components can go
either way, which the fit does not mind: what scales with the columns on one side does so on the other.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from ternac.errors import BuildFailed

__all__ = ["COLUMN_ARRAY", "LUT_RAM_COMB", "PARTS", "part_of", "parts_of", "require_engine"]

_RULES = (
    ("array", r"columns\.(dot|xbuffer|weights|negatives)\w*"),
    ("pipelines", r"columns\.pipe_\d+"),
    ("memories", r"columns\.(bank|bias)_\d+|columns\.embedding"),
    ("side_columns", r"columns\.side_lane\.column_\d+"),
    ("norm", r"(columns\.side_lane\.queue\.)?norm"),
    ("side_lane", r"columns\.(side_)?lane\w*"),
    ("control", r"columns\.control"),
    ("rows", r"columns\.rows"),
    ("columns", r"columns"),
    ("sampler", r"sampler"),
    ("sequencer", r"sequencer"),
)
PARTS = (*(name for name, _ in _RULES), "core", "link", "board", "packing")
"""Parts of an engine with its board's shell. ``packing`` is what no cell of the netlist accounts for: feeds
into and out of carry chains."""
COLUMN_ARRAY = (*(name for name, _ in _RULES if name != "sampler"), "packing")
"""The column array wrapped: dot units, banks, pipelines and all that controls them; not the sampler, nor the
link and its shell."""

_IN_EVERY_ENGINE = ("array", "pipelines", "norm", "control", "columns", "sampler", "sequencer")

_SHELL = r"payload\.engine\.engine\."
_END = r"(\.|$|\[)"
_RULE = [(name, re.compile(rf"({_SHELL}core\.)?({pattern}){_END}")) for name, pattern in _RULES]
_RULE += [(name, re.compile(rf"{_SHELL}{name}{_END}")) for name in ("core", "link")]
LUT_RAM_COMB = 6
"""Lookup tables that a Gowin LUT RAM of 16 x 4 bits takes: 4, and 2 that its write port blocks."""
_COST = {
    "LUT2": 1, "LUT3": 1, "LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6, "SB_LUT4": 1, "ALU": 1,
    "RAM16SDP4": LUT_RAM_COMB,
}  # fmt: skip
"""Logic cells that a cell of the netlist takes (a LUT RAM: 4, and 2 that its write port blocks).

Inverters (LUT1) are packed into what they feed.
"""


_FEEDS = (
    "SB_LUT4", "LUT1", "LUT2", "LUT3", "LUT4", "ALU", "MUX2_LUT5", "MUX2_LUT6", "MUX2_LUT7", "MUX2_LUT8",
)  # fmt: skip
"""Cells whose flip-flop shares their logic cell."""


def part_of(name: str) -> str:
    """Return the part of the cell or component with this hierarchical name."""
    return next((part for part, rule in _RULE if rule.match(name)), "board")


def _is_ff(kind: str) -> bool:
    return kind == "TRELLIS_FF" or kind.startswith(("SB_DFF", "DFF"))


def _lonely(module: dict[str, Any]) -> set[str]:
    """iCE40 and Gowin flip-flops that take a logic cell of their own.

    They are not fed by a table, or on Gowin an adder, that feeds nothing else.
    """
    driver: dict[Any, str] = {}
    readers: Counter[Any] = Counter()
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                driver.update((bit, cell["type"]) for bit in bits)
            else:
                readers.update(bits)
    for port in module["ports"].values():
        readers.update(port["bits"])
    return {
        name
        for name, cell in module["cells"].items()
        if cell["type"].startswith(("SB_DFF", "DFF"))
        and not (driver.get(d := cell["connections"]["D"][0]) in _FEEDS and readers[d] == 1)
    }


def parts_of(netlist: dict[str, Any], top: str = "top") -> dict[str, dict[str, int]]:
    """``comb`` and ``ff`` of each part of a flat yosys JSON netlist of a board's engine, or of an engine core
    alone, without ``packing``.

    ``comb`` counts TRELLIS_COMB on ECP5 (see `_COST`), logic cells on iCE40, lookup tables on Gowin.
    """
    module = netlist["modules"][top]
    lonely = _lonely(module)
    found: dict[str, Counter[str]] = {part: Counter(comb=0, ff=0) for part in PARTS[:-1]}
    for name, cell in module["cells"].items():
        own = found[part_of(name)]
        own["comb"] += _COST.get(cell["type"], 0) + (name in lonely)
        own["ff"] += _is_ff(cell["type"])
    return {part: dict(counts) for part, counts in found.items()}


def require_engine(parts: dict[str, dict[str, int]]) -> None:
    """Raise BuildFailed if a part that every engine has takes nothing."""
    missing = [name for name in _IN_EVERY_ENGINE if not any(parts[name].values())]
    if missing:
        raise BuildFailed(
            f"no cell of the netlist belongs to {', '.join(missing)}",
            "an instance has another name: adapt the rules in hdl/netlist/parts.py",
        )
