"""The page of results: columns that follow from others, and Ternac's rows from where they are made."""

from __future__ import annotations

import re

import pytest

from ternac.hdl.wide.schedule import Timing, token_schedule
from ternac.program.mmfree import SHAPES
from tests.repository.test_layout import ROOT

PAGE = ROOT / "docs" / "results-wide.md"
COLUMNS = (
    "system", "device", "model", "weights", "tokens", "origin",
    "weight_gb", "port_gb", "lut", "per_lut", "joules", "nano",
)  # fmt: skip
BITS = 1.6
LUT = {"port": 2_060 + 459, "lane": 772, "once": 248 + 932}
"""Synthesis of the parts of the wide unit, UltraScale+ (docs/wide.md)."""

Row = dict[str, str]


def table() -> list[Row]:
    lines = [line for line in PAGE.read_text().splitlines() if line.count("|") == len(COLUMNS) + 1]
    return [dict(zip(COLUMNS, (x.strip() for x in line.split("|")[1:-1]), strict=True)) for line in lines[2:]]


def number(text: str) -> float | None:
    return None if text == "-" else float(text.replace(",", ""))


def agrees(shown: str, value: float) -> bool:
    """Whether a number is shown as it rounds, to the digits that are shown."""
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace(",", "")) - value) <= 0.51 * 10**-digits


def wrong(rows: list[Row]) -> list[str]:
    """What does not follow from the other columns of its row."""
    found = []
    for row in rows:
        weights, tokens, lut, joules = (number(row[name]) for name in ("weights", "tokens", "lut", "joules"))
        gb, port = number(row["weight_gb"]), number(row["port_gb"])
        name = f"{row['system']}, {row['model']}"
        if lut and weights and tokens and not agrees(row["per_lut"], weights * tokens / lut):
            found.append(f"{name}: weights a LUT")
        if joules and weights and abs(number(row["nano"]) / (joules / weights * 1000) - 1) > 0.03:  # type: ignore[operator]
            found.append(f"{name}: nJ a weight")
        if gb is not None and port is not None:
            about = "4 bits" in row["system"]  # "around 5" tokens/s
            expected = weights * tokens * (4 if about else BITS) / 8000  # type: ignore[operator]
            if abs(gb / expected - 1) > (0.05 if about else 0.006) or gb > port:
                found.append(f"{name}: GB/s")
    return found


def test_columns_follow_from_the_others() -> None:
    rows = table()
    assert len(rows) == 15
    assert wrong(rows) == []


@pytest.mark.parametrize("column", ["tokens", "per_lut", "nano", "weight_gb"])
def test_a_planted_figure_is_found(column: str) -> None:
    rows = table()
    row = next(row for row in rows if row["system"] == "bitnet-kv260")
    row[column] = str(float(row[column]) * 1.1)
    assert wrong(rows) != []


def wide_cycles(begin: str) -> float:
    """Cycles a token of the row of docs/wide.md that begins so."""
    lines = (ROOT / "docs" / "wide.md").read_text().splitlines()
    line = next(line for line in lines if line.startswith(begin))
    return float(re.findall(r" ([\d,]{7,}) ", line)[0].replace(",", ""))


def test_whole_tokens_are_those_of_the_schedule_and_of_the_page_that_ran_them() -> None:
    mhz, checked = 250, 0
    wide = (ROOT / "docs" / "wide.md").read_text()
    for row in table():
        if row["system"] != "Ternac, whole token":
            continue
        checked += 1
        if "four ports" in row["device"]:
            token = token_schedule(SHAPES[row["model"].lower()], ports=4, timing=Timing(lanes=32))
            assert agrees(row["tokens"], mhz * 1e6 / token.cycles) and row["origin"] == "estimate"
            assert number(row["lut"]) == LUT["port"] * 4 + LUT["lane"] * 32 + LUT["once"]
            assert number(row["port_gb"]) == mhz * 16 * 4 / 1000
            continue
        assert row["origin"].startswith("cycle-exact simulation x")
        assert re.search(rf"\b{row['lut']} (COMB|LUT)\b|\| {row['lut']} \(", wide)
        small = "ULX3S" in row["device"]
        begin = "| RTL, a token" if small else f"| {row['model']} | "
        assert agrees(row["tokens"], (60 if small else mhz) * 1e6 / wide_cycles(begin))
        assert number(row["port_gb"]) == (0.12 if small else mhz * 16 / 1000)
    assert checked == 5


def test_simulated_rows_are_those_of_the_other_pages() -> None:
    board, products = table()[:2]
    readme = (ROOT / "README.md").read_text()
    shown = next(line for line in readme.splitlines() if line.startswith("| `ulx3s-85f` |"))
    assert f"| {board['tokens']} |" in shown and f"| {board['lut']} |" in shown and "(1,155,072)" in shown
    stream = (ROOT / "docs" / "performance-stream.md").read_text()
    cycles = re.search(r"\| 370M \| 1.6 bit \| 128 \| 68.2 \| [\d,]+ \| ([\d,]+) \|", stream)
    assert cycles and f"{products['lut']} COMB" in stream and "119.3 MHz" in stream
    assert agrees(products["tokens"], 119.3e6 / float(cycles[1].replace(",", "")))
    wide = re.search(r"\| 2.7B \| 1.6 bit \| 32 x 256 \| 523.9 \| [\d,]+ \| ([\d,]+) \|", stream)
    text = PAGE.read_text()
    assert wide and f"({wide[1]} cycles" in text.replace("\n", " ")
    assert f"would give {250e6 / float(wide[1].replace(',', '')):.0f} at" in text.replace("\n", " ")


def test_the_parts_are_those_of_the_page_that_synthesizes_them() -> None:
    text = (ROOT / "docs" / "wide.md").read_text()
    for part in ("| 729 + 43 as registers |", "| 248 | 163 |", "| 459 | 388 |", "892 LUT"):
        assert part in text
    assert "1,745 + 315 as memory" in (ROOT / "docs" / "performance-stream.md").read_text()
