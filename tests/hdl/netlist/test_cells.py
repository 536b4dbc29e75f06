"""The search for multipliers must find the planted ones, and only those."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ternac.errors import BuildFailed
from ternac.hdl.boards.boards import board
from ternac.hdl.build.plan import make_plan
from ternac.hdl.build.recipe import build
from ternac.hdl.netlist import cells as netlist
from tests.hdl.board_designs import Multiplying


@pytest.mark.parametrize(
    "kind", ["$mul", "$macc", "$div", "$mod", "MULT18X18D", "ALU54B", "SB_MAC16", "DSP48E2", "ICESTORM_DSP"]
)
def test_finds_every_kind(kind: str) -> None:
    assert netlist.multipliers(Counter({kind: 2, "LUT4": 7})) == {kind: 2}


@pytest.mark.parametrize("kind", ["LUT4", "$mux", "CCU2C", "SB_CARRY", "DP16KD", "$add", "$shl", "PFUMX"])
def test_leaves_the_rest_alone(kind: str) -> None:
    assert netlist.multipliers(Counter({kind: 2})) == {}


def test_counts_through_the_hierarchy() -> None:
    leaf = {"cells": {"m": {"type": "SB_MAC16"}, "s": {"type": "$scopeinfo"}}}
    top = {"cells": {"a": {"type": "leaf"}, "b": {"type": "leaf"}, "l": {"type": "SB_LUT4"}}}
    box = {"attributes": {"blackbox": "1"}, "cells": {}}
    cells = netlist.netlist_cells({"modules": {"top": top, "leaf": leaf, "SB_MAC16": box, "SB_LUT4": box}})
    assert cells == Counter({"SB_MAC16": 2, "SB_LUT4": 1})
    with pytest.raises(BuildFailed, match="no module 'other'"):
        netlist.netlist_cells({"modules": {}}, "other")


@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker"])
def test_a_planted_multiplier_fails_the_build(name: str, tmp_path: Path) -> None:
    target = board(name)
    plan = make_plan(target, target.clock_hz, bytes(8), lambda _: Multiplying())
    with pytest.raises(BuildFailed, match=r"the design multiplies: .*\$mul"):
        build(plan, tmp_path, lambda _: None)


def test_a_product_by_a_constant_is_no_multiplier() -> None:
    cell = "  cell {0} $1\n    parameter \\A_WIDTH 4\n    connect \\A \\index\n    connect \\B {1}\n  end\n\n"
    dump = "\n\n" + cell.format("$mul", "6'110111") + cell.format("$mul", "\\other [3:0]")
    assert netlist.products(dump) == Counter({"$mul": 1})
    assert netlist.products(cell.format("$div", "6'110111")) == Counter({"$div": 1})
    assert netlist.products("\n") == Counter()
