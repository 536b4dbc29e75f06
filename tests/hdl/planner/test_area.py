"""The area model: near every build that was measured, exact in block RAM, and quick."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.back import rtlil

from ternac.compile.geometry import PRESETS, preset
from ternac.errors import DoesNotFit
from ternac.hdl.array.dot import DotUnit
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.row_address import RowAddressFormer
from ternac.hdl.engine.row_column import RowColumn
from ternac.hdl.engine.sampler import Sampler
from ternac.hdl.engine.winners import Winners
from ternac.hdl.netlist.parts import PARTS, parts_of
from ternac.hdl.planner import area as area_model
from ternac.hdl.planner import tables
from ternac.hdl.planner.area import (
    accumulator_bits,
    area,
    block_rams,
    builds,
    dot_units,
    dot_widths,
)
from ternac.hdl.planner.measure import SAMPLES, measure
from ternac.manifest import read_manifest
from tests.hdl.yosys import comb_ecp5, netlist

BUILDS = [pytest.param(b, id=f"{b['board']}-{b['geometry'].name}") for b in builds()]


@pytest.mark.parametrize("build", BUILDS)
def test_within_five_percent_of_the_build_and_exact_in_block_ram(build: dict) -> None:
    found = area(build["geometry"], board(build["board"]))
    assert found.comb == pytest.approx(build["comb"], rel=0.05)
    assert found.ff == pytest.approx(build["ff"], rel=0.05)
    assert found.bram == build["bram"]
    assert found.spram == build.get("spram")
    assert sum(found.comb_by_group.values()) == found.comb
    assert sum(found.ff_by_group.values()) == found.ff


def test_an_engine_with_rows_is_within_two_percent_of_its_shipped_build() -> None:
    geometry, target = preset("ulx3s-85f-rows"), board("ulx3s-85f")
    found, built = area(geometry, target), read_manifest("ulx3s-85f", "ulx3s-85f-rows")
    assert built is not None and not found.excess(target.resources)
    assert found.comb == pytest.approx(built["comb"], rel=0.02)
    assert found.ff == pytest.approx(built["ff"], rel=0.02)
    assert found.bram == built["bram"] and found.bram_by_memory["rows"] == 24
    bare = area(replace(geometry, name="bare", rows=0, list_slots=0), target)
    assert found.comb - bare.comb == found.comb_by_group["rows"]
    assert bare.comb < 0.97 * built["comb"]  # without the term for rows it would not be near


@pytest.mark.parametrize("columns", [4, 12])
def test_the_terms_of_rows_are_what_synthesis_makes_of_the_parts(columns: int) -> None:
    """Each alone: a column within 3%, winners within 5%, the address former within 5%."""
    own = area_model.ROWS_OF_COLUMN, area_model.ROWS_OF_ENGINE
    column = comb_ecp5(netlist(RowColumn(4096, tech=Technology.ECP5), "synth_ecp5"))
    assert own[0]["sum and write"][0] == pytest.approx(column, rel=0.03)
    winners = comb_ecp5(netlist(Winners(columns=columns, words=16), "synth_ecp5"))
    model = own[1]["winners"][0] + columns * own[0]["winners"][0]
    assert model == pytest.approx(winners, rel=0.05)
    former = comb_ecp5(netlist(RowAddressFormer(), "synth_ecp5"))
    assert own[1]["address former"][0] == pytest.approx(former, rel=0.05)


def test_a_sampler_with_spans_is_larger_by_what_synthesis_says() -> None:
    """Within 3%, and one block RAM more."""
    bare, spans = (netlist(Sampler(columns=12, slots=32, spans=s), "synth_ecp5") for s in (False, True))
    comb, ff = area_model.SPANS
    assert comb == pytest.approx(comb_ecp5(spans) - comb_ecp5(bare), rel=0.03)
    assert ff == pytest.approx(spans["TRELLIS_FF"] - bare["TRELLIS_FF"], rel=0.03)
    assert spans["DP16KD"] - bare["DP16KD"] == 1
    geometry, target = preset("ulx3s-85f"), board("ulx3s-85f")
    without, found = area(geometry, target), area(replace(geometry, name="spans", spans=1), target)
    assert (found.comb - without.comb, found.ff - without.ff, found.bram - without.bram) == (comb, ff, 1)


def test_rows_do_not_fit_the_icebreaker_by_the_numbers_of_the_page() -> None:
    """What its engine leaves, what the address former takes there, and an engine with a pipeline a column."""
    built, target = read_manifest("icebreaker", "icebreaker"), board("icebreaker")
    assert built is not None
    free = {key: target.resources[key] - built[key] for key in ("comb", "bram")}
    former = netlist(RowAddressFormer(), "synth_ice40")["SB_LUT4"]
    least = min(b["comb"] for b in builds() if b["board"] == "icebreaker" and b["geometry"].share == 1)
    whole = target.resources["comb"], target.resources["bram"]
    assert former > free["comb"] and least > whole[0]
    page = " ".join((Path(__file__).resolve().parents[3] / "docs" / "isa.md").read_text().split())
    assert f"leaves {free['comb']} of {whole[0]:,} LUT and one of {whole[1]} block RAMs" in page
    assert free["bram"] == 1 and f"the address former alone takes {former} LUT there" in page
    assert f"the smallest measured with one takes {least:,} LUT" in page


def test_measured_are_todays_samples_and_some_are_held_out() -> None:
    """A sample that was changed must be measured again."""
    measured = [(b["board"], b["geometry"], b["fitted"]) for b in builds()]
    assert measured == [(s.board, s.geometry, s.fitted) for s in SAMPLES]
    families = {target.family for target in BOARDS.values()}
    for family in families:
        own = [b for b in builds() if board(b["board"]).family == family]
        assert any(not b["fitted"] for b in own)
        assert any(b["geometry"] == board(b["board"]).engine for b in own)


def test_all_of_a_build_is_in_its_parts() -> None:
    for build in [b for b in builds() if b["fitted"]]:
        without = set() if build["geometry"].rows else {"rows"}
        assert set(build["parts"]) == set(PARTS) - without
        for key in ("comb", "ff"):
            assert sum(part[key] for part in build["parts"].values()) == build[key]


def test_estimating_is_quick() -> None:
    area(preset("ulx3s-85f"), board("ulx3s-85f"))
    started = time.process_time()
    for _ in range(20):
        area(preset("ulx3s-85f"), board("ulx3s-85f"))
    assert (time.process_time() - started) / 20 < 0.05


@pytest.mark.parametrize(("chain", "fold", "radix"), [(4, 2, 3), (8, 1, 2), (1, 2, 2), (2, 1, 4), (3, 4, 2)])
def test_dot_unit_cells_are_counted_exactly(chain: int, fold: int, radix: int) -> None:
    """Against the instances that the ECP5 form elaborates to."""
    g = replace(
        preset("ulx3s-85f"), columns=4, lanes=48, chain=chain, fold=fold, radix=radix, weight_ram="block"
    )
    unit = DotUnit(g.lanes, g.chain, g.x_depth * g.lanes, fold=fold, radix=radix, tech=Technology.ECP5)
    text = rtlil.convert(unit, emit_src=False)
    gated, plain, registers = dot_widths(g)
    cells = text.count("cell \\CCU2C ")
    widths = (*gated, *plain, accumulator_bits(g))
    assert sum(-(-(width + 1) // 2) for width in widths) == cells
    assert (
        sum(map(int, re.findall(r"cell \$dffe? \S+\n(?:.*\n)*? *parameter \\WIDTH (\d+)", text))) == registers
    )
    comb, ff = dot_units(g, Technology.ECP5)
    one_more_column = dot_units(replace(g, columns=8), Technology.ECP5)
    assert one_more_column[0] - comb == 4 * (2 * cells + 8 * g.chains // fold)
    writes = 4 * 8 + g.lanes // 8 - g.lanes // 4
    assert one_more_column[1] - ff == 4 * (registers + 2 * g.lanes * (fold > 1)) + writes


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ulx3s-85f", {"weight_ram": "spram"}, "single-port RAM, which ecp5 does not have"),
        ("icebreaker", {"weight_ram": "paired", "weight_depth": 512, "lanes": 8, "chain": 2}, "paired"),
        ("icebreaker", {"bank_depth": 2048}, "bank_depth . share is 4096, a memory of ice40 holds 2048"),
        ("ulx3s-85f", {"weight_ram": "block", "weight_depth": 1 << 15}, "weight_depth is 32768"),
    ],
)
def test_forms_that_a_chip_lacks_are_refused(name: str, changes: dict, message: str) -> None:
    with pytest.raises(DoesNotFit, match=message):
        block_rams(replace(board(name).engine, **changes), board(name).tech)


def test_what_does_not_fit_the_chip_is_named() -> None:
    target = board("ulx3s-85f")
    found = area(replace(preset("ulx3s-85f"), embed_depth=16384), target)
    assert found.excess(target.resources) == [f"{found.bram} bram of 208"]
    assert found.overfull(target.resources) == found.bram / 208
    assert area(preset("ulx3s-85f"), target).excess(target.resources) == []


def test_every_preset_with_a_form_for_a_board_has_an_area() -> None:
    for geometry in PRESETS.values():
        for target in BOARDS.values():
            try:
                found = area(geometry, target)
            except DoesNotFit:
                continue
            assert found.comb > 2000
            assert found.ff > 1000


def test_coefficients_come_from_fitted_builds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = area_model.coefficients("ecp5")
    area_model.coefficients.cache_clear()
    worse = tuple(b if b["fitted"] else {**b, "parts": {}} for b in builds())
    monkeypatch.setattr(area_model, "builds", lambda: worse)
    assert area_model.coefficients("ecp5") == before
    area_model.coefficients.cache_clear()


def test_cells_go_to_the_part_that_their_name_begins_with() -> None:
    def cell(kind: str, d: object = 9, q: int = 8) -> dict:
        ports = {"D": [d], "Q": [q]} if kind != "SB_LUT4" else {"I0": [1], "O": [q]}
        ways = {name: "output" if name in "QO" else "input" for name in ports}
        return {"type": kind, "connections": ports, "port_directions": ways}

    core = "payload.engine.engine.core"
    module = {
        "ports": {},
        "cells": {
            f"{core}.columns.dot_3.x_SB_LUT4": cell("SB_LUT4", q=9),
            f"{core}.columns.dot_3.x_SB_DFF": cell("SB_DFF", d=9),  # in the table's cell
            f"{core}.sampler.y": cell("SB_DFFE", d=5),
            f"{core}.columns.pipe_0.requant1.z": cell("SB_LUT4", q=77),
            f"{core}.columns.side_lane.column_2.buffer": cell("TRELLIS_DPR16X4", d=50),
            f"{core}.columns.other": cell("SB_LUT4", q=78),
            "alive": cell("CCU2C", d=50),
        },
    }
    parts = parts_of({"modules": {"top": module}})
    found = {name: (part["comb"], part["ff"]) for name, part in parts.items() if any(part.values())}
    assert found == {
        "array": (1, 1),
        "sampler": (1, 1),
        "pipelines": (1, 0),
        "side_columns": (6, 0),
        "columns": (1, 0),
        "board": (2, 0),
    }


def test_tables_of_the_page_are_todays() -> None:
    """``python -m ternac.hdl.planner.tables --write`` would change nothing."""
    text = tables.PLANNER.read_text()
    assert tables.replaced(tables.PLANNER, text) == text
    with pytest.raises(ValueError, match="markers"):
        tables.replaced(tables.PLANNER, "no table here")


@pytest.mark.slow
def test_a_sample_is_still_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthesis and packing of the smallest; `python -m ternac.hdl.planner.measure --write` updates it."""
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path))
    sample = next(s for s in SAMPLES if s.geometry.name == "2x4-share-1")
    row = next(b for b in builds() if b["geometry"] == sample.geometry)
    found = measure(sample, lambda text: None)
    assert (found["bram"], found["spram"]) == (row["bram"], row["spram"])
    assert found["comb"] == pytest.approx(row["comb"], rel=0.03)
    assert found["ff"] == pytest.approx(row["ff"], rel=0.03)
    assert set(found["parts"]) == set(PARTS)
