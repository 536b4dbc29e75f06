"""Search of engines for a board, a model and a goal, by closed form alone.

Every shape of `hdl/planner/space.py` that holds the model and fits the chip has three figures: tokens a
second of all its sessions together, cycles of one token alone, and logic cells. Shown are the shapes that no
other beats in all three (the Pareto front).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.compile.image import Image
from ternac.errors import DoesNotFit, UsageError
from ternac.files import write_figure
from ternac.hdl.boards.board import Board
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.hdl.planner.area import Area, area, model_error
from ternac.hdl.planner.estimate import routed_clock, shipped
from ternac.hdl.planner.space import CONTEXTS, shapes_of, sized
from ternac.program.program import Program

__all__ = ["GOALS", "Point", "explore", "front", "search", "write_picture"]

_TOKENS = 12
"""Tokens of each session in the interleaved schedule: beyond its start and end, short enough for a search."""


@dataclass(frozen=True)
class Point:
    """One geometry with its figures.

    ``sessions`` at a time; ``cycles`` of a token alone; ``together`` cycles a token if all sessions run.
    """

    geometry: Geometry
    sessions: int
    cycles: int
    together: float
    area: Area

    def beats(self, other: Point) -> bool:
        """No worse in speed, latency and logic, and better in one of them."""
        mine = (self.together, self.cycles, self.area.comb)
        its = (other.together, other.cycles, other.area.comb)
        return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))


GOALS: dict[str, Callable[[Point], tuple[float, ...]]] = {
    "throughput": lambda p: (p.together, p.area.comb, p.cycles),
    "latency": lambda p: (p.cycles, p.area.comb, p.together),
    "area": lambda p: (p.area.comb, p.together, p.cycles),
}
"""Sort keys of the front; the first point is the best for the goal."""


def weigh(image: Image, sessions: int, found: Area) -> Point:
    """Return the figures of an image's geometry with that many sessions at a time."""
    alone = schedule(image).cycles
    together = float(alone)
    if sessions > 1:
        together = batch_cycles(image, sessions, _TOKENS) / (sessions * _TOKENS)
    return Point(image.geometry, sessions, alone, together, found)


def front(points: Iterable[Point], goal: str) -> list[Point]:
    """Return the Pareto front, best first; ties keep the first."""
    kept: list[Point] = []
    for point in sorted(points, key=GOALS[goal]):
        same = (point.together, point.cycles, point.area.comb)
        if not any(p.beats(point) or (p.together, p.cycles, p.area.comb) == same for p in kept):
            kept = [p for p in kept if not point.beats(p)]
            kept.append(point)
    return kept


def search(
    program: Program, target: Board, sessions: int | None, progress: Callable[[int, int], None]
) -> tuple[list[Point], int]:
    """Return all geometries that hold ``program`` and fit the chip, and how many were tried.

    With ``sessions`` only those with as many contexts as that takes. ``progress(done, total)`` is called for
    each shape. Raises DoesNotFit if there is none; the message says what the closest geometry lacks.
    """
    points, looked_at = [], 0
    misses: list[tuple[float, str]] = []  # needed over available, and what is too small
    shapes = [s for s in shapes_of(target.tech) if sessions is None or s.contexts == _contexts_for(sessions)]
    for number, shape in enumerate(shapes):
        progress(number, len(shapes))
        try:
            for geometry, image in sized(program, shape, target.tech):
                looked_at += 1
                found = area(geometry, target)
                if short := found.excess(target.resources):
                    over = found.overfull(target.resources)
                    misses.append((over, f"{geometry.name} would take {', '.join(short)}"))
                else:
                    points.append(weigh(image, sessions or shape.contexts, found))
        except DoesNotFit as error:
            known = error.needed > error.limit > 0
            misses.append((error.needed / error.limit if known else float("inf"), str(error)))
    progress(len(shapes), len(shapes))
    if not points:
        raise DoesNotFit(
            f"no engine on {target.name} holds {program.name!r}, of {looked_at} geometries that do; "
            f"the closest: {min(misses)[1]}",
            "a smaller model, or a larger board",
        )
    return points, looked_at


