"""Draw the curves of a memory system (`ternac.model.memory.system.Curves`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ternac.files import write_figure
from ternac.model.memory.system import Curves

COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")


def write_picture(path: Path, title: str, panels: Sequence[Curves]) -> None:
    """Write a PNG, SVG or PDF, by the ending of ``path``: one panel below the other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8 * len(panels) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        for at, (name, (across, up)) in enumerate(panel.lines.items()):
            # A line below another one of the same values shows beside it.
            width = 1.6 + 1.8 * (len(panel.lines) - 1 - at)
            axes.plot(across, up, color=COLOURS[at % len(COLOURS)], linewidth=width, label=name)
        axes.set(xlabel=panel.across, ylabel=panel.up)
        axes.set(xlim=(0, None), ylim=(0, None))
        axes.legend(loc="lower right")
    write_figure(path, figure)
