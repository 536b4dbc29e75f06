"""The loss curve, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ternac.files import write_figure, write_text

FIELDS = ("step", "train_nats", "val_nats", "learning_rate", "seconds")
Row = dict[str, float]


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write one line per row; a loss that was not measured at that step is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_png(path: Path, rows: list[Row], title: str) -> None:
    """Draw training and validation loss over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for key, label, style in (("train_nats", "train (dropout on)", "-"), ("val_nats", "validation", "o-")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=label, linewidth=1.2, markersize=3)
    best = min((row["val_nats"] for row in rows if "val_nats" in row), default=None)
    if best is not None:
        axes.axhline(best, color="grey", linewidth=0.8, linestyle=":", label=f"best validation {best:.4f}")
    axes.set(xlabel="step", ylabel="nats per token", title=title)
    low = min((row[k] for row in rows for k in ("train_nats", "val_nats") if k in row), default=0.0)
    axes.set_ylim(low - 0.05, min(low + 1.5, 6.0))
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(path, figure)
