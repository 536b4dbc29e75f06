"""The parts of an engine: as its components declare them, and none without a cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from amaranth.hdl import Fragment

from ternac.compile.geometry import preset
from ternac.errors import BuildFailed
from ternac.hdl.boards.boards import BOARDS
from ternac.hdl.boards.design import EngineDesign
from ternac.hdl.netlist.parts import PARTS, part_of, require_engine


def declared(fragment: Any, path: str) -> Iterator[tuple[str, str]]:
    """Path and part of every component that declares one."""
    for origin in fragment.origins or ():
        if hasattr(origin, "AREA_PART"):
            yield path, origin.AREA_PART
    for sub, name, _ in fragment.subfragments:
        yield from declared(sub, f"{path}.{name}")


@pytest.mark.parametrize("geometry", ["tiny", "tiny-rows", "icebreaker", "ulx3s-85f-sdram"])
def test_every_component_lies_in_the_part_that_it_declares(geometry: str) -> None:
    board = BOARDS["icebreaker" if geometry == "icebreaker" else "ulx3s-85f"]
    design = EngineDesign(board, preset(geometry), board.clock_hz, bytes(16))
    found = dict(declared(Fragment.get(design, None), "payload"))
    assert {path: part_of(f"{path}.signal") for path in found} == found
    assert {"array", "pipelines", "norm", "control", "columns", "sampler", "sequencer"} <= set(found.values())


def test_a_part_without_a_cell_is_an_error() -> None:
    parts = {name: {"comb": 1, "ff": 0} for name in PARTS}
    require_engine(parts)
    parts["sampler"] = {"comb": 0, "ff": 0}
    with pytest.raises(BuildFailed, match="no cell of the netlist belongs to sampler"):
        require_engine(parts)
