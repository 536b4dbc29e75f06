"""The front of ``ternac explore`` as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ternac.files import write_figure

__all__ = ["FORMATS", "write_picture"]

FORMATS = (".png", ".svg")


class _Point(Protocol):
    """The figures of a geometry that are drawn."""

    @property
    def together(self) -> float: ...

    @property
    def cycles(self) -> int: ...

    @property
    def area(self) -> Any: ...


def write_picture(path: Path, data: dict[str, Any], points: Sequence[_Point]) -> None:
    """Speed and latency over logic cells: all fitting geometries in grey, the front, and today's engine."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    clock = data["clock_mhz"] * 1e6
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    grey = {"color": "0.8", "s": 6, "linewidths": 0, "label": "fits"}
    comb = [point.area.comb for point in points]
    left.scatter(comb, [clock / point.together for point in points], **grey)
    right.scatter(comb, [point.cycles / data["clock_mhz"] for point in points], **grey)
    for axes, key in ((left, "tokens_per_second"), (right, "latency_us")):
        rows = data["front"]
        marks = axes.scatter(
            [row["comb"] for row in rows], [row[key] for row in rows], c=[row["sessions"] for row in rows],
            cmap="viridis", vmin=1, vmax=4, s=16, label="front",
        )  # fmt: skip
        if data["today"]:
            axes.plot(data["today"]["comb"], data["today"][key], "r*", markersize=11, label="today's engine")
        axes.set(xlabel="logic cells (COMB)")
        axes.grid(alpha=0.3)
        axes.legend()
    left.set(ylabel="tokens/s, all sessions")
    right.set(ylabel="one token alone, us", yscale="log")
    figure.colorbar(marks, ax=right, label="sessions at a time", ticks=[1, 2, 3, 4])
    figure.suptitle(f"{data['model']} on {data['board']} at {data['clock_mhz']:g} MHz (estimates)")
    write_figure(path, figure)