def _contexts_for(sessions: int) -> int:
    return next(count for count in CONTEXTS if count >= sessions)


def described(point: Point, clock: float, target: Board) -> dict[str, Any]:
    """Return a point as plain data; ``clock`` in MHz."""
    found = point.area
    return {
        "name": point.geometry.name,
        "tokens_per_second": clock * 1e6 / point.together,
        "tokens_per_second_alone": clock * 1e6 / point.cycles,
        "sessions": point.sessions,
        "cycles_per_token": point.cycles,
        "cycles_per_token_together": round(point.together, 2),
        "latency_us": round(point.cycles / clock, 3),
        "comb": found.comb,
        "ff": found.ff,
        "bram": found.bram,
        **({"spram": found.spram} if found.spram is not None else {}),
        "macs": point.geometry.macs,
        "geometry": asdict(point.geometry),
        "shipped": shipped(target, point.geometry) is not None,
    }


def today(program: Program, target: Board, sessions: int | None) -> Point | None:
    """Return the figures of the board's present engine, None if it does not hold the model."""
    geometry = target.engine
    count = min(sessions or geometry.contexts, geometry.contexts)
    try:
        image = compile_program(program, geometry, fill=False)
        return weigh(image, min(count, len(image.entries)), area(geometry, target))
    except DoesNotFit:
        return None


def explore(
    program: Program,
    target: Board,
    goal: str,
    *,
    sessions: int | None = None,
    clock: float | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Any], list[Point], list[Point]]:
    """Return the table as plain data, the points of the front, and all points.

    Raises UsageError if goal, clock or number of sessions makes no sense, DoesNotFit if no geometry holds the
    program.
    """
    if goal not in GOALS:
        raise UsageError(f"no goal is called {goal!r}", f"choose one of: {', '.join(GOALS)}")
    if sessions is not None and not 1 <= sessions <= CONTEXTS[-1]:
        raise UsageError(f"--sessions is {sessions}, an engine takes 1 to {CONTEXTS[-1]} at a time")
    if clock is not None and not clock > 0:
        raise UsageError(f"a clock of {clock:g} MHz makes no sense", "take a positive number of MHz")
    routed, clock_origin = routed_clock(target)
    mhz, clock_origin = (clock, "given") if clock else (routed, clock_origin)
    points, looked_at = search(program, target, sessions, progress)
    best = front(points, goal)
    for point in best:
        compile_program(program, point.geometry, contexts=point.geometry.contexts)
    now = today(program, target, sessions)
    data = {
        "board": target.name,
        "model": program.name,
        "program_hash": program.hash,
        "goal": goal,
        "clock_mhz": mhz,
        "clock_origin": f"{clock_origin}; the same for every geometry, an assumption",
        "looked_at": looked_at,
        "fitting": len(points),
        "front": [described(point, mhz, target) for point in best],
        "today": {
            **described(now, mhz, target),
            "beaten_by": [point.geometry.name for point in best if point.beats(now)],
        }
        if now
        else None,
        "available": target.resources,
        "origin": "estimate: cycles by the closed-form schedule (held equal to the RTL by tests) x the clock "
        f"above; comb and ff by the area model, within {model_error(target.family):.1%} of every build that "
        "it was checked on; block RAM counted",
    }
    return data, best, points


def write_picture(path: Path, data: dict[str, Any], points: Sequence[Point]) -> None:
    """Draw speed and latency over logic cells: all fitting geometries in grey, the front, today's engine."""
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
            [row["comb"] for row in rows],
            [row[key] for row in rows],
            c=[row["sessions"] for row in rows],
            cmap="viridis",
            vmin=1,
            vmax=4,
            s=16,
            label="front",
        )
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
