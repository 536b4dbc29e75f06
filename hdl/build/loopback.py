"""The loopback bitstream of a board: shipped, from the cache, or built now, as `ternac.hdl.build.bitstream`
says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ternac import cache
from ternac.errors import BuildFailed
from ternac.files import write_bytes
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.build.bitstream import ship, shipped_figures
from ternac.hdl.build.plan import Plan, id_literal, make_plan
from ternac.hdl.build.recipe import build
from ternac.hdl.diagnostics.design import LoopbackDesign, loopback_board
from ternac.hdl.diagnostics.registers import LOOPBACK
from ternac.manifest import in_checkout

__all__ = ["loopback_for", "loopback_plan"]

_ENGINE_ONLY = ("parts", "memories")
"""Figures of an engine: its parts, and where a model's words lie."""


def loopback_plan(target: Board) -> Plan:
    """Return the plan of a board's loopback. Raises UsageError if there is none for its chip, BuildFailed if
    the design does not report its ID.
    """
    timed = loopback_board(target)
    plan = make_plan(
        timed, timed.clock_hz, LOOPBACK.hash, lambda identity: LoopbackDesign(timed, timed.clock_hz, identity)
    )
    if id_literal(plan.bitstream_id) not in plan.design:
        raise BuildFailed("the design does not report the bitstream ID", "the link controller must hold it")
    return plan


def loopback_for(
    board_name: str, say: Callable[[str], None], *, force: bool = False, out: Path | None = None
) -> dict[str, Any]:
    """Return the figures of a board's loopback bitstream; build it if need be, or with ``force``.

    ``out``: copy it there. Raises UsageError, BuildFailed or ToolMissing.
    """
    target = loopback_board(board(board_name))
    shipped = "--force is given" if force else shipped_figures(target, LOOPBACK)
    if isinstance(shipped, str):
        say(f"{shipped}: elaborating the loopback for {target.name} at {target.clock_hz / 1e6:g} MHz")
        warn = f"placing and routing the loopback for {target.name} now: minutes"
        figures = build(loopback_plan(target), cache.folder("bitstreams"), say, force=force, warn=warn)
        figures = {key: value for key, value in figures.items() if key not in _ENGINE_ONLY}
        ran = ", ".join(figures["steps_run"])
        figures["origin"] = f"built here: {ran}" if ran else "built here before"
        if in_checkout() and target.name in BOARDS:
            ship(target, LOOPBACK, figures, f"ternac build --board {target.name} --loopback --force")
    else:
        figures = {**shipped, "steps_run": [], "origin": "shipped bitstream"}
    figures["geometry"] = LOOPBACK.name
    if out is not None:
        write_bytes(out, Path(figures["bitstream"]).read_bytes())
        figures["bitstream"] = str(out)
    return figures
