"""Area of an engine on a board, from its geometry alone: logic cells, registers and block RAM.

Block RAM is counted: it is exactly what synthesis instantiates or infers. Logic cells and registers are the
sum of a few groups of parts. Each group is a closed form where the structure gives one (dot units, LUT RAM)
and a sum of counts (pipelines, columns, contexts, ...) times coefficients. The coefficients are least squares
over the builds in ``area_data.json``, which `hdl/planner/measure.py` makes; so a change of the RTL asks for
that command and for no edit here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.errors import DoesNotFit, UsageError, require
from ternac.hdl.array.dot import array_latency
from ternac.hdl.array.xbuffer import XBuffer
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import board
from ternac.hdl.cells.bram_cells import BramSlice, max_depth, slices_of
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.memories import PAIRS_A_REGISTER
from ternac.hdl.link.frames import RAM_DEPTH
from ternac.hdl.link.top import line_buffers
from ternac.hdl.netlist.parts import LUT_RAM_COMB
from ternac.link import WINDOW

__all__ = [
    "DATA", "GROUPS", "Area", "accumulator_bits", "area", "block_rams", "builds", "coefficients", "dot_units",
    "dot_widths", "model_error", "single_port_rams",
]  # fmt: skip

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
    """An engine's share of a board's chip; ``comb`` and ``ff`` by group, block RAM by memory."""

    comb: int
    ff: int
    bram: int
    spram: int | None
    comb_by_group: dict[str, int]
    ff_by_group: dict[str, int]
    bram_by_memory: dict[str, int]

    @property
    def used(self) -> dict[str, int]:
        """The figures under the keys of a board's resources."""
        return {"comb": self.comb, "ff": self.ff, "bram": self.bram, "spram": self.spram or 0}

    def excess(self, resources: Mapping[str, int]) -> list[str]:
        """Return the resources that are not enough, in words; none if the engine fits."""
        return [
            f"{self.used[key]:,} {key} of {limit:,}"
            for key, limit in resources.items()
            if self.used[key] > limit
        ]

    def overfull(self, resources: Mapping[str, int]) -> float:
        """Return use over what there is, of the scarcest resource."""
        return max(self.used[key] / limit for key, limit in resources.items())


# ---- dot units ------------------------------------------------------------------------------------------

_BYTE = 8
DECODER = 15
"""Tables that decode a byte of five trits."""


def _bits(terms: int) -> int:
    """Return the width of a sum of ``terms`` activations."""
    return _BYTE + (terms - 1).bit_length()


def accumulator_bits(geometry: Geometry) -> int:
    """Return the width of a row's sum."""
    return _bits(geometry.x_depth * geometry.lanes)


