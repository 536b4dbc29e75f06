"""Tables of the pages: boards and models in the README, the area model and its checks in docs/planner.md.

``python -m ternac.hdl.planner.tables`` prints them; with ``--write`` it replaces those in the pages. Tests
compare, so the pages cannot drift from what is committed.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from ternac.compile.fitting import largest_model
from ternac.files import write_text
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.planner.area import area, builds, coefficients
from ternac.hdl.planner.estimate import estimate
from ternac.hdl.planner.report import loss_curve
from ternac.manifest import read_manifest
from ternac.program.zoo import names, open_program, resolve
from ternac.table import markdown

ROOT = Path(__file__).resolve().parents[2]
README, PLANNER, BITSTREAMS = (ROOT / name for name in ("README.md", "docs/planner.md", "docs/bitstreams.md"))
BEGIN = "<!-- {} table: made by `python -m ternac.hdl.planner.tables --write`, checked by the tests -->\n"
END = "<!-- {} table ends -->\n"
COLUMNS = (
    "board", "engine", "COMB", "FF", "RAM blocks", "DSP", "clock MHz", "fmax MHz",
    "model (ternary weights)", "cycles/token", "tokens/s", "origin of the speed",
)  # fmt: skip
DECLARED_COLUMNS = (
    "board", "chip", "package, speed", "clock", "serial line (to the chip, from it)", "baud", "lamps",
    "openFPGALoader", "to know",
)  # fmt: skip
MODEL_COLUMNS = ("model", "ternary weights", "words of state", "loss, validation", "")
CHECK_COLUMNS = (
    "board", "geometry", "lanes", "COMB model", "build", "error", "FF model", "build", "error", "RAM model",
    "build", "kind",
)  # fmt: skip


def best_model(target: Board) -> tuple[str, int, dict[str, Any]] | None:
    """Return name, ternary weights and figures of the largest shipped model that fits; None if none does."""
    name = largest_model(target.engine)
    if name is None:
        return None
    program = open_program(name)
    return name, program.trits, estimate(program, target)


def row(target: Board) -> list[str]:
    """Return the cells of one board, as in COLUMNS; a dash where nothing is committed."""
    g = target.engine
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
    """Return the cells of one shipped model, as in MODEL_COLUMNS.

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


def check_row(build: dict[str, Any]) -> list[str]:
    """Return the cells of one measured build and what the area model says of it, as in CHECK_COLUMNS."""
    geometry, target = build["geometry"], board(build["board"])
    found = area(geometry, target)
    cells = [target.name, f"`{geometry.name}`", f"{geometry.columns} x {geometry.lanes}"]
    for mine, its in ((found.comb, build["comb"]), (found.ff, build["ff"])):
        cells += [f"{mine:,}", f"{its:,}", f"{mine / its - 1:+.1%}"]
    cells += [str(found.bram), str(build["bram"])]
    if found.spram is not None:
        cells[-2:] = [f"{found.bram} + {found.spram}", f"{build['bram']} + {build['spram']}"]
    return [*cells, "fitted" if build["fitted"] else "**held out**"]


def declared_row(target: Board) -> list[str]:
    """Return the cells of what a board's entry says, as in DECLARED_COLUMNS; pins are its platform's."""
    platform = target.make_platform()
    uart = {sub.name: sub.ios[0].names[0] for sub in platform.resources["uart", 0].ios}
    clock = platform.resources[target.clock_pin, 0].ios[0].names[0]
    grade = f", {target.speed}" if target.speed else ""
    return [
        f"`{target.name}`",
        target.chip.title,
        f"{target.package}{grade}",
        f"{target.crystal_hz / 1e6:g} MHz at {clock}, PLL to {target.clock_hz / 1e6:g}",
        f"{target.serial}: {uart['rx']}, {uart['tx']}",
        f"{target.baud:,}",
        str(len(target.leds)),
        " ".join(target.loader) or "-",
        target.notes,
    ]


def coefficient_rows() -> list[list[str]]:
    """Return the cells of every coefficient of the area model that is not 0."""
    return [
        [family, group, name, f"{comb:.1f}", f"{ff:.1f}"]
        for family in dict.fromkeys(target.family for target in BOARDS.values())
        for group, own in coefficients(family).items()
        for name, (comb, ff) in own.items()
        if max(abs(comb), abs(ff)) >= 0.05
    ]


def tables(page: Path) -> dict[str, str]:
    """Return the tables of a page by name, in Markdown."""
    if page == README:
        return {
            "board": markdown(COLUMNS, [row(target) for target in BOARDS.values()]),
            "model": markdown(MODEL_COLUMNS, [model_row(name) for name in names()]),
        }
    if page == BITSTREAMS:
        return {"declared": markdown(DECLARED_COLUMNS, [declared_row(target) for target in BOARDS.values()])}
    ordered = sorted(builds(), key=lambda build: (build["board"] != "ulx3s-85f", build["fitted"]))
    return {
        "checks": markdown(CHECK_COLUMNS, [check_row(build) for build in ordered]),
        "coefficients": markdown(("family", "group", "one more of", "COMB", "FF"), coefficient_rows()),
    }


def replaced(page: Path, text: str) -> str:
    """Return ``text`` with the tables of ``page`` between their markers made again."""
    for name, table in tables(page).items():
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended or begin in after:
            raise ValueError(f"{page.name} must hold the markers of the {name} table exactly once")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def main(arguments: list[str]) -> int:
    """Print the tables, or write them into the pages."""
    for page in (README, PLANNER, BITSTREAMS):
        if "--write" in arguments:
            write_text(page, replaced(page, page.read_text()))
        else:
            sys.stdout.write("\n".join(tables(page).values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
