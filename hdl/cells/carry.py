"""Adders with a gate in front, which on ECP5 fill every lookup table of the carry chain.

In a CCU2C each half computes ``f(A, B, C, D) ^ carry`` and passes the carry on where f is 1; where f is 0 the
new carry is what the table's lowest four entries give for (A, B). With those four entries equal to A, any f
of the form ``A ^ g(B, C, D)`` makes the half a full adder of A and g: one half per bit for the sum *and* the
gate in front of it.

The first half of each chain holds a table whose carry out is 0, or the carry in of the sum, whatever the
chain's own carry input is; so that input stays unconnected, and place and route inserts no slice of its
own to feed a constant in.
"""

from __future__ import annotations

import enum
from typing import Any

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed

from ternac.hdl.cells.tech import Technology

__all__ = ["Gate", "add", "starts_chain", "trim_carries"]


class Gate(enum.Enum):
    """The operand added to a; the value is the lookup table of the ECP5 form."""

    #: ``(b ^ d) & c``: activation, nz, negative.
    FLIP = 0x9A6A
    #: ``b & c``; D is tied high.
    KEEP = 0x6A6A
    #: ``b``; C and D are tied high.
    NONE = 0x666A


#: LUT4 = 0 and LUT2 = A while C and D are high: the carry out is A.
_CARRY_IN = 0x000A


def add(
    m: Module,
    tech: Technology,
    name: str,
    width: int,
    a: Value,
    b: Value,
    gate: Gate = Gate.NONE,
    *,
    c: Value | None = None,
    d: Value | None = None,
    carry_in: Value | None = None,
) -> Value:
    """``a + gate(b, c, d) + carry_in`` as ``width`` bits, signed, combinational.

    a and b are sign-extended. c and d are one bit for all, or one for each bit of the sum; c is needed by
    FLIP and KEEP, d by FLIP. ``name`` starts the names of the cells.
    """
    a, b = a.as_signed(), b.as_signed()
    if tech is Technology.ECP5:
        return _chain(m, name, width, a, b, gate, c, d, carry_in)
    wide = Cat(b[min(bit, len(b) - 1)] for bit in range(width))
    if d is not None:
        wide = wide ^ (d if len(d) > 1 else d.replicate(width))
    if c is not None:
        wide = wide & (c if len(c) > 1 else c.replicate(width))
    if carry_in is None:
        return (a + wide[:width].as_signed())[:width].as_signed()
    # One adder of one more bit, whose lowest place makes the carry.
    total = Cat(Const(1, 1), a).as_signed() + Cat(carry_in, wide[:width]).as_signed()
    return total[1 : width + 1].as_signed()


def _chain(
    m: Module, name: str, width: int, a: Value, b: Value, gate: Gate,
    c: Value | None, d: Value | None, carry_in: Value | None,
) -> Value:  # fmt: skip
    def at(value: Value | None, bit: int) -> Value:
        return Const(1) if value is None else value[bit if len(value) > 1 else 0]

    total = Signal(signed(width), name=f"{name}_sum")
    halves = width + 1 + (width + 1) % 2
    carry: Signal | None = None
    for first in range(0, halves, 2):
        ports: dict[str, Any] = {"p_INJECT1_0": "NO", "p_INJECT1_1": "NO"}
        for half in range(2):
            bit = first + half - 1
            table = 0
            if bit == -1 and carry_in is not None:
                table = _CARRY_IN
                ports |= {"i_A0": carry_in, "i_B0": Const(1), "i_C0": Const(1), "i_D0": Const(1)}
            elif 0 <= bit < width:
                table = gate.value
                ports |= {
                    f"i_A{half}": a[min(bit, len(a) - 1)],
                    f"i_B{half}": b[min(bit, len(b) - 1)],
                    f"i_C{half}": at(c, bit),
                    f"i_D{half}": at(d, bit),
                    f"o_S{half}": total[bit],
                }
            ports[f"p_INIT{half}"] = Const(table, 16)
        if carry is not None:
            ports["i_CIN"] = carry
        if first + 2 < halves:
            carry = Signal(name=f"{name}_carry_{first}")
            ports["o_COUT"] = carry
        m.submodules[f"{name}_{first // 2}"] = Instance("CCU2C", **ports)
    return total


def starts_chain(cell: dict[str, Any]) -> bool:
    """Return whether a CCU2C of a yosys JSON netlist is the first of a chain made by `add`.

    Its first half ignores the carry input.
    """
    params = cell["parameters"]
    return int(str(params["INIT0"]), 2) in (0, _CARRY_IN) and params["INJECT1_0"].strip() == "NO"


def trim_carries(design: dict[str, Any]) -> int:
    """Cut carry wires that do nothing out of a flat netlist in yosys' JSON form, in place; returns how many.

    Yosys ties an open carry input to 0 and names an open carry output; for each nextpnr would insert a
    slice (2 lookup tables) that carries it from or to the fabric. Cut are: carry outputs that no cell and no
    port reads, and constant carry inputs of cells whose first half ignores it (see ``add``).
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
            wires = cell["connections"]
            if wires.get("COUT", ["x"])[0] not in read:
                wires["COUT"] = ["x"]
                cut += 1
            if starts_chain(cell) and wires.get("CIN", ["x"])[0] in ("0", "1"):
                wires["CIN"] = ["x"]
                cut += 1
    return cut
