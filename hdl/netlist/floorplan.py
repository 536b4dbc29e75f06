"""Floor plan of an engine on the ECP5-85: a site for each block RAM that belongs to a lane or a column.

Place and route is good at everything but choosing among block RAM sites that are nearly all taken. With those
fixed, lanes gather around their weights and pipelines around their banks, and the wires are a third shorter
(docs/performance.md).
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["place_bare_array", "place_block_rams", "sites"]

COLUMN_ROW = 22
"""Row of block RAMs of what each column has of its own: bank, row corrections, tables."""
LANE_ROWS = ((46, 3), (70, 3), (82, 2))
"""Rows of the weight memory, and the shares of the cells that they take."""
LANE_ROWS_BESIDE_ROWS = ((46, 2), (70, 3), (82, 3))
"""The same in an engine with memories, whose columns have their rows in the first of these."""
_GROUPS = (8, 13)
"""Numbers of groups of chains that lie side by side: the first that divides a stage's cells."""
_COLUMN_MEMORIES = ("BANK", "BIAS", "table")
_CELL = re.compile(r"weight_\d+\.bram_WEIGHT_(\d+)p?_(\d+)$|bram_([A-Za-z]+)_(\d+)_(\d+)$")


BARE_ROWS = (46, 82, 70)
"""Rows of the block RAMs around a bare array: two for weights, between them one for everything else."""
_FEED = re.compile(r"feed_(x|w|sum)_(\d+)$")


def sites(row: int) -> list[str]:
    """The block RAM sites of one row of an LFE5U-85, from left to right, as nextpnr names them."""
    firsts = [*range(4, 59, 9), *range(69, 115, 9)]
    return [f"X{first + (0, 2, 4, 6)[i]}/Y{row}/EBR{i}" for first in firsts for i in range(4)]


def place_block_rams(design: dict[str, Any], top: str = "top", *, stages: int = 4) -> int:
    """Give the block RAMs of weights, banks, corrections, tables and rows of memories in a flat yosys JSON
    netlist a ``BEL`` attribute each; returns how many.

    Weights: a stage's blocks hold the trits of chain after chain, so the same fraction of every one of the
    ``stages`` belongs to the chains whose sums meet first in the tree. The groups of these lie side by
    side, each over all of `LANE_ROWS`. Column memories: side by side in `COLUMN_ROW`; rows of memories, in
    the order of their columns, between the weights nearest to it. A design whose
    memories do not fit these rows is left alone. The embedding, of which a word is read per token and not per
    cycle, takes what is left between the weights, in the order of the columns; so the sites that are left
    between the column memories are for sequencer, sampler and link.
    """
    lanes: list[tuple[int, str]] = []
    columns: list[tuple[int, str]] = []
    memories: list[tuple[int, str]] = []
    embedding: list[tuple[int, str]] = []
    for name, cell in design["modules"][top]["cells"].items():
        found = _CELL.search(name) if cell["type"] == "DP16KD" else None
        if found and found[1]:
            lanes.append((int(found[1]), name))
        elif found and found[3] in _COLUMN_MEMORIES:
            columns.append((int(found[4]), name))
        elif found and found[3] == "ROWS":
            memories.append((int(found[4]), name))
        elif found and found[3] == "EMBED":
            embedding.append((int(found[4]), name))
    shares = LANE_ROWS_BESIDE_ROWS if memories else LANE_ROWS
    plan = _lane_rows([name for _, name in sorted(lanes)], stages, shares)
    nearest, weights = plan[0]
    plan[0] = (nearest, _side_by_side(weights, [name for _, name in sorted(memories)]))
    plan.append((COLUMN_ROW, [name for _, name in sorted(columns)]))
    placed = _place(design, top, plan)
    return placed and placed + _fill(design, top, [name for _, name in sorted(embedding)])


def place_bare_array(design: dict[str, Any], top: str = "top") -> int:
    """The same for the block RAMs around a bare array (`hdl/array/bare.py`), whose chains follow each other
    from left to right: their weights above and below, activations and sums in between.
    """
    feeds: dict[str, list[tuple[int, str]]] = {"w": [], "x": [], "sum": []}
    for name, cell in design["modules"][top]["cells"].items():
        found = _FEED.match(name) if cell["type"] == "PDPW16KD" else None
        if found:
            feeds[found[1]].append((int(found[2]), name))
    weights, *others = (_spread([name for _, name in sorted(feed)]) for feed in feeds.values())
    above, below, between = BARE_ROWS
    room = 2 * len(sites(above))
    rows = {above: weights[:room:2], below: weights[1:room:2], between: weights[room:] + sum(others, [])}
    return _place(design, top, [(row, [name for _, name in sorted(feed)]) for row, feed in rows.items()])


def _spread(names: list[str]) -> list[tuple[float, str]]:
    """Each name with its place from left to right, 0 to 1."""
    return [(i / len(names), name) for i, name in enumerate(names)]


def _side_by_side(*lists: list[str]) -> list[str]:
    """One list of all names, each list spread over the whole of it."""
    return [name for _, name in sorted(place for names in lists for place in _spread(names))]


def _place(design: dict[str, Any], top: str, plan: list[tuple[int, list[str]]]) -> int:
    """Spread the cells of each row over its sites, unless one has too many; returns how many are placed."""
    if any(len(names) > len(sites(row)) for row, names in plan):
        return 0
    for row, names in plan:
        free = sites(row)
        for i, name in enumerate(names):
            site = free[(2 * i + 1) * len(free) // (2 * len(names))]
            design["modules"][top]["cells"][name].setdefault("attributes", {})["BEL"] = site
    return sum(len(names) for _, names in plan)


def _fill(design: dict[str, Any], top: str, names: list[str]) -> int:
    """Put the cells on the sites that are free in `LANE_ROWS`, from the last row up, from left to right; none
    if there are too few.
    """
    cells = design["modules"][top]["cells"]
    taken = {cell.get("attributes", {}).get("BEL") for cell in cells.values()}
    free = [site for row, _ in LANE_ROWS[::-1] for site in sites(row) if site not in taken][: len(names)]
    if len(free) < len(names):
        return 0
    for name, site in zip(names, sorted(free, key=_across), strict=True):
        cells[name].setdefault("attributes", {})["BEL"] = site
    return len(names)


def _across(site: str) -> int:
    """The horizontal place of a site."""
    return int(site[1 : site.index("/")])


def _lane_rows(
    cells: list[str], stages: int, shares: tuple[tuple[int, int], ...]
) -> list[tuple[int, list[str]]]:
    """The cells of the weight memory, in the order of their blocks, by row and from left to right."""
    rows: list[tuple[int, list[str]]] = [(row, []) for row, _ in shares]
    per_stage = len(cells) // stages
    groups = next((count for count in _GROUPS if len(cells) % (stages * count) == 0), 0)
    if not groups:
        return rows
    whole = sum(share for _, share in shares)
    for group in range(groups):
        part = range(group * per_stage // groups, (group + 1) * per_stage // groups)
        own = [cells[stage * per_stage + i] for i in part for stage in range(stages)]
        first = 0
        for (_, names), (_, share) in zip(rows, shares, strict=True):
            last = first + share * len(own) // whole
            names += own[first:last]
            first = last
        rows[-1][1].extend(own[first:])
    return rows
