"""The README's tables of boards and models, made from what is committed and the closed-form schedule.

``python -m ternac.hdl.planner.tables`` prints them; with ``--write`` it replaces those in README.md. A test
compares, so the README cannot drift from what is committed.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from ternac.compile.fitting import largest_model
from ternac.compile.geometry import preset
from ternac.files import write_text
from ternac.hdl.boards.boards import BOARDS, Board
from ternac.hdl.planner.estimate import estimate
from ternac.hdl.planner.report import loss_curve
from ternac.manifest import read_manifest
from ternac.program.zoo import names, open_program, resolve

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN = "<!-- {} table: made by `python -m ternac.hdl.planner.tables --write`, checked by the tests -->\n"
END = "<!-- {} table ends -->\n"
COLUMNS = (
    "board", "engine", "COMB", "FF", "RAM blocks", "DSP", "clock MHz", "fmax MHz",
    "model (ternary weights)", "cycles/token", "tokens/s", "origin of the speed",
)  # fmt: skip
MODEL_COLUMNS = ("model", "ternary weights", "words of state", "loss, validation", "")


def best_model(target: Board) -> tuple[str, int, dict[str, Any]] | None:
    """Name, ternary weights and figures of the largest shipped model that fits; None when none does."""
    name = largest_model(preset(target.geometry))
    if name is None:
        return None
    program = open_program(name)
    return name, program.trits, estimate(program, target)


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


def model_row(name: str) -> list[str]:
    """The cells of one shipped model, as in MODEL_COLUMNS.

    The loss is the one in its recipe, per byte where it has a tokenizer; without one, the lowest of its
    curve.
    """
    program = open_program(name)
    recipe = json.loads(resolve(name).with_name("recipe.json").read_text())
    lowest = min((y for _, y in loss_curve(resolve(name)).get("validation", [])), default=math.nan)
    loss = f"{recipe.get('loss', {}).get('nats_per_char', lowest):.4f} nats per character"
    if program.tokenizer:
        loss = f"{recipe['loss']['bits_per_byte']:.4f} bits per byte"
    cells = [f"`{name}`", f"{program.trits:,}", str(program.state_words)]
    return [*cells, loss, f"[card](model/zoo/{name}/card.md)"]


def tables() -> dict[str, str]:
    """The tables as Markdown: "board" and "model"."""

    def markdown(header: tuple[str, ...], rows: list[list[str]]) -> str:
        return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, ["---"] * len(header), *rows])

    return {
        "board": markdown(COLUMNS, [row(target) for target in BOARDS.values()]),
        "model": markdown(MODEL_COLUMNS, [model_row(name) for name in names()]),
    }


def replaced(readme: str) -> str:
    """``readme`` with the tables between their markers made anew."""
    for name, table in tables().items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = readme.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended or begin in after:
            raise ValueError(f"README.md must hold the markers of the {name} table exactly once")
        readme = f"{before}{begin}\n{table}\n{end}{after}"
    return readme


def main(arguments: list[str]) -> int:
    """Print the tables, or write them into the README."""
    if "--write" in arguments:
        write_text(README, replaced(README.read_text()))
    else:
        sys.stdout.write("\n".join(tables().values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
