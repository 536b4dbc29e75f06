"""``ternac report``: one self-contained HTML page about a model on a board, every number with its source."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import Any

from ternac.cli.program_verbs import summary
from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.files import write_text
from ternac.hdl.boards.boards import BOARDS, Board, board
from ternac.hdl.planner import report_html as html
from ternac.hdl.planner.estimate import estimate
from ternac.manifest import folder, read_manifest
from ternac.program.program import Program
from ternac.program.zoo import open_program, resolve

RESOURCE_NAMES = {
    "comb": "logic cells (COMB)",
    "ff": "flip-flops",
    "bram": "block RAMs",
    "spram": "single-port RAMs",
}
PASS_NAMES = {
    "r.e": "embedding",
    "n1.stat": "norm 1, squares",
    "n1": "norm 1, scale",
    "f": "forget gate",
    "g": "output gate",
    "h": "candidate, recurrence",
    "o": "gate the state",
    "r1": "output projection",
    "n2.stat": "norm 2, squares",
    "n2": "norm 2, scale",
    "a": "GLU gate",
    "z": "GLU up",
    "r2": "GLU down",
    "n.stat": "last norm, squares",
    "n": "last norm, scale",
    "logits": "head",
}
"""What the passes of a MatMul-free LM do; another program's passes go by their own names."""
Origin = tuple[str, str, str]
"""A number's name, its value, where it comes from."""


def loss_curve(program_file: Path) -> list[html.Series]:
    """Training and validation loss over steps from the ``curve.csv`` beside a program; empty without one."""
    path = program_file.parent / "curve.csv"
    if not path.is_file():
        return []
    rows = list(csv.DictReader(path.read_text().splitlines()))
    series = []
    for name, field in (("training", "train_nats"), ("validation", "val_nats")):
        points = [(float(row["step"]), float(row[field])) for row in rows if row.get(field)]
        if points:
            series.append(html.Series(name, points))
    return series


