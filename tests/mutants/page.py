"""The tables of docs/faults.md, from the results of the last whole runs: ``python -m tests.mutants.page``.

Results are written by ``--json`` of `tests.mutants`, `tests.mutants.rtl`, `tests.upsets` and `tests.soak`.
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
    "soak": ROOT / "tests" / "soak" / "results.json",
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
        "the same",
        "masked",
        "unseen",
        "killed of those that differ",
    )
    return markdown(shown, cells)


def sums(rows: list[Any], keys: tuple[str, ...]) -> list[Any]:
    """Return a row of sums for all rows that have the same values of ``keys``, in their order."""
    found: dict[tuple[str, ...], Any] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        total = found.setdefault(key, dict(zip(keys, key, strict=True)))
        for name, value in row.items():
            if name not in keys and name != "seed":
                total[name] = total.get(name, 0) + value
    return list(found.values())


def upsets(rows: list[Any] | None = None) -> str:
    """Return the table of upsets, of all seeds together."""
    columns = ("no effect", "repaired", "refused", "wrong", "next host", "configured again", "never")
    shown = ("board", "fault in", "trials", "no effect", "repaired", "refused", "wrong tokens",
             "right for the next host", "right when configured again", "never right")  # fmt: skip
    rows = read("upsets") if rows is None else rows
    kinds, boards = (
        sums(rows, ("board", "kind")),
        sums([{**row, "kind": "all"} for row in rows], ("board", "kind")),
    )
    ordered = [
        row for board in boards for row in (*(k for k in kinds if k["board"] == board["board"]), board)
    ]
    cells = [
        [row["board"], row["kind"], f"{row['trials']:,}", *(f"{row[name]:,}" for name in columns)]
        for row in ordered
    ]
    return markdown(shown, cells)


def soak() -> str:
    """Return the table of soaks, of all seeds together."""
    counts = (
        *("rounds", "frames", "lost", "doubled", "late", "flipped", "restarts", "power lost"),
        *("opened again", "refused", "tokens compared", "states compared", "wrong", "untyped", "hangs"),
    )
    shown = ("board", "minutes", *counts, "memory, MB")
    rows = read("soak")
    cells = []
    for row in sums(rows, ("board",)):
        held = [one for one in rows if one["board"] == row["board"]]
        most = max(held, key=lambda one: one["rounds"])
        memory = f"{most['mb at first']:.0f} to {most['mb at last']:.0f}"
        numbers = (f"{row.get(name, 0):,}" for name in counts)
        cells.append([row["board"], f"{row['minutes']:,.0f}", *numbers, memory])
    return markdown(shown, cells)


TABLES = {"modules": modules, "netlists": netlists, "upsets": upsets, "soak": soak}


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
