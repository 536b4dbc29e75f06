"""Pieces of a self-contained HTML page: tiles, tables, bars, line charts as inline SVG; light and dark.

Everything that comes from outside is escaped here; no script, no external resource.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #f7f8fa; --card: #ffffff; --ink: #1b1f24; --muted: #5c6570;
  --line: #dfe3e8; --track: #eceff3; --a: #2563b8; --b: #b8590f; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1c2026; --ink: #e8eaed;
  --muted: #9aa4b0; --line: #323841; --track: #2a3038; --a: #6ea8f2; --b: #e8a15c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0 0 10px; }
p { margin: 0 0 12px; } .muted, figcaption { color: var(--muted); font-size: 13px; }
figcaption { margin-top: 6px; }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 18px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 22px; font-weight: 600; }
.tile span { color: var(--muted); font-size: 13px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--muted); font-weight: 500; } td:first-child { white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--muted); font-size: 14px; }
figure { margin: 0 0 12px; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--muted); font: 12px system-ui, sans-serif; } svg text.ink { fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .track { fill: var(--track); } svg .fill-a { fill: var(--a); }
svg .line-a { stroke: var(--a); } svg .line-b { stroke: var(--b); } svg .key-a { fill: var(--a); }
svg .key-b { fill: var(--b); } svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
"""


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart; ``text`` is what stands behind the bar, ``whole`` the length of its track."""

    label: str
    value: float
    text: str
    whole: float | None = None


@dataclass(frozen=True)
class Series:
    """One curve: its name and its points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def tiles(entries: Sequence[tuple[str, str]]) -> str:
    """A row of figures: (value, what it is)."""
    cells = "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for v, k in entries)
    return f'<div class="tiles">{cells}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """A table; the columns in ``numeric`` are set flush right."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = [' class="n"' if i in numeric else "" for i in range(len(cells))]
        return "".join(
            f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True)
        )

    head = f"<thead><tr>{row(header, 'th')}</tr></thead>"
    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _figure(width: int, height: int, parts: Sequence[str], caption: str) -> str:
    label = escape(caption)
    svg = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f"<figure>{svg}<figcaption>{label}</figcaption></figure>"


def bars(entries: Sequence[Bar], caption: str) -> str:
    """Horizontal bars on one scale; with ``whole`` each is drawn as a share of its own track."""
    left, width, right, pitch = 190, 520, 190, 24
    top = max((bar.value for bar in entries), default=1.0) or 1.0
    parts = []
    for index, bar in enumerate(entries):
        y = index * pitch
        share = bar.value / (bar.whole or top)
        length = max(1.0, width * min(1.0, share))
        if bar.whole is not None:
            parts.append(f'<rect class="track" x="{left}" y="{y + 5}" width="{width}" height="14" rx="3"/>')
        parts.append(
            f'<text class="ink" x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>'
            f'<rect class="fill-a" x="{left}" y="{y + 5}" width="{length:.1f}" height="14" rx="3">'
            f"<title>{escape(bar.label)}: {escape(bar.text)}</title></rect>"
            f'<text x="{left + (width if bar.whole is not None else length) + 8:.1f}" y="{y + 16}">'
            f"{escape(bar.text)}</text>"
        )
    return _figure(left + width + right, max(1, len(entries)) * pitch, parts, caption)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round values (1, 2 or 5 times a power of ten) between ``low`` and ``high``."""
    span = max(high - low, 1e-9)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], x_label: str, y_label: str, caption: str) -> str:
    """At most two curves over a common x axis, with a key and the last value of each."""
    width, height, left, right, top, bottom = 900, 320, 56, 110, 30, 40
    points = [point for curve in series for point in curve.points]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    pad = 0.05 * max(y_high - y_low, 1e-9)
    y_low, y_high = y_low - pad, y_high + pad

    def at_x(x: float) -> float:
        return left + (width - left - right) * (x - x_low) / max(x_high - x_low, 1e-9)

    def at_y(y: float) -> float:
        return height - bottom - (height - top - bottom) * (y - y_low) / (y_high - y_low)

    parts = []
    for y in ticks(y_low, y_high):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>'
            f'<text x="{left - 8}" y="{at_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        )
    for x in ticks(x_low, x_high):
        parts.append(f'<text x="{at_x(x):.1f}" y="{height - 18}" text-anchor="middle">{x:g}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 2}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="{left}" y="14">{escape(y_label)}</text>')
    ends: list[float] = []
    for index, curve in enumerate(series):
        mark = "ab"[index]
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in curve.points)
        x, y = curve.points[-1]
        end = at_y(y) + 4
        while any(abs(end - other) < 14 for other in ends):  # two labels never overlap
            end -= 14
        ends.append(end)
        name = escape(curve.name)
        parts.append(
            f'<polyline class="curve line-{mark}" points="{path}"><title>{name}</title></polyline>'
            f'<circle class="key-{mark}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.5"/>'
            f'<text class="ink" x="{at_x(x) + 9:.1f}" y="{end:.1f}">{name} {y:.3f}</text>'
        )
    return _figure(width, height, parts, caption)


def section(title: str, *parts: str) -> str:
    """A card with a heading; ``parts`` are HTML made by this module or :func:`text`."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def details(title: str, body: str) -> str:
    """Something folded away; ``body`` is HTML made by this module."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def text(words: str, muted: bool = False) -> str:
    """A paragraph."""
    mark = ' class="muted"' if muted else ""
    return f"<p{mark}>{escape(words)}</p>"


def page(title: str, subtitle: str, parts: Sequence[str]) -> str:
    """The whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p class='muted'><code>{escape(subtitle)}</code></p>{''.join(parts)}"
        "</main></body></html>\n"
    )
