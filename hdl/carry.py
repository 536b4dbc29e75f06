"""Adders that fill every lookup table of an ECP5 carry chain.

In a CCU2C each half computes ``f(A, B, C, D) ^ carry`` and passes the carry on where f is 1; where f is 0 the
new carry is what the table's lowest four entries give for (A, B). With those four entries equal to A, any f
of the form ``A ^ g(B, C, D)`` makes the half a full adder of A and g: one half per bit for the sum *and* the
gate in front of it.

The first half of each chain holds an all-zero table: its carry out is 0 whatever its carry in, so the carry
input stays unconnected, and place and route inserts no slice of its own to feed a constant in.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal, Value, signed

__all__ = ["ADD", "GATED", "KEEP", "add_ecp5", "trim_carries"]

#: ``A + ((B ^ D) & C)``: partial sum, activation, nz, negative.
GATED = 0x9A6A
#: ``A + (B & C)``, D tied high.
KEEP = 0x6A6A
#: ``A + B``, C and D tied high.
ADD = 0x666A


def add_ecp5(
    m: Module, name: str, width: int, table: int, a: Value, b: Value, c: Any = None, d: Any = None
) -> Signal:
    """Signed sum of ``width`` bits, combinational; a and b are sign-extended, c and d are one bit (1).

    ``table`` is one of the constants above; ``name`` starts the names of the cells.
    """
    total = Signal(signed(width), name=f"{name}_sum")
    a, b = a.as_signed(), b.as_signed()
    halves = width + 1 + (width + 1) % 2
    carry: Signal | None = None
    for first in range(0, halves, 2):
        ports: dict[str, Any] = {"p_INJECT1_0": "NO", "p_INJECT1_1": "NO"}
        for half in range(2):
            bit = first + half - 1
            used = 0 <= bit < width
            ports[f"p_INIT{half}"] = Const(table if used else 0, 16)
            if not used:
                continue
            ports[f"i_A{half}"] = a[min(bit, len(a) - 1)]
            ports[f"i_B{half}"] = b[min(bit, len(b) - 1)]
            ports[f"i_C{half}"] = Const(1) if c is None else c
            ports[f"i_D{half}"] = Const(1) if d is None else d
            ports[f"o_S{half}"] = total[bit]
        if carry is not None:
            ports["i_CIN"] = carry
        if first + 2 < halves:
            carry = Signal(name=f"{name}_carry_{first}")
            ports["o_COUT"] = carry
        m.submodules[f"{name}_{first // 2}"] = Instance("CCU2C", **ports)
    return total


def trim_carries(design: dict[str, Any]) -> int:
    """Cut carry wires that do nothing out of a flat netlist in yosys' JSON form, in place; returns how many.

    Yosys ties an open carry input to 0 and names an open carry output; for each nextpnr would insert a
    slice (2 lookup tables) that carries it from or to the fabric. Cut are: carry outputs that no cell and no
    port reads, and constant carry inputs of cells whose first half is the all-zero table of ``add_ecp5``.
    """
    cut = 0
    for module in design["modules"].values():
        cells = module.get("cells", {}).values()
        carries = [cell for cell in cells if cell["type"] == "CCU2C"]
        ports = module.get("ports", {}).values()
        read = {bit for port in ports if port["direction"] != "input" for bit in port["bits"]}
        for cell in cells:
            for port, bits in cell["connections"].items():
                if cell["type"] != "CCU2C" or port not in ("COUT", "S0", "S1"):
                    read.update(bits)
        read.add("x")
        for cell in carries:
            wires, params = cell["connections"], cell["parameters"]
            if wires.get("COUT", ["x"])[0] not in read:
                wires["COUT"] = ["x"]
                cut += 1
            kills = int(str(params["INIT0"]), 2) == 0 and params["INJECT1_0"].strip() == "NO"
            if kills and wires.get("CIN", ["x"])[0] in ("0", "1"):
                wires["CIN"] = ["x"]
                cut += 1
    return cut