def dot_widths(geometry: Geometry) -> tuple[list[int], list[int], int]:
    """Return, of one unit, the widths of the adders with a gate in front, of those without, and registers.

    The accumulator's adder, whose gate keeps or drops the sum so far, is not among them.
    """
    g = geometry
    groups, gated, plain, registers = g.chains // g.fold, [], [], 0
    for stage in range(g.chain):
        lanes = range(stage * g.fold, (stage + 1) * g.fold)
        gated += [_bits(lane + 1) for lane in lanes if lane]
        registers += _bits(lanes[-1] + 1)
    gated, registers = gated * groups, registers * groups
    sums, terms = groups, g.chain * g.fold
    while sums > 1:
        above = -(-sums // g.radix)
        for i in range(above):
            count = min(g.radix, sums - i * g.radix)
            widths = [min(_bits(n * terms), _bits(g.lanes)) for n in range(1, count + 1)]
            plain += widths[1:]
            registers += widths[-1]
        sums, terms = above, terms * g.radix
    return gated, plain, registers + accumulator_bits(g)


def dot_units(geometry: Geometry, tech: Technology) -> tuple[int, int]:
    """Return COMB (logic cells on iCE40) and FF of all dot units, which add one carry cell after the other.

    With the x buffer and the registers of weights, flags and addresses.
    """
    g = geometry
    gated, plain, registers = dot_widths(g)
    acc, gates = accumulator_bits(g), _BYTE * (g.chains // g.fold)
    x_banks = -(-g.x_depth // 16)
    x_rams = g.chain * -(-_BYTE * g.chains // 4) * x_banks
    if tech is Technology.ECP5:
        # a carry cell holds two bits; each chain begins with half of one
        adders = sum(2 * (-(-(width + 1) // 2)) for width in (*gated, *plain, acc))
        comb = g.columns * (adders + gates) + 6 * x_rams + _BYTE * g.lanes * (x_banks - 1)
        held = 2 * _BYTE * g.lanes
    else:
        # a gate is a table of its own
        adders = sum(gated) + _BYTE * len(gated) + sum(plain) + 2 * acc
        comb = g.columns * (adders + gates)
        held = _BYTE * g.lanes + g.chain * g.stage_bits
        if tech is Technology.GOWIN:
            comb += LUT_RAM_COMB * x_rams + _BYTE * g.lanes * (x_banks - 1)
            held += _BYTE * g.lanes
    if g.weight_register:
        held += 2 * g.columns * g.lanes
    if g.weight_code == "five":
        comb += DECODER * g.chain * g.stage_bits // 8
    held += _control(g, tech)
    if tech is not Technology.ECP5:  # what no table feeds takes a logic cell of its own
        comb += held
    return comb, g.columns * registers + held


def _control(g: Geometry, tech: Technology) -> int:
    """Count the registers of flags and addresses on their way to the stages, and of x buffer writes."""
    flags = 3 * (array_latency(g) + 3)
    weight_places = (
        max(1, g.weight_blocks_per_stage // 2 // PAIRS_A_REGISTER) if g.weight_ram == "paired" else 1
    )
    x_places = math.gcd(g.chains, XBuffer.PLACES) if tech is Technology.ECP5 else 1
    weights = ceil_log2(g.weight_depth) * g.chain * (1 + weight_places)
    reads = ceil_log2(g.x_depth) * g.chain * x_places
    return flags + weights + reads + _BYTE * g.pipelines + g.lanes // g.pipelines


# ---- block RAM ------------------------------------------------------------------------------------------

_C_BITS = 9
"""Bits of operand C, all that is read of the second copy of a bank."""
_LUT_RAM_COST, _BLOCK_RAM_COST = 4, 128
"""Cost of a DPR16X4 and of a DP16KD to yosys, which chooses the form of a memory by it."""


def _cells(tech: Technology, width: int, depth: int, used: int | None = None) -> int:
    """Count the cells of ``depth`` words of ``width`` bits, of which the lowest ``used`` are read.

    Components cut memories into cells by the same rule (`hdl/cells/bram_cells.py`).
    """
    most = max_depth(tech)
    banks = [min(most, depth - first) for first in range(0, depth, most)]
    wanted = width if used is None else used
    slices: list[BramSlice] = [s for bank in banks for s in slices_of(tech, "ram", 0, width, bank)]
    return sum(1 for cell in slices if cell.first_bit < wanted)


def sampler_in_block_ram(geometry: Geometry, tech: Technology) -> bool:
    """Return whether yosys puts the sampler's logits in block RAM: on ECP5 only if that costs no more."""
    if tech is Technology.ICE40:
        return True
    bits, slots = 16 * geometry.columns, geometry.logit_slots
    lut_rams = -(-bits // 4) * -(-slots // 16)
    return _LUT_RAM_COST * lut_rams >= _BLOCK_RAM_COST * -(-bits // 36) * -(-slots // 512)


def block_rams(geometry: Geometry, tech: Technology, window: int = WINDOW) -> dict[str, int]:
    """Count block RAM cells by memory, board and link included.

    Raises DoesNotFit if the device has no cells for the form or depth of a memory.
    """
    g, ice = geometry, tech is Technology.ICE40
    _check(g, tech)
    weights, embed = g.memory(Mem.WEIGHT), g.memory(Mem.EMBED)
    found = {
        "program": 2 * _cells(tech, 16, g.program_depth // 2),
        "bias": g.pipelines * _cells(tech, g.bias_bits, g.bias_depth * g.share),
        "bank": g.pipelines * _cells(tech, 16, g.bank_depth * g.share),
        "bank_c": g.pipelines * _cells(tech, 16, g.bank_depth * g.share, used=_C_BITS),
        "table": g.pipelines * _cells(tech, 16, g.tables * 256),
        **({"rows": g.columns * _cells(tech, 8, g.rows)} if g.rows and not g.rows_in_luts else {}),
        "norm": -(-g.norm_tables * 256 // (512 if ice else 2048)),
        "exponential": 1,
        "link": RAM_DEPTH // 512 if ice else 1,
        "line": line_buffers(window),
    }
    if g.spans:
        found["span"] = 1
    if g.weight_ram == "paired":
        found["weight"] = g.weight_blocks // 2
    elif g.weight_ram == "block":
        found["weight"] = weights.blocks * _cells(tech, weights.bits, weights.depth)
    if g.weight_ram != "spram":
        found["embed"] = embed.blocks * _cells(tech, embed.bits, embed.depth)
    if ice:
        found["x"] = g.chain * -(-8 * g.chains // 16)
        found["logits"] = -(-16 * g.columns // 16) * -(-g.logit_slots // 256)
    elif sampler_in_block_ram(g, tech):
        found["logits"] = -(-16 * g.columns // 36) * -(-g.logit_slots // 512)
    return found


def single_port_rams(geometry: Geometry) -> int:
    """Count the iCE40's single-port RAM cells."""
    if geometry.weight_ram != "spram":
        return 0
    return sum(shape.blocks * -(-shape.bits // 16) for shape in map(geometry.memory, (Mem.WEIGHT, Mem.EMBED)))


def _check(g: Geometry, tech: Technology) -> None:
    if g.weight_ram == "spram" and tech is not Technology.ICE40:
        raise DoesNotFit(f"{g.name}: weights in single-port RAM, which {tech.value} does not have")
    if g.weight_ram == "paired" and tech is not Technology.ECP5:
        raise DoesNotFit(f"{g.name}: paired weight blocks, which {tech.value} has no form for")
    most = max_depth(tech)
    wide = most if g.weight_ram != "spram" else 1 << 14
    for what, depth, limit in (
        ("weight_depth", g.weight_depth, wide),
        ("embed_depth", g.embed_depth, wide),
        ("bank_depth * share", g.bank_depth * g.share, most),
        ("tables * 256", g.tables * 256, most),
        ("program_depth / 2", g.program_depth // 2, most),
    ):
        message = f"{g.name}: {what} is {depth}, a memory of {tech.value} holds {limit} words"
        require(what, depth, limit, message)


# ---- the model ------------------------------------------------------------------------------------------

Terms = dict[str, tuple[tuple[int, int], dict[str, float]]]


def _terms(g: Geometry, tech: Technology) -> Terms:
    """Return, for each group, COMB and FF in closed form and the counts that have coefficients."""
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
                "pipelined broadcast": g.pipelined_broadcast,
            },
        ),
        "sampler": (
            (_logits(g, tech), 0),
            {"full pace": g.sampler_pace == 1, "quarter pace": g.sampler_pace > 1, "columns": columns},
        ),
        "carry feeds": (none, {"1": 1, "pipelines": pipes, "side columns": columns * side}),
    }


def _array(g: Geometry, tech: Technology) -> dict[str, float]:
    """Count what surrounds the dot units: memories' ports, sums on their way to pipelines, loader, flags."""
    counts: dict[str, float] = {
        "1": 1,
        "pipelines": g.pipelines,
        "bits of sums that wait their turn": (g.columns - g.pipelines) * accumulator_bits(g),
        "contexts above 1": g.contexts - 1,
    }
    if tech is not Technology.ICE40:
        counts["columns"] = g.columns
    return counts


def _side_rams(g: Geometry) -> int:
    """Count the COMB of one side column's LUT RAM and multiplicands.

    16 bits a slot in banks of 16; half a table for each bit and bank chooses one.
    """
    banks = -(-g.lane_depth // 16)
    return 6 * (4 * banks + 2) + 8 * banks if banks else 0


def _logits(g: Geometry, tech: Technology) -> int:
    """Count the COMB of the sampler's memory if it is LUT RAM."""
    if sampler_in_block_ram(g, tech):
        return 0
    banks = -(-g.logit_slots // 16)
    return g.columns * (24 * banks + (8 * banks if banks > 1 else 0))


ROWS_OF_COLUMN = {
    "sum and write": (131, 70),
    "winners": (47, 43),
    "a source of v0": (11, 0),
    "results and digits on their way": (0, 55),
}
"""COMB and FF of a column for rows. Synthesis for ECP5 of a `RowColumn` and of `Winners` of 4, 8 and 12
columns alone, the rest as the parts of the shipped ulx3s-85f-rows take it."""
ROWS_OF_ENGINE = {"address former": (245, 98), "winners": (114, 62), "sequencer and passes": (520, 151)}
"""The same of what an engine has once, whatever its columns."""
ROWS_OF_LIST = 60
"""COMB of sixteen words of one column's digits: two read ports of LUT RAM, and their part in the choice."""


ROWS_OF_MOVER = (1286, 515)
"""The same of what brings rows from an SDRAM, synthesized for ECP5 with twelve columns."""
WORDS_IN_LUTS, LUTS_OF_WORDS = 128, (121, 16)
"""What a column's row RAM of so many words takes in LUT RAM, beyond one in block RAM."""


SPANS = (476, 355)
"""COMB and FF by which a sampler that reports spans is larger: synthesis for ECP5 of that of 12 columns."""


def _rows(g: Geometry) -> tuple[int, int]:
    """Return COMB and FF of all that an engine has for rows."""
    each = (tuple(v * g.columns for v in value) for value in ROWS_OF_COLUMN.values())
    comb, ff = (sum(values) for values in zip(*each, *ROWS_OF_ENGINE.values(), strict=True))
    banks = -(-(g.list_slots << ceil_log2(g.contexts)) // 16)
    comb += ROWS_OF_LIST * g.columns * banks
    if g.stores_rows:
        comb, ff = comb + ROWS_OF_MOVER[0], ff + ROWS_OF_MOVER[1]
    if g.rows_in_luts:
        share = g.columns * g.rows / WORDS_IN_LUTS
        comb, ff = comb + round(LUTS_OF_WORDS[0] * share), ff + LUTS_OF_WORDS[1] * g.columns
    return comb, ff


@cache
def builds() -> tuple[dict[str, Any], ...]:
    """Return the measured builds: board, fitted, geometry, comb, ff, bram (spram) and parts of each."""
    rows = json.loads(DATA.read_text())["samples"]
    return tuple({**row, "geometry": Geometry(**row["geometry"])} for row in rows)


@cache
def coefficients(family: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the COMB and FF that one more of a count takes, by group and count.

    Raises UsageError if no build of the family is measured.
    """
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
    """Return the largest relative error of ``comb`` and ``ff`` over all measured builds of a family."""
    errors = [
        abs(getattr(area(row["geometry"], target), key) / row[key] - 1)
        for row in builds()
        if (target := board(row["board"])).family == family
        for key in ("comb", "ff")
    ]
    return max(errors)


def area(geometry: Geometry, target: Board) -> Area:
    """Return the area of the board's bitstream with an engine of this geometry.

    Raises DoesNotFit if the device has no cells for the form or depth of a memory.
    """
    rams = block_rams(geometry, target.tech, target.window)
    fitted = coefficients(target.family)
    by_group = {}
    for group, (closed, counts) in _terms(geometry, target.tech).items():
        own = fitted[group]
        by_group[group] = tuple(
            max(0, round(closed[i] + sum(own[name][i] * count for name, count in counts.items())))
            for i in range(2)
        )
    if geometry.rows:
        by_group["rows"] = _rows(geometry)
    if geometry.spans:
        by_group["spans"] = SPANS
    comb = {group: figures[0] for group, figures in by_group.items()}
    ff = {group: figures[1] for group, figures in by_group.items()}
    spram = single_port_rams(geometry) if "spram" in target.resources else None
    return Area(sum(comb.values()), sum(ff.values()), sum(rams.values()), spram, comb, ff, rams)
