"""Logic cells and registers of an engine on a board, from its geometry alone.

An engine's area is the sum of a few groups of parts. Each group is a closed form where the structure gives
one (dot units, LUT RAM) and a sum of counts (pipelines, columns, contexts, ...) times coefficients. The
coefficients are least squares over the builds in ``area_data.json``, which `hdl/planner/measure.py` makes;
so a change of the RTL asks for that command and for no edit here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.errors import UsageError
from ternac.hdl.boards.boards import Board, board
from ternac.hdl.cells.tech import Technology
from ternac.hdl.planner.area_dot import accumulator_bits, dot_units
from ternac.hdl.planner.area_rams import block_rams, sampler_in_block_ram, single_port_rams

__all__ = ["DATA", "GROUPS", "Area", "area", "builds", "coefficients", "model_error"]

DATA = Path(__file__).with_name("area_data.json")

GROUPS: dict[str, tuple[str, ...]] = {
    "array": ("array", "columns", "memories"),
    "pipelines": ("pipelines",),
    "side columns": ("side_columns",),
    "norm": ("norm", "side_lane"),
    "control": ("control", "sequencer", "core", "link", "board"),
    "sampler": ("sampler",),
    "carry feeds": ("packing",),
}
"""Parts (`hdl/netlist/parts.py`) whose borders synthesis blurs are one group."""


@dataclass(frozen=True)
class Area:
    """What an engine takes of a board's chip; ``comb`` and ``ff`` by group, block RAM by memory."""

    comb: int
    ff: int
    bram: int
    spram: int | None
    comb_by_group: dict[str, int]
    ff_by_group: dict[str, int]
    bram_by_memory: dict[str, int]

    @property
    def used(self) -> dict[str, int]:
        """Under the keys of a board's resources."""
        return {"comb": self.comb, "ff": self.ff, "bram": self.bram, "spram": self.spram or 0}

    def excess(self, resources: dict[str, int]) -> list[str]:
        """The resources that are not enough, in words; empty when the engine fits."""
        return [
            f"{self.used[key]:,} {key} of {limit:,}"
            for key, limit in resources.items()
            if self.used[key] > limit
        ]

    def overfull(self, resources: dict[str, int]) -> float:
        """The scarcest resource's use over what there is."""
        return max(self.used[key] / limit for key, limit in resources.items())


Terms = dict[str, tuple[tuple[int, int], dict[str, float]]]


def _terms(g: Geometry, tech: Technology) -> Terms:
    """Per group: COMB and FF in closed form, and the counts that have coefficients."""
    side, alone = int(g.lane_depth > 0), int(g.lane_depth == 0)
    columns, pipes = g.columns, g.pipelines
    none = (0, 0)
    lane_depth_bits = ceil_log2(g.lane_depth) if side else 0
    return {
        "array": (dot_units(g, tech), _array(g, tech)),
        "pipelines": (none, {"1": 1, "pipelines": pipes, "with squares": pipes * alone}),
        "side columns": (
            (columns * _side_rams(g), 0),
            {"columns": columns * side, "address bits of a column": columns * lane_depth_bits},
        ),
        "norm": (
            none,
            {"side lane": side, "columns": columns * side, "norm alone": alone, "its sums": pipes * alone},
        ),
        "control": (
            none,
            {
                "1": 1,
                "contexts above 1": g.contexts - 1,
                "several contexts": g.contexts > 1,
                "side lane": side,
                "wide": g.wide,
            },
        ),
        "sampler": (
            (_logits(g, tech), 0),
            {"full pace": g.sampler_pace == 1, "quarter pace": g.sampler_pace > 1, "columns": columns},
        ),
        "carry feeds": (none, {"1": 1, "pipelines": pipes, "side columns": columns * side}),
    }


def _array(g: Geometry, tech: Technology) -> dict[str, float]:
    """What surrounds the dot units: memories' ports, the sums' way into the pipelines, loader, flags."""
    counts: dict[str, float] = {
        "1": 1,
        "pipelines": g.pipelines,
        "bits of sums that wait their turn": (g.columns - g.pipelines) * accumulator_bits(g),
        "contexts above 1": g.contexts - 1,
    }
    if tech is Technology.ECP5:
        counts["columns"] = g.columns
    return counts


def _side_rams(g: Geometry) -> int:
    """COMB of one side column's LUT RAM: 16 bits a slot in banks of 16, half a table a bit and bank to choose
    one; and the multiplicands."""
    banks = -(-g.lane_depth // 16)
    return 6 * (4 * banks + 2) + 8 * banks if banks else 0


def _logits(g: Geometry, tech: Technology) -> int:
    """COMB of the sampler's memory where it is LUT RAM."""
    if sampler_in_block_ram(g, tech):
        return 0
    banks = -(-g.logit_slots // 16)
    return g.columns * (24 * banks + (8 * banks if banks > 1 else 0))


@cache
def builds() -> tuple[dict[str, Any], ...]:
    """The measured builds: ``board``, ``fitted``, ``geometry`` (a Geometry), ``comb``, ``ff``, ``bram``,
    ``parts``."""
    rows = json.loads(DATA.read_text())["samples"]
    return tuple({**row, "geometry": Geometry(**row["geometry"])} for row in rows)


@cache
def coefficients(family: str) -> dict[str, dict[str, tuple[float, float]]]:
    """By group and count: COMB and FF that one of it takes. UsageError for a family without builds."""
    rows = [row for row in builds() if row["fitted"] and board(row["board"]).family == family]
    if not rows:
        raise UsageError(f"no build of {family} is measured", "python -m ternac.hdl.planner.measure --write")
    tech = board(rows[0]["board"]).tech
    terms = [_terms(row["geometry"], tech) for row in rows]
    found = {}
    for group, parts in GROUPS.items():
        names = list(terms[0][group][1])
        counts = np.array([[float(t[group][1][name]) for name in names] for t in terms])
        closed = np.array([t[group][0] for t in terms], float)
        measured = np.array([_sum(row["parts"], parts) for row in rows], float)
        fitted = np.linalg.lstsq(counts, measured - closed, rcond=1e-9)[0]
        found[group] = {name: (float(c), float(f)) for name, (c, f) in zip(names, fitted, strict=True)}
    return found


def _sum(parts: dict[str, dict[str, int]], names: Iterable[str]) -> tuple[int, int]:
    return sum(parts[name]["comb"] for name in names), sum(parts[name]["ff"] for name in names)


@cache
def model_error(family: str) -> float:
    """The largest relative error of ``comb`` and ``ff`` over all measured builds of a family."""
    errors = [
        abs(getattr(area(row["geometry"], target), key) / row[key] - 1)
        for row in builds()
        if (target := board(row["board"])).family == family
        for key in ("comb", "ff")
    ]
    return max(errors)


def area(geometry: Geometry, target: Board) -> Area:
    """The area of the board's bitstream with an engine of this geometry.

    Raises DoesNotFit where a memory is of a form or depth that the device has no cells for.
    """
    rams = block_rams(geometry, target.tech)
    fitted = coefficients(target.family)
    by_group = {}
    for group, (closed, counts) in _terms(geometry, target.tech).items():
        own = fitted[group]
        by_group[group] = tuple(
            max(0, round(closed[i] + sum(own[name][i] * count for name, count in counts.items())))
            for i in range(2)
        )
    comb = {group: figures[0] for group, figures in by_group.items()}
    ff = {group: figures[1] for group, figures in by_group.items()}
    spram = single_port_rams(geometry) if "spram" in target.resources else None
    return Area(sum(comb.values()), sum(ff.values()), sum(rams.values()), spram, comb, ff, rams)
