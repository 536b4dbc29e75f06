"""Area model beside builds: the tables of docs/planner.md.

``python -m ternac.hdl.planner.area_table`` prints them, with ``--write`` puts them into the page.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ternac.files import write_text
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.planner.area import area, builds, coefficients

__all__ = ["PAGE", "main", "replaced", "tables"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "planner.md"
BEGIN = "<!-- {} begins -->"
END = "<!-- {} ends -->"

COLUMNS = (
    "board", "geometry", "lanes", "COMB model", "build", "error", "FF model", "build", "error", "RAM model",
    "build", "kind",
)  # fmt: skip


def row(build: dict[str, Any]) -> list[str]:
    """One build beside the model, as in COLUMNS."""
    geometry, target = build["geometry"], board(build["board"])
    found = area(geometry, target)
    cells = [target.name, f"`{geometry.name}`", f"{geometry.columns} x {geometry.lanes}"]
    for mine, its in ((found.comb, build["comb"]), (found.ff, build["ff"])):
        cells += [f"{mine:,}", f"{its:,}", f"{mine / its - 1:+.1%}"]
    cells += [str(found.bram), str(build["bram"])]
    if found.spram is not None:
        cells[-2:] = [f"{found.bram} + {found.spram}", f"{build['bram']} + {build['spram']}"]
    return [*cells, "fitted" if build["fitted"] else "**held out**"]


def _markdown(header: tuple[str, ...], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, ["---"] * len(header), *rows])


def tables() -> dict[str, str]:
    """The tables as Markdown: "checks" and "coefficients"."""
    ordered = sorted(builds(), key=lambda build: (build["board"] != "ulx3s-85f", build["fitted"]))
    counts = [
        [family, group, name, f"{comb:.1f}", f"{ff:.1f}"]
        for family in dict.fromkeys(target.family for target in BOARDS.values())
        for group, own in coefficients(family).items()
        for name, (comb, ff) in own.items()
        if max(abs(comb), abs(ff)) >= 0.05
    ]
    return {
        "checks": _markdown(COLUMNS, [row(build) for build in ordered]),
        "coefficients": _markdown(("family", "group", "one more of", "COMB", "FF"), counts),
    }


def replaced(page: str) -> str:
    """``page`` with the tables between their markers made anew."""
    for name, table in tables().items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{PAGE.name} must hold the markers of {name!r}")
        page = f"{before}{begin}\n\n{table}\n{end}{after}"
    return page


def main(arguments: list[str]) -> int:
    """Print the tables, or write them into the page."""
    if "--write" in arguments:
        write_text(PAGE, replaced(PAGE.read_text()))
    else:
        sys.stdout.write("\n".join(tables().values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
