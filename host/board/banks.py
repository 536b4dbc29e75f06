"""Read and write a board's banks and rows over the link: vectors, and states of sessions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image, Symbol
from ternac.compile.layout import from_slots, row_blocks, row_values, to_slots
from ternac.host.backend import State
from ternac.host.board.axi import AxiTransport
from ternac.host.board.client import LinkClient
from ternac.host.board.stored_rows import StoredRows
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS, MAX_WORDS, MAX_WRITE_BYTES, MOST_CLEAR, READ_ROWS
from ternac.program.program import Program

__all__ = ["Banks", "LinkRows", "RowMemory"]

Words = npt.NDArray[np.uint32]


class RowMemory(Protocol):
    """Row RAM of a board: words of 8 bits in each column."""

    def read(self, column: int, start: int, count: int) -> Words:
        """Return words of a column."""

    def write(self, column: int, start: int, words: Words) -> None:
        """Replace words of a column."""

    def clear(self, start: int, count: int) -> None:
        """Clear words of all columns, a multiple of `CLEAR_WORDS`, and return when it is done."""


class LinkRows:
    """Row RAM by requests of the link."""

    def __init__(self, client: LinkClient) -> None:
        self._client = client

    def read(self, column: int, start: int, count: int) -> Words:
        found = np.zeros(count, np.uint32)
        for at in range(0, count, MAX_WORDS):
            n = min(MAX_WORDS, count - at)
            found[at : at + n] = self._client.read(READ_ROWS + column, start + at, n)
        return found

    def write(self, column: int, start: int, words: Words) -> None:
        for at in range(0, len(words), MAX_WRITE_BYTES):
            self._client.write(Mem.ROWS, column, start + at, words[at : at + MAX_WRITE_BYTES], 1)

    def clear(self, start: int, count: int) -> None:
        most = MOST_CLEAR * CLEAR_WORDS
        for at in range(0, count, most):
            steps = min(most, count - at) // CLEAR_WORDS
            self._client.write(Mem.ROWS, CLEAR_BLOCK, start + at, np.array([steps - 1]), 1)
            self._client.read(READ_ROWS, start + at, 1)  # answered when the board is done


class Banks:
    """Banks and rows of a board that holds ``image``; ``base`` is a session's base (`Image.session_base`)."""

    def __init__(self, client: LinkClient, program: Program, image: Image) -> None:
        self.client, self.program, self.image = client, program, image
        line = client.transport
        own = line.rows if isinstance(line, AxiTransport) else None
        self._rows: RowMemory = own or LinkRows(client)
        self._apart = own is not None
        self._stored = StoredRows(client) if image.geometry.stores_rows else None

    def read_vector(self, symbol: Symbol, base: int = 0) -> npt.NDArray[np.int32]:
        """Return the int32 elements of a symbol of the image (``base``: the session's, for a state)."""
        geometry = self.image.geometry
        slots = symbol.slots(geometry)
        words = np.zeros((geometry.columns, slots), np.uint32)
        for column in range(geometry.columns):
            for at in range(0, slots, MAX_WORDS):
                n = min(MAX_WORDS, slots - at)
                words[column, at : at + n] = self.client.read(column, symbol.address + base + at, n)
        return from_slots(words, symbol.length, symbol.parts)

    def read_state(self, base: int) -> State:
        """Return a session's state."""
        state = np.zeros(self.program.state_words, np.int16)
        for name, part in self.program.state_slices().items():
            state[part] = self.read_vector(self.image.states[name], base)
        for name, part in self.program.memory_slices().items():
            state[part] = self.read_rows(name, base).view(np.int16).reshape(-1)
        return state

    def read_rows(self, name: str, base: int) -> npt.NDArray[np.int8]:
        """Return a session's memory, ``[rows, width]``."""
        geometry, symbol = self.image.geometry, self.image.rows[name]
        if self._stored is not None:
            return self._stored.read(symbol, base << self.image.row_shift)
        start, count = symbol.address + (base << self.image.row_shift), symbol.rows << symbol.step
        words = np.zeros((geometry.columns, count), np.uint32)
        for column in range(geometry.columns):
            words[column] = self._rows.read(column, start, count)
        if self._apart:  # a block that restarted refuses this, and its registers tell nothing
            self.client.read(0, 0, 1)
        return row_values(words, symbol.width, geometry, symbol.step)

    def write_state(self, base: int, state: State) -> None:
        """Replace a session's state."""
        image, geometry = self.image, self.image.geometry
        words = np.zeros((geometry.columns, image.state_slots), np.uint32)
        for name, part in self.program.state_slices().items():
            symbol = image.states[name]
            at = symbol.address - image.state_base
            words[:, at : at + symbol.slots(geometry)] = to_slots(
                state[part].astype(np.int32), geometry, symbol.parts
            )
        start, step = image.state_base + base, MAX_WRITE_BYTES // 2
        for column in range(geometry.columns):
            for at in range(0, image.state_slots, step):
                self.client.write(Mem.BANK, column, start + at, words[column, at : at + step], 2)
        if image.rows:
            self._write_rows(base, state)

    def _write_rows(self, base: int, state: State) -> None:
        """Replace a session's memories; those that are all zero are cleared by the board itself."""
        image, geometry = self.image, self.image.geometry
        if self._stored is not None:
            self._stored.clear(base << image.row_shift, image.row_words)
            for name, part in self.program.memory_slices().items():
                symbol = image.rows[name]
                own = np.ascontiguousarray(state[part]).view(np.int8).reshape(symbol.rows, symbol.width)
                self._stored.write(symbol, base << image.row_shift, own)
            return
        words = np.zeros((geometry.columns, image.row_words), np.uint32)
        for name, part in self.program.memory_slices().items():
            symbol = image.rows[name]
            rows = np.ascontiguousarray(state[part]).view(np.int8).reshape(symbol.rows, symbol.width)
            blocks = row_blocks(rows, geometry, symbol.step)
            at = symbol.address - image.row_base
            words[:, at : at + blocks.shape[1]] = blocks
        if self._apart:  # the line is open now, so that a restart is noticed when the engine runs
            self.client.read(0, 0, 1)
        start = image.row_base + (base << image.row_shift)
        first = 0 if words.any() else image.row_words // CLEAR_WORDS * CLEAR_WORDS
        for column in range(geometry.columns):
            self._rows.write(column, start + first, words[column, first:])
        self._rows.clear(start, first)