def cycles_by_role(passes: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Cycles summed over the layers (``0.f``, ``1.f`` -> ``f``), in the order in which they first run."""
    total: Counter[str] = Counter()
    for row in passes:
        layer, dot, rest = row["op"].partition(".")
        total[rest if dot and layer.isdigit() else row["op"]] += row["cycles"]
    return list(total.items())


def _program(program: Program, facts: dict[str, Any]) -> str:
    ops = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["ops"].items()))
    rows = []
    for name, const in facts["constants"].items():
        if const["role"] == "trits":
            trits = program.consts[name]
            rows.append(
                [name, " x ".join(map(str, const["shape"])), f"{trits.size:,}", f"{(trits == 0).mean():.1%}"]
            )
    return html.section(
        "Program",
        html.text(
            f"{len(program.ops)} ops: {ops}. State of one session: {facts['state_words']} words of 16 bits."
        ),
        html.details(
            "Ternary matrices", html.table(["matrix", "rows x inputs", "trits", "zeros"], rows, [1, 2, 3])
        ),
    )


def _label(name: str) -> str:
    return f"{PASS_NAMES[name]} ({name})" if name in PASS_NAMES else name


def _cycles(data: dict[str, Any]) -> str:
    whole = data["cycles_per_token"]
    rows = cycles_by_role(data["cycles_by_op"])
    rows.append(("sampling and rest", whole - sum(cycles for _, cycles in rows)))
    shown = [
        html.Bar(_label(name), cycles, f"{cycles:,} ({cycles / whole:.1%})")
        for name, cycles in rows
        if cycles
    ]
    passes = [[row["op"], str(row["cycles"]), str(row["dot_words"])] for row in data["cycles_by_op"]]
    return html.section(
        "Cycles by op",
        html.text(
            f"One token takes {whole:,} cycles; in {data['dot_unit_busy']:.1%} of them the dot units take a "
            f"word of weights, {data['macs_per_cycle']:.0f} multiply-accumulates per cycle on average."
        ),
        html.bars(shown, "Cycles from the start of a pass to the start of the next, summed over the layers"),
        html.details("Every pass", html.table(["pass", "cycles", "dot words"], passes, [1, 2])),
    )


def _memories(data: dict[str, Any]) -> str:
    rows = [
        html.Bar(name, use["used"], f"{use['used']:,} of {use['depth']:,}", whole=use["depth"])
        for name, use in data["memory"].items()
    ]
    return html.section(
        "Engine memories",
        html.bars(rows, f"Words in use, geometry {data['geometry']}; sessions on chip: {data['sessions']}"),
    )


def _resources(target: Board, manifest: dict[str, Any] | None) -> str:
    if manifest is None:
        words = f"No bitstream is shipped for {target.name}; ternac build --board {target.name} makes one."
        return html.section("Resources and timing", html.text(words))
    rows = [
        html.Bar(
            label,
            manifest[key],
            f"{manifest[key]:,} of {target.resources[key]:,}",
            whole=target.resources[key],
        )
        for key, label in RESOURCE_NAMES.items()
        if key in target.resources and isinstance(manifest.get(key), int)
    ]
    clock, fmax = manifest["clock_mhz"], manifest["fmax_mhz"]
    figures = [
        ["design clock", f"{clock:g} MHz"],
        ["routed fmax", f"{fmax:.2f} MHz"],
        ["slack at the design clock", f"{1e3 / clock - 1e3 / fmax:.2f} ns"],
        ["multiplier cells", str(manifest["multiplier_cells"])],
        ["DSP blocks", str(manifest["dsp"])],
        ["bitstream", str(manifest["bitstream"])],
        ["sha256", str(manifest["sha256"])],
    ]
    return html.section(
        "Resources and timing",
        html.bars(rows, f"Used and available on the {target.title}"),
        html.table(["", ""], figures),
    )


def _loss(curve: list[html.Series]) -> str:
    if not curve:
        return html.section("Loss", html.text("No curve.csv lies beside this program."))
    return html.section(
        "Loss",
        html.line_chart(
            curve, "step", "nats per token", "Loss while training; the validation curve is the integer model"
        ),
    )


def origins(
    program: Program, path: Path, data: dict[str, Any], manifest: dict[str, Any] | None
) -> list[Origin]:
    """Where each number of the page comes from."""
    shown = path.name if path.is_absolute() else str(path)
    rows = [
        ("ternary weights", f"{program.trits:,}", f"counted in {shown}, hash {program.hash[:16]}"),
        (
            "cycles per token",
            f"{data['cycles_per_token']:,}",
            "closed-form schedule, held equal to the RTL by tests",
        ),
        ("tokens/s", f"{data['tokens_per_second']:,.0f}", data["origin"]),
    ]
    if manifest is not None:
        where = f"bitstreams/{data['board']}/{data['geometry']}/manifest.json"
        rows.append(
            (
                "resources, fmax",
                f"{manifest['fmax_mhz']:.2f} MHz",
                f"nextpnr's report of the routed design, {where}",
            )
        )
    rows.append(("loss curve", "", "curve.csv beside the program, written by ternac train"))
    rows.append(("energy", "not given", data["energy"]["origin"]))
    return rows


def render(model: str, target: Board) -> str:
    """The page for a model (path or zoo name) on a board; raises what ``estimate`` raises."""
    path = resolve(model)
    program = open_program(path)
    data = estimate(str(path), target)
    manifest = read_manifest(target.name, target.geometry)
    curve = loss_curve(path)
    best = [(f"{min(y for _, y in s.points):.4f}", "nats per token, best validation") for s in curve[1:]]
    clock = f"{'routed' if manifest else 'stated'} clock of {data['clock_mhz']:g} MHz"
    figures = [
        (f"{program.trits:,}", "ternary weights"),
        *best,
        (f"{data['cycles_per_token']:,}", "cycles per token"),
        (f"{data['tokens_per_second']:,.0f}", f"tokens/s, closed form x {clock}"),
        (f"{data['dot_unit_busy']:.0%}", "dot units busy"),
    ]
    rows = origins(program, path, data, manifest)
    parts = [
        html.tiles(figures),
        _program(program, summary(program)),
        _cycles(data),
        _memories(data),
        _resources(target, manifest),
        _loss(curve),
        html.section("Where each number comes from", html.table(["number", "value", "origin"], rows)),
    ]
    return html.page(f"{program.name} on {target.name}", f"program {program.hash}", parts)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument("--board", choices=BOARDS, default="ulx3s-85f", help="default: ulx3s-85f")
    parser.add_argument("--output", metavar="FILE", default="report.html", help="default: report.html")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    target = board(args.board)
    page = render(args.model, target)
    path = Path(args.output)
    write_text(path, page)
    say(f"wrote {path}, {len(page):,} bytes, nothing external in it")
    shipped = folder(target.name, target.geometry)
    return Outcome(
        {"report": str(path), "bytes": len(page), "board": target.name, "bitstream": shipped.exists()}
    )


VERB = Verb(
    help="Write one self-contained HTML page about a model on a board.",
    example="ternac report shakespeare --board ulx3s-85f --output report.html",
    add_arguments=_arguments,
    run=_run,
)
