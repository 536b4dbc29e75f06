"""The bitstream of a whole engine on a board's SDRAM: shipped, from the cache, or built now, as
`ternac.hdl.build.bitstream` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ternac import cache
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.errors import BuildFailed, UsageError
from ternac.files import write_bytes
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.boards.design import WideDesign
from ternac.hdl.build.bitstream import ship, shipped_figures
from ternac.hdl.build.plan import Plan, id_literal, make_plan
from ternac.hdl.build.recipe import build
from ternac.hdl.wide.shapes import WIDE_SHAPES, WideShape
from ternac.manifest import in_checkout

__all__ = ["WIDE_BOARDS", "wide_board", "wide_for", "wide_plan"]

WIDE_BOARDS = ("ulx3s-85f",)
"""Boards with an engine for whole imported models, which their `WideShape` is named after."""
_ENGINE_ONLY = ("parts", "memories")
"""Figures of an engine that holds its weights: its parts, and where a model's words lie."""


def wide_board(name: str) -> tuple[Board, WideShape]:
    """Return a board at the clock of its engine for whole models, and that engine.

    Raises UsageError if it has none.
    """
    target = board(name)
    if target.name not in WIDE_BOARDS:
        raise UsageError(
            f"{target.name} has no engine for whole imported models",
            f"boards with one: {', '.join(WIDE_BOARDS)}; as Verilog: ternac emit --top wide",
        )
    timed = replace(target, clock_hz=NOMINAL_HZ, target_hz=70_000_000, route=("--router", "router2"), seed=1)
    return timed, WIDE_SHAPES[f"{target.name}-wide"]


def wide_plan(target: Board, shape: WideShape) -> Plan:
    """Return the plan of a bitstream. Raises BuildFailed if the design does not report its ID."""
    plan = make_plan(
        target,
        target.clock_hz,
        shape.hash,
        lambda identity: WideDesign(target, shape, ULX3S_CHIP, target.clock_hz, identity),
    )
    if id_literal(plan.bitstream_id) not in plan.design:
        raise BuildFailed("the design does not report the bitstream ID", "the link controller must hold it")
    return plan


def wide_for(
    board_name: str, say: Callable[[str], None], *, force: bool = False, out: Path | None = None
) -> dict[str, Any]:
    """Return the figures of a board's bitstream for whole models; build it if need be, or with ``force``.

    ``out``: copy it there. Raises UsageError, BuildFailed or ToolMissing.
    """
    target, shape = wide_board(board_name)
    shipped = "--force is given" if force else shipped_figures(target, shape)
    if isinstance(shipped, str):
        say(f"{shipped}: elaborating {shape.name} at {target.clock_hz / 1e6:g} MHz for {target.name}")
        warn = f"placing and routing {shape.name} for {target.name} now: ten minutes and more"
        figures = build(wide_plan(target, shape), cache.folder("bitstreams"), say, force=force, warn=warn)
        figures = {key: value for key, value in figures.items() if key not in _ENGINE_ONLY}
        ran = ", ".join(figures["steps_run"])
        figures["origin"] = f"built here: {ran}" if ran else "built here before"
        if in_checkout() and target.name in BOARDS:
            ship(target, shape, figures, f"ternac build --board {target.name} --wide --force")
    else:
        figures = {**shipped, "steps_run": [], "origin": "shipped bitstream"}
    figures["geometry"] = shape.name
    if out is not None:
        write_bytes(out, Path(figures["bitstream"]).read_bytes())
        figures["bitstream"] = str(out)
    return figures
