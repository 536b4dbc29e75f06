"""Draw a profile: the cost of each layer, the range of each value, the use of each table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ternac.files import write_figure
from ternac.run.profile import Cost, TableStats, ValueStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_picture(
    path: Path, title: str, values: list[ValueStats], tables: list[TableStats], costs: list[Cost]
) -> None:
    """Write a PNG, SVG or PDF, by the ending of ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 10), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, height_ratios=[1, 1.1, 1.2])
    figure.suptitle(title)
    places = np.arange(len(costs))
    for offset, label, colour, means, errors in (
        (-0.2, "rounding and saturation as they are", "#4477aa",
         [c.nats for c in costs], [c.nats_error for c in costs]),
        (0.2, "one bit less", "#cc6677", [c.coarser for c in costs], [c.coarser_error for c in costs]),
    ):  # fmt: skip
        spread = 2 * np.array(errors)
        top.bar(places + offset, means, 0.4, yerr=spread, color=colour, label=label, capsize=3)
    top.set_xticks(places, [c.group for c in costs], rotation=60 if len(costs) > 8 else 0)
    if costs:
        top.legend()
    top.axhline(0, color="black", linewidth=0.6)
    top.set(ylabel="nats per token", title="what rounding costs (whiskers: two standard errors)")
    _fullness(middle, values)
    _tables(bottom, tables)
    write_figure(path, figure)


def _fullness(axes: Axes, values: list[ValueStats]) -> None:
    """Largest magnitude of each value as bits below what its type holds; red where it saturates."""
    bits = [np.log2(max(value.used, 2.0**-16)) for value in values]
    share = [max(value.saturated, 1e-6) for value in values]
    dots = axes.scatter(range(len(values)), bits, c=np.log10(share), cmap="coolwarm", vmin=-6, vmax=0, s=18)
    worst = sorted(range(len(values)), key=lambda i: -values[i].saturated)[:6]
    for index in worst:
        if values[index].saturated > 0:
            axes.annotate(values[index].name, (index, bits[index]), fontsize=7, va="bottom")
    axes.margins(y=0.15)
    axes.set(ylabel="bits below full", xlabel="op", title="largest magnitude of every value")
    _bar(axes, dots, "log10 of the share saturated")


def _tables(axes: Axes, tables: list[TableStats]) -> None:
    """One row per TABLE op, one column per code."""
    if not tables:
        axes.set_axis_off()
        return
    counts = np.array([table.codes / max(1, table.codes.sum()) for table in tables])
    extent = (-128.5, 127.5, len(tables) - 0.5, -0.5)
    shown = axes.imshow(np.log10(np.maximum(counts, 1e-6)), aspect="auto", extent=extent, cmap="magma")
    axes.set_yticks(range(len(tables)), [table.name for table in tables], fontsize=7)
    axes.set(xlabel="code", title="how the tables are entered")
    _bar(axes, shown, "log10 of the share")


def _bar(axes: Axes, shown: Any, label: str) -> None:
    figure = axes.get_figure()
    if figure is not None:
        figure.colorbar(shown, ax=axes, label=label)
