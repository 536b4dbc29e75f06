"""Constant inputs of ECP5 carry cells: folded into the lookup tables, so that no net has to carry a zero.

Place and route leaves an input that is tied high unconnected, but brings a zero to every carry cell that
asks for one through the fabric: ten thousand sinks of one net in a full engine.
"""

from __future__ import annotations

from typing import Any

__all__ = ["fold_constant_pins"]

_PINS = "ABCD"


def _without(table: str, pin: int) -> str:
    """The 16-entry table (entry 15 first) whose entries with ``pin`` high equal those with it low."""
    entries = table[::-1]
    return "".join(entries[i & ~(1 << pin)] for i in range(16))[::-1]


def fold_constant_pins(design: dict[str, Any], top: str = "top") -> int:
    """Tie high every CCU2C table input that is constant zero, its table made blind to it; how many.

    ``design`` is a yosys JSON netlist, changed in place. The function of each cell stays the same: the
    generate table of a carry half is entries 0 to 3 of its lookup table, which C and D do not address, and
    which are made blind to A or B together with the rest.
    """
    folded = 0
    for cell in design["modules"][top]["cells"].values():
        if cell["type"] != "CCU2C":
            continue
        for half in "01":
            for number, pin in enumerate(_PINS):
                if cell["connections"].get(pin + half) == ["0"]:
                    name = f"INIT{half}"
                    cell["parameters"][name] = _without(cell["parameters"][name], number)
                    cell["connections"][pin + half] = ["1"]
                    folded += 1
    return folded
