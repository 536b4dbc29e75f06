"""A board from a Python file: ``BOARD``, declared as an entry of the table is (docs/add_your_board.md)."""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Collection
from functools import cache
from pathlib import Path

from ternac.errors import UsageError
from ternac.hdl.boards.board import Board

__all__ = ["is_file_name", "load_board"]

HINT = "docs/add_your_board.md has a file that works"


def is_file_name(given: str) -> bool:
    """Return whether a name is that of a file, not of a board in the table."""
    return given.endswith(".py") or "/" in given


def load_board(given: str, taken: Collection[str] = ()) -> Board:
    """Run a Python file, which is code of its owner's, and return its ``BOARD``.

    Raises UsageError, which names file and line, if it cannot be read or fails, if there is no board in it,
    or if the board's name is ``taken``.
    """
    path = Path(given)
    if not path.is_file():
        raise UsageError(f"there is no board file {given}", HINT)
    found = _run(str(path.resolve()))
    if found.name in taken:
        raise UsageError(
            f"{given}: the name {found.name!r} is that of a board in the package", "take another"
        )
    return found


@cache
def _run(path: str) -> Board:
    try:
        names = runpy.run_path(path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}", error.hint) from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"{_place(path, error)}: {type(error).__name__}: {error}", HINT) from None
    if not isinstance(names.get("BOARD"), Board):
        what = (
            f"BOARD is a {type(names['BOARD']).__name__}" if "BOARD" in names else "there is no BOARD in it"
        )
        raise UsageError(f"{path}: {what}, not a Board", HINT)
    found: Board = names["BOARD"]
    return found


def _place(path: str, error: BaseException) -> str:
    """Name the file, and the line of it where ``error`` came up."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{path}, line {lines[-1]}" if lines else path
