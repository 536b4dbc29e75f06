"""The report and the README's board table are made from what is committed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ternac import manifest
from ternac.compile.fitting import Model
from ternac.errors import DoesNotFit
from ternac.hdl.boards.boards import board
from ternac.hdl.planner import report
from ternac.hdl.planner import tables as board_table
from ternac.hdl.planner.estimate import estimate
from ternac.program import zoo
from ternac.program.file import load, save
from ternac.program.random import random_program

MANIFEST = {
    "bitstream": "ulx3s-85f.bit", "sha256": "5a" * 32, "clock_mhz": 50.0, "fmax_mhz": 62.5, "comb": 40123,
    "ff": 30456, "bram": 171, "dsp": 0, "multiplier_cells": 0, "seconds": 1.0,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A random program that fits the ULX3S, with a loss curve beside it."""
    folder = tmp_path / "zoo" / "mine"
    folder.mkdir(parents=True)
    save(random_program(np.random.default_rng(1), d=24, m=48, layers=2, vocab=48), folder / zoo.PROGRAM)
    (folder / "curve.csv").write_text("step,train_nats,val_nats\n0,5.5,5.5\n10,2.5,\n20,2.25,2.125\n")
    return folder / zoo.PROGRAM


def opened(path: Path) -> Model:
    return Model(load(path), path)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A committed manifest for the ULX3S only."""
    folder = tmp_path / "bitstreams" / "ulx3s-85f" / "ulx3s-85f"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    monkeypatch.setattr(manifest, "BITSTREAMS", tmp_path / "bitstreams")


@pytest.mark.usefixtures("shipped")
def test_report_shows_the_numbers_of_manifest_program_and_curve(model: Path) -> None:
    page = report.render(opened(model), board("ulx3s-85f"))
    data = estimate(load(model), board("ulx3s-85f"))
    for text in (
        "40,123 of 83,640", "171 of 208", "62.50 MHz", "4.00 ns", "5a5a", "2.1250", "validation 2.125",
        f"{data['energy']['joules_per_token'] * 1e6:,.1f} uJ",
        f"{data['cycles_per_token']:,}", f"{data['tokens_per_second']:,.0f}", "routed clock of 50 MHz",
    ):  # fmt: skip
        assert text in page
    assert not re.search(r"<script|https?:|(src|[^:]href|@import)\s*=", page)
    assert "prefers-color-scheme: dark" in page
    assert report.render(opened(model), board("ulx3s-85f")) == page


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_balanced_and_names_are_escaped(model: Path) -> None:
    program = replace(load(model), name="nasty")
    target = replace(board("ulx3s-85f"), title='<b>"&')
    parser = Balanced()
    page = report.render(Model(program, model), target)
    parser.feed(page)
    assert parser.open == []
    assert '<b>"&' not in page and "&lt;b&gt;" in page


def test_report_without_build_and_curve_says_so(model: Path) -> None:
    (model.parent / "curve.csv").unlink()
    page = report.render(opened(model), board("icebreaker"))
    assert "There is no curve.csv next to this program" in page


def test_report_of_a_model_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.safetensors"
    save(random_program(np.random.default_rng(1), d=192, m=384, layers=3, vocab=256), big)
    with pytest.raises(DoesNotFit):
        report.render(opened(big), board("icebreaker"))


def test_cycles_are_summed_over_layers() -> None:
    names = [("r.e", 1), ("0.f", 2), ("0.n1.stat", 3), ("1.f", 4), ("n.stat", 5), ("1.n1.stat", 6)]
    passes = [{"op": name, "cycles": cycles} for name, cycles in names]
    assert report.cycles_by_role(passes) == [("r.e", 1), ("f", 6), ("n1.stat", 9), ("n.stat", 5)]


@pytest.mark.usefixtures("shipped")
def test_board_table_takes_the_largest_model_that_fits(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ZOO", model.parents[1])
    rows = {target: board_table.row(board(target)) for target in ("ulx3s-85f", "icebreaker")}
    assert rows["ulx3s-85f"][2:8] == ["40,123", "30,456", "171 bram", "0", "50", "62.5"]
    assert rows["ulx3s-85f"][-1] == "cycle-exact simulation x routed clock"
    assert rows["icebreaker"][2:4] == ["-", "-"]
    assert rows["icebreaker"][-1].endswith("estimated")
    assert all(len(row) == len(board_table.COLUMNS) for row in rows.values())


def test_readme_table_is_up_to_date() -> None:
    """``python -m ternac.hdl.planner.tables --write`` would change nothing."""
    text = board_table.README.read_text()
    assert board_table.replaced(board_table.README, text) == text


def test_readme_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        board_table.replaced(board_table.README, "no table here")
