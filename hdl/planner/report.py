"""One self-contained HTML page about a model on a board, every number with its source."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ternac.compile.fitting import Model
from ternac.compile.geometry import Geometry
from ternac.hdl.boards.board import Board
from ternac.hdl.planner.estimate import estimate
from ternac.manifest import read_manifest
from ternac.program.language_model import PASS_NAMES
from ternac.program.program import Program
from ternac.program.summary import summary

TEMPLATE = "report.html.j2"
RESOURCE_NAMES = {
    "comb": "logic cells (COMB)",
    "ff": "flip-flops",
    "bram": "block RAMs",
    "spram": "single-port RAMs",
}
Curves = dict[str, list[tuple[float, float]]]
"""Name to points (step, nats per token)."""
Bar = dict[str, Any]
"""``label``, ``share`` of the track that is filled (0 to 1), ``text`` that stands behind it."""


def loss_curve(program_file: Path | None) -> Curves:
    """Return the training and validation loss from the ``curve.csv`` next to a program; empty without one."""
    path = None if program_file is None else program_file.parent / "curve.csv"
    if path is None or not path.is_file():
        return {}
    rows = list(csv.DictReader(path.read_text().splitlines()))
    curves = {
        name: [(float(row["step"]), float(row[field])) for row in rows if row.get(field)]
        for name, field in (("training", "train_nats"), ("validation", "val_nats"))
    }
    return {name: points for name, points in curves.items() if points}


def cycles_by_role(passes: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Sum cycles over the layers (``0.f``, ``1.f`` -> ``f``), in the order in which they first run."""
    total: Counter[str] = Counter()
    for row in passes:
        layer, dot, rest = row["op"].partition(".")
        total[rest if dot and layer.isdigit() else row["op"]] += row["cycles"]
    return list(total.items())


def _cycle_bars(data: dict[str, Any]) -> list[Bar]:
    whole = data["cycles_per_token"]
    rows = cycles_by_role(data["cycles_by_op"])
    rows.append(("sampling and rest", whole - sum(cycles for _, cycles in rows)))
    most = max(cycles for _, cycles in rows)
    return [
        {
            "label": f"{PASS_NAMES[name]} ({name})" if name in PASS_NAMES else name,
            "share": cycles / most,
            "text": f"{cycles:,} ({cycles / whole:.1%})",
        }
        for name, cycles in rows
        if cycles
    ]


def _used(label: str, used: int, whole: int) -> Bar:
    return {"label": label, "share": min(1.0, used / whole), "text": f"{used:,} of {whole:,}"}


def _build(target: Board, manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    """Resources and timing of the shipped build."""
    if manifest is None:
        return None
    clock, fmax = manifest["clock_mhz"], manifest["fmax_mhz"]
    bars = [
        _used(label, manifest[key], target.resources[key])
        for key, label in RESOURCE_NAMES.items()
        if key in target.resources and isinstance(manifest.get(key), int)
    ]
    figures = {
        "design clock": f"{clock:g} MHz",
        "routed fmax": f"{fmax:.2f} MHz",
        "slack at the design clock": f"{1e3 / clock - 1e3 / fmax:.2f} ns",
        "multiplier cells": manifest["multiplier_cells"],
        "DSP blocks": manifest["dsp"],
        "bitstream": manifest["bitstream"],
        "sha256": manifest["sha256"],
    }
    return {"bars": bars, "figures": figures}


def _matrices(program: Program) -> list[tuple[str, str, str, str]]:
    """Name, shape, trits and share of zeros of every ternary matrix."""
    roles = program.roles().items()
    matrices = {name: program.consts[name] for name, role in roles if role == "trits"}
    return [
        (name, " x ".join(map(str, trits.shape)), f"{trits.size:,}", f"{(trits == 0).mean():.1%}")
        for name, trits in matrices.items()
    ]


def origins(
    model: Model, data: dict[str, Any], manifest: dict[str, Any] | None
) -> list[tuple[str, str, str]]:
    """Return name, value and origin of each number of the page."""
    program, path = model.program, model.path
    shown = "a random program" if path is None else path.name if path.is_absolute() else str(path)
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
        fmax = f"{manifest['fmax_mhz']:.2f} MHz"
        rows.append(("resources, fmax", fmax, f"nextpnr's report of the routed design, {where}"))
    rows.append(("loss curve", "", "curve.csv next to the program, written by ternac train"))
    joules = data["energy"]["joules_per_token"]
    amount = "not given" if joules is None else f"{joules * 1e6:,.1f} uJ per token"
    rows.append(("energy", amount, data["energy"]["origin"]))
    return rows


def loss_svg(curves: Curves) -> str:
    """Draw the curves as one SVG element without external references; the same curves give the same text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.hashsalt": "ternac", "svg.fonttype": "none"}
    for key in ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
        style[key] = "#7f8893"  # readable on a light and on a dark page
    out = io.StringIO()
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(facecolor="none", xlabel="step", ylabel="nats per token")
        for (name, points), color in zip(curves.items(), ("#4b86d0", "#c87533"), strict=False):
            steps, nats = zip(*points, strict=True)
            axes.plot(steps, nats, color=color, label=f"{name} {nats[-1]:.3f}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = out.getvalue()
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawing[drawing.index("<svg") :])  # HTML needs no namespaces


def render(model: Model, target: Board, geometry: Geometry | None = None) -> str:
    """Return the page for a model on a board, with the board's engine unless another is given.

    Raises what `estimate` raises.
    """
    import jinja2

    program = model.program
    data = estimate(program, target, geometry)
    manifest = read_manifest(target.name, geometry.name if geometry else target.geometry)
    curves = loss_curve(model.path)
    clock = f"{'routed' if manifest else 'stated'} clock of {data['clock_mhz']:g} MHz"
    tiles = [(f"{program.trits:,}", "ternary weights")]
    if "validation" in curves:
        tiles.append(
            (f"{min(nats for _, nats in curves['validation']):.4f}", "nats per token, best validation")
        )
    tiles += [
        (f"{data['cycles_per_token']:,}", "cycles per token"),
        (f"{data['tokens_per_second']:,.0f}", f"tokens/s, closed form x {clock}"),
        (f"{data['dot_unit_busy']:.0%}", "dot units busy"),
    ]
    page = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(TEMPLATE)
    return page.render(
        program=program,
        target=target,
        data=data,
        facts=summary(program),
        tiles=tiles,
        matrices=_matrices(program),
        cycles=_cycle_bars(data),
        passes=[(row["op"], row["cycles"], row["dot_words"]) for row in data["cycles_by_op"]],
        memories=[_used(name, use["used"], use["depth"]) for name, use in data["memory"].items()],
        build=_build(target, manifest),
        loss=loss_svg(curves) if curves else None,
        origins=origins(model, data, manifest),
    )
