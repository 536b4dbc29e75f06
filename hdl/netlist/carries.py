"""Passes over the carry cells of an ECP5 netlist: constant inputs folded, adders in series made one chain.

Place and route leaves an input that is tied high unconnected, but brings a zero to every carry cell that asks
for one through the fabric: ten thousand sinks of one net in a full engine. And it begins each chain on a tile
of four CCU2C of its own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ternac.hdl.cells.carry import starts_chain

__all__ = ["LONGEST", "chain_carries", "fold_constant_pins"]

LONGEST = 16
"""CCU2C of a joined chain at most: four tiles in a row."""

_INPUTS = tuple(f"{pin}{half}" for half in "01" for pin in "AB")


class _Chain:
    """Cells from one whose carry input is open to one whose carry output is open."""

    def __init__(self, head: dict[str, Any], by_carry: dict[Any, dict[str, Any]]) -> None:
        self.cells = [head]
        while (carry := self.cells[-1]["connections"].get("COUT", ["x"])[0]) in by_carry:
            self.cells.append(by_carry[carry])
        self.open = carry == "x"

    def bits(self, ports: tuple[str, ...]) -> set[Any]:
        """Wires on these ports of all cells."""
        wires = {cell["connections"].get(port, ["x"])[0] for cell in self.cells for port in ports}
        return wires - {"x", "0", "1"}


def chain_carries(design: dict[str, Any], top: str = "top") -> int:
    """Lead the carry of each adder on into the one that adds to its sum, where that one's first half ignores
    it (see `starts_chain`); returns how many were joined.

    ``design`` is a flat yosys JSON netlist after `trim_carries`, changed in place. No cell computes anything
    else than before; the two adders lie in one row, the second next to the first. Timing analysis sees a
    path through both carries that cannot be taken; it is shorter than the one through the sum.
    """
    module = design["modules"][top]
    carries = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
    by_carry = {cell["connections"].get("CIN", ["x"])[0]: cell for cell in carries}
    by_carry = {bit: cell for bit, cell in by_carry.items() if bit not in ("x", "0", "1")}
    chains = [
        _Chain(cell, by_carry)
        for cell in carries
        if cell["connections"].get("CIN", ["x"])[0] == "x" and starts_chain(cell)
    ]
    readers: dict[Any, list[int]] = {}
    for number, chain in enumerate(chains):
        for bit in chain.bits(_INPUTS):
            readers.setdefault(bit, []).append(number)

    used = [bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits]
    free = 1 + max((bit for bit in used if isinstance(bit, int)), default=1)
    follower: dict[int, int] = {}
    taken: set[int] = set()
    for number, chain in enumerate(chains):
        sums = chain.bits(("S0", "S1"))
        shared = Counter(reader for bit in sums for reader in readers.get(bit, ()) if reader != number)
        best = [reader for reader, bits in shared.most_common(1) if 2 * bits >= len(sums)]
        if chain.open and best and best[0] not in taken:
            follower[number] = best[0]
            taken.add(best[0])

    joined = 0
    for number in set(follower) - set(follower.values()):
        length = len(chains[number].cells)
        while number in follower:
            number, before = follower[number], number
            length += len(chains[number].cells)
            if length > LONGEST:
                length = len(chains[number].cells)
                continue
            chains[before].cells[-1]["connections"]["COUT"] = [free]
            chains[number].cells[0]["connections"]["CIN"] = [free]
            joined, free = joined + 1, free + 1
    return joined


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
