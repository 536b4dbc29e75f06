"""The passes over an ECP5 netlist between synthesis and place and route."""

from __future__ import annotations

from typing import Any

from ternac.hdl.cells.carry import trim_carries
from ternac.hdl.netlist.carries import chain_carries, fold_constant_pins
from ternac.hdl.netlist.floorplan import place_bare_array, place_block_rams
from ternac.hdl.sdram.floorplan import place_sdram_engine

__all__ = ["PASSES", "prepare"]

PASSES = ("trim-carries 1", "fold-zeros 1", "join-carries 1", "place-block-rams 1")
"""The passes in their order, part of a plan's hash: raise a number when its pass makes another netlist.
The last one is all floor plans."""


def prepare(design: dict[str, Any], top: str = "top", *, floor_plan: bool = True) -> int:
    """Apply all passes to ``design``, a flat yosys JSON netlist, in place; return how many block RAMs a floor
    plan places. No output bit of the design changes.

    ``floor_plan``: False leaves out the last one, whose sites are those of an ECP5-85.
    """
    trim_carries(design)
    fold_constant_pins(design, top)
    chain_carries(design, top)
    if not floor_plan:
        return 0
    return place_block_rams(design, top) + place_sdram_engine(design, top) + place_bare_array(design, top)
