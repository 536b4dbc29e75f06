"""Sites for block RAMs: none twice, rows as planned, designs that do not fit left alone."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from amaranth.back import rtlil

from ternac.compile.geometry import Mem, preset
from ternac.hdl.array.bare import FEED_WIDTH, BareArray
from ternac.hdl.cells.memory import BlockRam, PairedRam
from ternac.hdl.cells.tech import Technology
from ternac.hdl.netlist.floorplan import (
    BARE_ROWS,
    COLUMN_ROW,
    LANE_ROWS,
    LANE_ROWS_BESIDE_ROWS,
    place_bare_array,
    place_block_rams,
    sites,
)


def design(pairs: int, columns: int = 12, embeds: int = 2, rows: int = 0) -> dict[str, Any]:
    """The block RAM cells of an engine, by the names that the components give them."""
    names = []
    for i in range(pairs):
        ram = PairedRam(18, 512, tech=Technology.ECP5, memory=Mem.WEIGHT.name, block=2 * i)
        names.append(f"core.columns.weight_{2 * i}.{ram.slices[0].instance}")
    for c in range(columns):
        for memory, count in (("BANK", 2), ("BIAS", 1), ("table", 1), (Mem.ROWS.name, rows)):
            ram_ = BlockRam(16, 1024, tech=Technology.ECP5, memory=memory, block=c)
            names += [f"core.{memory}_{c}_{i}.{ram_.slices[0].instance}" for i in range(count)]
        names += [f"core.embed_{c}.bram_EMBED_{c}_{4 * i}" for i in range(embeds)]
    cells = {name: {"type": "DP16KD", "attributes": {}} for name in (*names, "link.frame.ram.0.0")}
    return {"modules": {"top": {"cells": cells}}}


def placed(of: dict[str, Any]) -> dict[str, str]:
    cells = of["modules"]["top"]["cells"]
    return {name: cell["attributes"]["BEL"] for name, cell in cells.items() if "BEL" in cell["attributes"]}


def test_every_cell_of_lanes_and_columns_gets_a_site_of_its_own() -> None:
    g = preset("ulx3s-85f")
    engine = design(g.weight_blocks // 2, g.columns)
    assert place_block_rams(engine) == 128 + 48 + 24
    where = placed(engine)
    assert len(where) == len(set(where.values())) == 128 + 48 + 24
    rows = Counter(int(site.split("/")[1][1:]) for name, site in where.items() if "EMBED" not in name)
    assert rows == {COLUMN_ROW: 48} | {row: 16 * share for row, share in LANE_ROWS}
    assert "link.frame.ram.0.0" not in where


def test_rows_of_memories_lie_between_the_weights_nearest_to_their_columns() -> None:
    g = preset("ulx3s-85f-rows")
    engine = design(g.weight_blocks // 2, g.columns, rows=2)
    assert place_block_rams(engine) == 104 + 48 + 24 + 24
    where = placed(engine)
    assert len(set(where.values())) == 104 + 48 + 24 + 24
    at = {name: int(site.split("/")[1][1:]) for name, site in where.items()}
    assert {row for name, row in at.items() if "ROWS" in name} == {LANE_ROWS_BESIDE_ROWS[0][0]}
    assert Counter(row for name, row in at.items() if "WEIGHT" in name) == {
        row: 13 * share for row, share in LANE_ROWS_BESIDE_ROWS
    }
    across = {name: int(site.split("/")[0][1:]) for name, site in where.items()}
    far = [
        abs(across[f"core.ROWS_{c}_{i}.bram_ROWS_{c}_0"] - across[f"core.BANK_{c}_{i}.bram_BANK_{c}_0"])
        for c in range(g.columns)
        for i in range(2)
    ]
    assert max(far) <= 12  # of 120


def test_the_embedding_lies_in_the_order_of_its_columns_where_weights_leave_room() -> None:
    engine = design(128)
    place_block_rams(engine)
    where = {name: site for name, site in placed(engine).items() if "EMBED" in name}
    found = [(int(name.split("_")[1].split(".")[0]), site) for name, site in where.items()]
    across = [int(site.split("/")[0][1:]) for _, site in sorted(found)]
    assert all(left < right + 1 for left, right in zip(across[::2], across[2::2], strict=False))
    rows = Counter(int(site.split("/")[1][1:]) for _, site in found)
    assert rows == {LANE_ROWS[-1][0]: 20, LANE_ROWS[-2][0]: 4}
    too_many = design(128, embeds=3)
    assert place_block_rams(too_many) == 128 + 48


def test_chains_that_meet_in_the_tree_lie_beside_each_other() -> None:
    """Stage j of the same chains is in the same eighth of the chip for every j."""
    engine = design(128)
    place_block_rams(engine)
    across: dict[int, list[int]] = {}
    for name, site in placed(engine).items():
        if "WEIGHT" in name:
            block = int(name.split("_")[-2].rstrip("p"))
            across.setdefault(block % 64 // 8, []).append(int(site.split("/")[0][1:]))
    spans = [(min(xs), max(xs)) for _, xs in sorted(across.items())]
    assert all(high - low < 18 for low, high in spans)
    assert [low for low, _ in spans] == sorted(low for low, _ in spans)


def test_sites_are_those_of_the_chip() -> None:
    assert len(sites(22)) == len(set(sites(22))) == 52
    assert sites(22)[:2] == ["X4/Y22/EBR0", "X6/Y22/EBR1"] and sites(82)[-1] == "X120/Y82/EBR3"


@pytest.mark.parametrize("pairs", [160, 96 * 4])
def test_a_design_that_does_not_fit_is_left_alone(pairs: int) -> None:
    engine = design(pairs)
    assert place_block_rams(engine) == 0
    assert placed(engine) == {}


def bare(columns: int, lanes: int) -> tuple[BareArray, dict[str, Any]]:
    """A bare array and its block RAM cells: 36 bits each of weights, activations and sums."""
    array = BareArray(columns, lanes, 4, 8 * lanes, fold=2, radix=3, tech=Technology.ECP5, fed=True)
    bits = {"x": 8 * lanes, "w": 2 * array.macs, "sum": columns * array.units[0].acc_bits}
    names = [f"feed_{feed}_{low}" for feed, count in bits.items() for low in range(0, count, FEED_WIDTH)]
    cells = {name: {"type": "PDPW16KD", "attributes": {}} for name in names}
    return array, {"modules": {"top": {"cells": cells}}}


def test_the_cells_of_a_bare_array_are_those_of_its_rtl() -> None:
    array, netlist = bare(3, 16)
    text = rtlil.convert(array, name="top", emit_src=False)
    assert re.findall(r"cell \\PDPW16KD \\(\S+)", text) == list(netlist["modules"]["top"]["cells"])


def test_a_bare_array_has_its_weights_around_its_activations() -> None:
    array, netlist = bare(10, 192)
    assert place_bare_array(netlist) == array.feed_blocks == 156
    where = placed(netlist)
    assert len(set(where.values())) == 156
    rows = {int(where[name].split("/")[1][1:]) for name in where if "_x_" in name}
    assert rows == {BARE_ROWS[2]}
    # the weights of a chain lie above and below its activations
    across = {name: int(site.split("/")[0][1:]) for name, site in where.items()}
    for chain in range(48):
        weight, value = chain * 4 * 10 * 2 // 36 * 36, chain * 4 * 8 // 36 * 36
        assert abs(across[f"feed_w_{weight}"] - across[f"feed_x_{value}"]) <= 12


def test_a_bare_array_that_does_not_fit_is_left_alone() -> None:
    _, netlist = bare(12, 192)
    assert place_bare_array(netlist) == 0 and placed(netlist) == {}
