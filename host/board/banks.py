"""Read and write a board's banks over the link: vectors of the image, and states of sessions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image, Symbol
from ternac.compile.layout import from_slots, to_slots
from ternac.host.backend import State
from ternac.host.board.client import LinkClient
from ternac.link import MAX_WORDS, MAX_WRITE_BYTES
from ternac.program.program import Program

__all__ = ["Banks"]


class Banks:
    """The banks of a board that holds ``image``; ``base`` is a session's base (`Image.session_base`)."""

    def __init__(self, client: LinkClient, program: Program, image: Image) -> None:
        self.client, self.program, self.image = client, program, image

    def read_vector(self, symbol: Symbol, base: int = 0) -> npt.NDArray[np.int32]:
        """Return the int32 elements of a symbol of the image (``base``: the session's, for a state)."""
        geometry = self.image.geometry
        slots = geometry.slots(symbol.length)
        words = np.zeros((geometry.columns, slots), np.uint32)
        with self.client.verified(before=False):
            for column in range(geometry.columns):
                for at in range(0, slots, MAX_WORDS):
                    n = min(MAX_WORDS, slots - at)
                    words[column, at : at + n] = self.client.read(column, symbol.address + base + at, n)
        return from_slots(words, symbol.length)

    def read_state(self, base: int) -> State:
        """Return a session's state."""
        state = np.zeros(self.program.state_words, np.int16)
        for name, part in self.program.state_slices().items():
            state[part] = self.read_vector(self.image.states[name], base)
        return state

    def write_state(self, base: int, state: State) -> None:
        """Replace a session's state."""
        image, geometry = self.image, self.image.geometry
        words = np.zeros((geometry.columns, image.state_slots), np.uint32)
        for name, part in self.program.state_slices().items():
            symbol = image.states[name]
            at = symbol.address - image.state_base
            words[:, at : at + geometry.slots(symbol.length)] = to_slots(
                state[part].astype(np.int32), geometry
            )
        start, step = image.state_base + base, MAX_WRITE_BYTES // 2
        for column in range(geometry.columns):
            for at in range(0, image.state_slots, step):
                self.client.write(Mem.BANK, column, start + at, words[column, at : at + step], 2)
