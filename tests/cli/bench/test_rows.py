"""``ternac bench rows``: the page's table is what it prints, and the closed form is the machine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ternac.cli.bench.rows import COLUMNS, cells, models
from ternac.cli.main import main
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import preset
from ternac.compile.isa import Opcode, Source
from ternac.hdl.planner.rows import cycles_with_rows, without_rows
from ternac.manifest import read_manifest
from ternac.table import markdown

PAGE = Path(__file__).resolve().parents[3] / "docs" / "performance.md"


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    from ternac.cli.bench.rows import bench_rows

    return bench_rows(preset("ulx3s-85f-rows"), 0, lambda text: None)


def test_the_page_has_the_tables_that_the_command_prints(data: dict[str, Any]) -> None:
    text = PAGE.read_text()
    fitting = [row for row in data["rows"] if "refused" not in row]
    assert markdown(COLUMNS, [cells(row) for row in fitting]) in text
    refused = [(f"`{r['name']}`", f"{r['trits']:,}", r["refused"]) for r in data["rows"] if "refused" in r]
    assert markdown(("model", "ternary weights", "why it does not fit"), refused) in text
    manifest = read_manifest("ulx3s-85f", "ulx3s-85f-rows")
    assert manifest is not None and data["clock_mhz"] == manifest["clock_mhz"]
    assert data["origin"].endswith("routed clock of the shipped build, measured on no board")
    clocks = f"{manifest['clock_mhz']:g} MHz of its bitstream, which is routed for {manifest['fmax_mhz']:g}"
    assert f"times the {clocks}" in text
    assert f"{manifest['comb']:,} COMB (LUT4) placed" in text


def test_the_page_says_the_differences_of_these_figures(data: dict[str, Any]) -> None:
    found = {row["name"]: row for row in data["rows"]}
    text = " ".join(PAGE.read_text().split())

    def more(one: str, other: str, key: str = "cycles_per_token") -> str:
        return f"{found[one][key] - found[other][key]:.0f}"

    many = "cycles_per_token_together"
    assert f"{more('hybrid', 'shakespeare')} cycles a token more alone" in text
    rest = f"{more('hybrid, 512 rows', 'shakespeare', many)} more of {found['shakespeare'][many]:.0f}"
    assert rest in text
    assert f"`pkm plain`: {more('pkm rows', 'pkm plain')}." in text
    kan = found["kan digits"]
    image = f"64 tokens of {kan['cycles_per_token']}: {64 * kan['cycles_per_token']:,} alone"
    assert f"{image}, {64 * kan[many]:,.0f} with four images at a time" in text
    assert all(row["for_rows"] == 0 for row in data["rows"] if row["name"] in ("shakespeare", "pkm plain"))


def test_without_rows_leaves_no_pass_over_them() -> None:
    geometry = preset("ulx3s-85f-rows")
    program = dict(models())["hybrid"]
    bare = without_rows(compile_program(program, geometry))
    assert all(i.op != Opcode.MEM and i.source != Source.ROWS and not i.to_list for i in bare.instructions)
    assert bare.instructions[-1].op == Opcode.HALT
    assert cycles_with_rows(program, geometry)["for_rows"] > 0


def test_an_engine_without_rows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "rows", "--geometry", "tiny"]) == 2
    assert "tiny has no rows" in capsys.readouterr().err


COUNT = ["bench", "rows", "--geometry", "tiny-rows", "--tokens", "3", "--json"]


@pytest.mark.slow
def test_the_closed_form_is_what_the_simulated_board_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session and as many as run at a time; one cycle more for each fetch, planted, is found."""
    assert main(COUNT) == 0
    rows = [row for row in json.loads(capsys.readouterr().out)["rows"] if "counted" in row]
    assert {"abacus", "kan series"} <= {row["name"] for row in rows}
    assert all(row["counted"]["alone"] > 0 for row in rows)
    monkeypatch.setattr("ternac.hdl.engine.schedule.FETCH", 9)
    assert main(COUNT) == 1
    assert json.loads(capsys.readouterr().out)["mismatches"]
