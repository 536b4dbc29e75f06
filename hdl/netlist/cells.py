"""Read what synthesis made: cells by type, and whether any of them multiplies.

The accumulate-only claim is checked at two places, because either alone can be fooled: in the design as
written (a ``$mul`` there may later dissolve into LUTs) and in the mapped netlist (a DSP block may be
instantiated by hand).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ternac.errors import BuildFailed

MULTIPLIER = re.compile(
    r"^(\$mul|\$macc|\$macc_v2|\$pow|\$div|\$divfloor|\$mod|\$modfloor|\$__mul.*|\$__soft_mul"
    r"|MULT\w+|ALU54\w*|ALU24B|PADD\w+|SB_MAC16|DSP\w*|ICESTORM_DSP)$"
)
"""Cell types that multiply (or divide), generic and of every vendor that the kit builds for."""


_DUMPED = re.compile(r"^ *cell (\$\S+) \S+\n(.*?)^ *end$", re.MULTILINE | re.DOTALL)
_CONSTANT = re.compile(r"^ *connect \\[AB] \d+'[01]+$", re.MULTILINE)


def products(dump: str) -> Counter[str]:
    """Cells by type of dumped RTLIL, without products by a constant.

    An index into an array is multiplied by the width of its elements; that is wiring, or an adder.
    """
    found: Counter[str] = Counter()
    for kind, body in _DUMPED.findall(dump):
        if kind != "$mul" or not _CONSTANT.search(body):
            found[kind] += 1
    return found


def netlist_cells(netlist: dict[str, Any], top: str = "top") -> Counter[str]:
    """Cells by type of a yosys JSON netlist, counted through the hierarchy from ``top``; ``$scopeinfo`` is
    no cell.

    Raises BuildFailed when there is no such module.
    """
    modules = netlist["modules"]
    if top not in modules:
        raise BuildFailed(f"the netlist has no module {top!r}", "synthesis did not finish; see its log")
    memo: dict[str, Counter[str]] = {}

    def count(name: str) -> Counter[str]:
        if name not in memo:
            total: Counter[str] = Counter()
            for cell in modules[name]["cells"].values():
                kind = cell["type"]
                inner = modules.get(kind)
                if inner is not None and not _is_blackbox(inner):
                    total += count(kind)
                elif kind != "$scopeinfo":
                    total[kind] += 1
            memo[name] = total
        return memo[name]

    return Counter(count(top))


def _is_blackbox(module: dict[str, Any]) -> bool:
    attributes = module.get("attributes", {})
    return any(int(str(attributes.get(key, "0")), 2) != 0 for key in ("blackbox", "whitebox"))


def multipliers(cells: Counter[str]) -> dict[str, int]:
    """The multiplying cells among ``cells``: type -> count, empty when the design only accumulates."""
    return {kind: n for kind, n in sorted(cells.items()) if n and MULTIPLIER.match(kind)}


def load(path: Path) -> dict[str, Any]:
    """A yosys JSON netlist."""
    netlist: dict[str, Any] = json.loads(path.read_text())
    return netlist
