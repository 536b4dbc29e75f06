"""Boards of a soak: in Python or in RTL (CXXRTL), each behind a function from bytes to bytes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol

from ternac.sim.link_model import LinkModel
from tests.host.adversary import Clock
from tests.host.boards import Line as PlainLine
from tests.host.boards import make_board
from tests.upsets.campaign import Board, Line, device
from tests.upsets.design import board_with_faults
from tests.upsets.model_board import GEOMETRY, IMAGE

__all__ = ["GEOMETRY", "IMAGE", "PythonBoard", "RtlBoard", "SoakBoard"]


class SoakBoard(Protocol):
    """A board that can be configured again, with its program in the bitstream (``restart``), or without."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those that it answers."""

    def restart(self) -> None:
        """Configure it again: it holds the program, and no session."""

    def power_down(self) -> None:
        """Configure it again, empty."""

    def close(self) -> None:
        """End it."""


class PythonBoard:
    """`LinkModel`."""

    def __init__(self) -> None:
        line = PlainLine(make_board(IMAGE))
        with device(line):
            pass
        line.board.restart()
        self._loaded: LinkModel = line.board
        self.model = make_board(IMAGE)

    def feed(self, data: bytes) -> bytes:
        return self.model.feed(data)

    def restart(self) -> None:
        self.model = copy.deepcopy(self._loaded)

    def power_down(self) -> None:
        self.model = make_board(IMAGE)

    def close(self) -> None:
        """Nothing is open."""


class RtlBoard:
    """The simulated board of `tests.upsets`, its processes in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._board = Board(board_with_faults(GEOMETRY), folder)
        self._line = Line(folder / "empty", Clock())

    def feed(self, data: bytes) -> bytes:
        self._line.write(data)
        found = b""
        while not self._line.quiet:
            found += self._line.read(0)
        return found

    def restart(self) -> None:
        self._line.restart(self._board.path)
        self._line.tell("Z")

    def power_down(self) -> None:
        self._line.configure_again()

    def close(self) -> None:
        self._line.end()
        self._board.close()
