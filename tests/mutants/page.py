"""The tables of docs/faults.md, from the results of the last whole runs: ``python -m tests.mutants.page``.

Results are written by ``--json`` of `tests.mutants`, `tests.mutants.rtl` and `tests.upsets`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ternac.files import write_text
from ternac.table import markdown
from tests.mutants.runner import ROOT

PAGE = ROOT / "docs" / "faults.md"
HERE = Path(__file__).parent
RESULTS = {
    "modules": HERE / "results.json",
    "netlists": HERE / "rtl" / "results.json",
    "upsets": ROOT / "tests" / "upsets" / "results.json",
}


def read(name: str) -> Any:
    """Return the results of the last whole run."""
    return json.loads(RESULTS[name].read_text())


def share(killed: int, alive: int) -> str:
    """Return how many of those that differ are killed."""
    return f"{100 * killed / (killed + alive):.1f}%"


def modules() -> str:
    """Return the table of modules."""
    rows = read("modules")
    names = ("mutants", "killed", "equivalent", "survived")
    total = {"module": "all", **{name: sum(row[name] for row in rows) for name in names}}
    cells = [
        [f"`{row['module']}`" if row is not total else "all", *(str(row[name]) for name in names),
         share(row["killed"], row["survived"])]
        for row in (*rows, total)
    ]  # fmt: skip
    return markdown(
        ("module", "mutants", "killed", "the same", "survived", "killed of those that differ"), cells
    )


def netlists() -> str:
    """Return the table of netlists."""
    rows = read("netlists")
    names = ("cycles", "mutants", "killed", "equal", "masked", "unseen")
    cells = [
        [
            row["block"],
            *(f"{row[name]:,}" for name in names),
            share(row["killed"], row["masked"] + row["unseen"]),
        ]
        for row in rows
    ]
    shown = (
        "block",
        "cycles",
        "mutants",
        "killed",
        "proven equal",
        "masked",
        "unseen",
        "killed of those that differ",
    )
    return markdown(shown, cells)


def upsets() -> str:
    """Return the table of upsets."""
    columns = ("no effect", "repaired", "refused", "wrong", "next host", "configured again", "never")
    shown = ("board", "fault in", "trials", "no effect", "repaired", "refused", "wrong tokens",
             "right for the next host", "right when configured again", "never right")  # fmt: skip
    cells = [
        [row["board"], row["kind"], f"{row['trials']:,}", *(f"{row[name]:,}" for name in columns)]
        for row in read("upsets")
    ]
    return markdown(shown, cells)


TABLES = {"modules": modules, "netlists": netlists, "upsets": upsets}


def page(text: str) -> str:
    """Return the page with the tables as they are now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table of {name}: python -m tests.mutants.page -->\n", f"<!-- end of {name} -->\n"
        before, _, rest = text.partition(begin)
        assert rest, f"{PAGE.name} has no table of {name}"
        text = f"{before}{begin}{table().strip()}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    write_text(PAGE, page(PAGE.read_text()))
