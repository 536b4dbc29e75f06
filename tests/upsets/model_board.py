"""The same trials on the board in Python, whose memories can be flipped: it has no registers, and is fast."""

from __future__ import annotations

import copy
import random
from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem
from ternac.compile.loading import load_requests
from ternac.errors import TernacError
from ternac.host.board.client import LinkClient
from ternac.link import Command
from ternac.sim.link_model import LinkModel
from tests.host.boards import Line as PlainLine
from tests.host.boards import make_board
from tests.upsets.campaign import (
    GEOMETRY,
    PATIENCE,
    PROGRAM,
    WANT,
    Clock,
    device,
    outcome_of,
    talk,
    virtual_time,
)

IMAGE = compile_program(PROGRAM, GEOMETRY)


class ModelLine:
    """A transport to a board in Python, of which something changes at the n-th write."""

    name = "a board in Python with faults"
    byte_seconds = 0.0

    def __init__(
        self, board: LinkModel, clock: Clock, at: int = 0, change: Any = None, cut: float = 0
    ) -> None:
        self.board, self.clock, self.at, self.change, self.cut = board, clock, at, change, cut
        self.writes = self.repairs = 0
        self.stuck = False
        self._out = b""

    def write(self, data: bytes) -> None:
        self.writes += 1
        cut = 0
        if self.writes == self.at:
            cut = int(self.cut * len(data))
            self._out += self._fed(data[:cut])
            if self.change is None:
                self.configure_again()
            else:
                self.change(self.board)
        self._out += self._fed(data[cut:])

    def _fed(self, data: bytes) -> bytes:
        """Return the answers. What is no instruction has no meaning in the model: that board falls silent."""
        if self.stuck:
            return b""
        try:
            return self.board.feed(data)
        except (ArithmeticError, LookupError, ValueError, TernacError):
            self.stuck = True
            return b""

    def read(self, timeout: float) -> bytes:
        found, self._out = self._out, b""
        if not found:
            self.clock.now += timeout
        return found

    def configure_again(self) -> None:
        """Let the board be as after power-up; what is on the line is lost."""
        self.board, self._out, self.stuck = make_board(IMAGE), b"", False

    def close(self) -> None:
        """Nothing: the next host opens the same board."""


class ModelBoard:
    """A loaded board, of which each trial gets a copy."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loaded = make_board(IMAGE)
        client = LinkClient(PlainLine(self.loaded), PATIENCE)
        for command, payload in load_requests(IMAGE):
            client.request(Command(command), payload)
        line = ModelLine(copy.deepcopy(self.loaded), self.clock)
        with virtual_time(self.clock):
            with device(line):
                pass
            assert talk(line) == WANT
        self.writes = line.writes

    def close(self) -> None:
        """Nothing is open."""


def model_trial(board: ModelBoard, rng: random.Random) -> dict[str, Any]:
    """Run one trial, as `campaign.trial`."""
    at = 1 + rng.randrange(board.writes)
    names = [*board.loaded.engine.memories, Mem.BANK]  # type: ignore[attr-defined]
    if rng.random() < 0.2:
        fault: dict[str, Any] = {"kind": "restart", "at": f"write {at}"}
        change = None
    else:
        mem = rng.choice(names)
        engine: Any = board.loaded.engine
        words = engine.bank if mem == Mem.BANK else engine.memories[mem]
        block, address = rng.randrange(words.shape[0]), rng.randrange(words.shape[1])
        bit = rng.randrange(8 * GEOMETRY.memory(mem).bytes_per_word)
        fault = {"kind": f"{mem.name} memory", "block": block, "address": address, "bit": bit, "at": at}

        def change(model: LinkModel) -> None:
            engine: Any = model.engine
            old = (
                engine.read(block, address) if mem == Mem.BANK else int(engine.memories[mem][block, address])
            )
            engine.write(int(mem), block, address, old ^ 1 << bit)

    line = ModelLine(copy.deepcopy(board.loaded), board.clock, at, change, rng.random())
    return {**fault, **outcome_of(line)}
