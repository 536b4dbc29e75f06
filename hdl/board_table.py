"""The README's board table, made from the committed manifests and the closed-form schedule.

``python -m ternac.hdl.board_table`` prints it; with ``--write`` it replaces the table in README.md. A test
compares the two, so the README cannot drift from what is committed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from ternac.errors import ProgramError
from ternac.geometry import preset
from ternac.hdl.boards import BOARDS, Board
from ternac.hdl.estimate import estimate
from ternac.manifest import read_manifest
from ternac.zoo import names, open_program

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- board table: made by `python -m ternac.hdl.board_table --write`, checked by the tests -->\n"
END = "<!-- board table ends -->\n"
COLUMNS = (
    "board", "engine", "COMB", "FF", "RAM blocks", "DSP", "clock MHz", "fmax MHz",
    "model (ternary weights)", "cycles/token", "tokens/s", "origin of the speed",
)  # fmt: skip


def best_model(target: Board) -> tuple[str, int, dict[str, Any]] | None:
    """Name, ternary weights and figures of the largest shipped model that fits; None when none does."""
    sizes = {name: open_program(name).trits for name in names()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        try:
            return name, sizes[name], estimate(name, target)
        except ProgramError:
            continue
    return None


def row(target: Board) -> list[str]:
    """The cells of one board, as in COLUMNS; a dash where nothing is committed."""
    g = preset(target.geometry)
    manifest = read_manifest(target.name, target.geometry) or {}
    rams = " + ".join(f"{manifest[key]} {key}" for key in ("bram", "spram") if manifest.get(key))
    cells = [f"`{target.name}`", f"{g.columns} x {g.lanes} lanes"]
    cells += [f"{manifest[key]:,}" if key in manifest else "-" for key in ("comb", "ff")]
    cells += [rams or "-", str(manifest.get("dsp", "-"))]
    cells += [f"{manifest[key]:.4g}" if key in manifest else "-" for key in ("clock_mhz", "fmax_mhz")]
    best = best_model(target)
    if best is None:
        return [*cells, "-", "-", "-", "-"]
    name, trits, figures = best
    origin = "cycle-exact simulation x routed clock" if manifest else "closed form x stated clock, estimated"
    speed = [f"{figures['cycles_per_token']:,}", f"{figures['tokens_per_second']:,.0f}"]
    return [*cells, f"`{name}` ({trits:,})", *speed, origin]


def table() -> str:
    """The table as Markdown, one row per board."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row(target) for target in BOARDS.values())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def replaced(readme: str) -> str:
    """``readme`` with the table between its markers made anew."""
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    result, count = re.subn(pattern, lambda _: BEGIN + "\n" + table() + "\n" + END, readme, flags=re.DOTALL)
    if count != 1:
        raise ValueError("README.md must hold the markers of the board table exactly once")
    return result


def main(arguments: list[str]) -> int:
    """Print the table, or write it into the README."""
    if "--write" in arguments:
        README.write_text(replaced(README.read_text()))
    else:
        sys.stdout.write(table())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
