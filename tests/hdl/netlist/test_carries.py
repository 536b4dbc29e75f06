"""Joined carry chains: the second adder must not notice."""

from __future__ import annotations

import itertools
import json
from typing import Any

from amaranth.back import rtlil

from ternac.hdl.array.dot import DotUnit
from ternac.hdl.cells.carry import trim_carries
from ternac.hdl.cells.tech import Technology
from ternac.hdl.netlist.carries import LONGEST, chain_carries, fold_constant_pins
from tests.hdl.yosys import run_yosys


def folded_unit() -> dict[str, Any]:
    unit = DotUnit(12, 2, 64, fold=2, radix=3, tech=Technology.ECP5)
    text = rtlil.convert(unit, name="top", emit_src=False)
    script = "read_rtlil top.il\nsynth_ecp5 -top top -json top.json\n"
    design: dict[str, Any] = json.loads(run_yosys(script, {"top.il": text}, ("top.json",))["top.json"])
    trim_carries(design)
    fold_constant_pins(design)
    return design


def cells_of(design: dict[str, Any]) -> dict[str, Any]:
    cells: dict[str, Any] = design["modules"]["top"]["cells"]
    return cells


def carry_out(cell: dict[str, Any], carry: int, free: dict[str, int]) -> int:
    """Carry out of the first half of a CCU2C for given pins."""
    table = cell["parameters"]["INIT0"][::-1]
    pins = {pin: 1 if cell["connections"][f"{pin}0"] == ["1"] else free[pin] for pin in "ABCD"}
    if table[sum(pins[pin] << i for i, pin in enumerate("ABCD"))] == "1":
        return carry
    return int(table[pins["A"] | pins["B"] << 1])


def test_joined_adders_ignore_the_carry_that_they_get() -> None:
    design = folded_unit()
    before = {name: dict(cell["connections"]) for name, cell in cells_of(design).items()}
    joined = chain_carries(design)
    changed = {
        name: [port for port, bits in cell["connections"].items() if before[name].get(port) != bits]
        for name, cell in cells_of(design).items()
    }
    heads = [name for name, ports in changed.items() if "CIN" in ports]
    tails = [name for name, ports in changed.items() if "COUT" in ports]
    # three folded chains, whose first stage has one adder and whose second has two; one sum of three
    assert joined == len(heads) == len(tails) == 3 + 1
    assert all(set(ports) <= {"CIN", "COUT"} for ports in changed.values())
    for name in heads:
        cell = cells_of(design)[name]
        assert not _read(design, cell["connections"].get("S0", ["x"])[0])
        for values in itertools.product((0, 1), repeat=4):
            pins = dict(zip("ABCD", values, strict=True))
            assert carry_out(cell, 0, pins) == carry_out(cell, 1, pins)


def _read(design: dict[str, Any], bit: Any) -> bool:
    return any(
        bit in bits
        for cell in cells_of(design).values()
        for port, bits in cell["connections"].items()
        if port not in ("S0", "S1", "COUT", "Q", "Z")
    )


def test_joined_chains_are_straight_and_short() -> None:
    design = folded_unit()
    chain_carries(design)
    carries = [cell["connections"] for cell in cells_of(design).values() if cell["type"] == "CCU2C"]
    following = {wires["CIN"][0]: wires for wires in carries if wires["CIN"][0] != "x"}
    assert len(following) == sum(wires["CIN"][0] != "x" for wires in carries)
    for wires in carries:
        if wires["CIN"][0] != "x":
            continue
        length = 1
        while wires["COUT"][0] in following:
            wires, length = following[wires["COUT"][0]], length + 1
        assert length <= LONGEST
    assert chain_carries(design) == 0


def test_an_adder_that_uses_its_carry_is_not_joined() -> None:
    design = folded_unit()
    for cell in cells_of(design).values():
        if cell["type"] == "CCU2C":
            cell["parameters"]["INJECT1_0"] = "YES"
    assert chain_carries(design) == 0
