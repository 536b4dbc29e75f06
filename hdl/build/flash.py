"""Write a bitstream to a board through openFPGALoader."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ternac.errors import DeviceError, ToolMissing
from ternac.hdl.boards.board import Board

PROGRAM = "openFPGALoader"
HINT = "install openFPGALoader (apt-get install openfpgaloader, or brew install openfpgaloader)"


def check_loader(board: Board) -> None:
    """Raise ToolMissing if openFPGALoader does not know the board."""
    if not board.loader:
        raise ToolMissing(f"{PROGRAM} does not know the {board.title}", board.notes)


def command(board: Board, bitstream: Path, *, permanent: bool, program: str = PROGRAM) -> list[str]:
    """Return the command: into the FPGA's configuration memory, or with ``permanent`` into the board's flash.

    openFPGALoader writes iCE40 boards through their flash only. Raises ToolMissing if it does not know the
    board.
    """
    check_loader(board)
    target = ["--write-flash"] if permanent or board.family == "ice40" else []
    return [program, *board.loader, *target, str(bitstream)]


def find_program() -> str:
    """Return the path of openFPGALoader. Raises ToolMissing if it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise ToolMissing(f"{PROGRAM} is not on the PATH", HINT)
    return program


def flash(board: Board, bitstream: Path, *, permanent: bool) -> list[str]:
    """Write ``bitstream`` to the attached board; return the command that did it.

    Raises ToolMissing if openFPGALoader is not installed, DeviceError if it fails.
    """
    arguments = command(board, bitstream, permanent=permanent, program=find_program())
    status = subprocess.run(arguments, check=False).returncode
    if status != 0:
        raise DeviceError(
            f"{PROGRAM} ended with status {status}",
            f"is the {board.title} plugged in, and may you use its USB device? "
            f"The command was: {' '.join(arguments)}",
        )
    return arguments
