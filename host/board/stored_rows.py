"""Rows in a board's SDRAM over the link: only those that are not zero travel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import ROW_BLOCKS, Mem
from ternac.compile.image import RowSymbol
from ternac.compile.row_store import BANKS, BURST, CHIP, burst_bits, row_addresses
from ternac.host.board.client import LinkClient
from ternac.link import CLEAR_BLOCK, HALF_BLOCK, MAX_WORDS, MAX_WRITE_BYTES, MOST_CLEAR, READ_MAP, READ_ROWS

__all__ = ["StoredRows"]

Rows = npt.NDArray[np.int8]

MAP_WORDS = 64
"""Words of a map in one READ, each of 16 rows that the board looks through."""
BLOCK_WORDS = 1 << 16
_COLUMN_BURSTS = CHIP.column_bits - (BURST.bit_length() - 1)


class StoredRows:
    """Memories of sessions in the SDRAM of a board; ``sector`` is where a session's begin."""

    def __init__(self, client: LinkClient) -> None:
        self._client = client
        self._half: int | None = None

    def read(self, symbol: RowSymbol, sector: int) -> Rows:
        """Return a memory, ``[rows, width]``."""
        self._half = None
        words = np.zeros((symbol.rows, symbol.width // 2), np.uint16)
        at = row_addresses(symbol, sector)
        rows = np.flatnonzero(self._filled(at, burst_bits(symbol.width)))
        step = BURST << burst_bits(symbol.width)
        for first, count in _runs(at[rows], step, MAX_WORDS):
            own = rows[first : first + count]
            size = step * (count - 1) + symbol.width // 2
            found = np.zeros(step * count, np.uint16)
            found[:size] = self._words(int(at[own[0]]), size)
            words[own] = found.reshape(count, step)[:, : symbol.width // 2]
        return words.astype("<u2").view(np.int8)

    def write(self, symbol: RowSymbol, sector: int, rows: Rows) -> None:
        """Write the rows of a memory that are not zero; the others have been cleared."""
        self._half = None
        at = row_addresses(symbol, sector)
        filled = np.flatnonzero(rows.any(1))
        step = BURST << burst_bits(symbol.width)
        for first, count in _runs(at[filled], step, MAX_WRITE_BYTES // 2):
            own = filled[first : first + count]
            words = np.zeros((count, step), np.uint32)
            words[:, : symbol.width // 2] = np.ascontiguousarray(rows[own]).view("<u2")
            flat = words.reshape(-1)[: step * (count - 1) + symbol.width // 2]
            block, word = self._select(int(at[own[0]]))
            self._client.write(Mem.ROWS, block, word, flat, 2)

    def clear(self, sector: int, count: int) -> None:
        """Clear sectors, and return when it is done."""
        self._half = None
        for at in range(sector, sector + count, MOST_CLEAR):
            some = min(MOST_CLEAR, sector + count - at)
            self._client.write(Mem.ROWS, CLEAR_BLOCK, at, np.array([some - 1]), 2)
            self._client.read(READ_ROWS, 0, 1)  # answered when the board is done

    def _filled(self, at: npt.NDArray[np.int64], bursts: int) -> npt.NDArray[np.bool_]:
        """Return which of the rows that begin at words ``at`` are not zero."""
        bank = at >> CHIP.column_bits & BANKS - 1
        burst = at >> CHIP.column_bits + CHIP.bank_bits << _COLUMN_BURSTS
        line = (burst | (at & (1 << CHIP.column_bits) - 1) // BURST) >> bursts
        number, bit = line // BANKS, line % BANKS * BANKS + bank
        low, high = int(number.min()), int(number.max()) + 1
        found = np.zeros(high - low, np.uint32)
        for first in range(low, high, MAP_WORDS):
            count = min(MAP_WORDS, high - first, BLOCK_WORDS - first % BLOCK_WORDS)
            self._choose(first // BLOCK_WORDS)
            got = self._client.read(READ_MAP + bursts, first % BLOCK_WORDS, count)
            found[first - low : first - low + count] = got
        return (found[number - low] >> bit & 1).astype(bool)

    def _words(self, address: int, count: int) -> npt.NDArray[np.uint16]:
        block, word = self._select(address)
        return np.asarray(self._client.read(READ_ROWS + block, word, count)).astype(np.uint16)

    def _select(self, address: int) -> tuple[int, int]:
        """Choose the half of the SDRAM; return block and word there."""
        self._choose(address // (ROW_BLOCKS * BLOCK_WORDS))
        return address // BLOCK_WORDS % ROW_BLOCKS, address % BLOCK_WORDS

    def _choose(self, half: int) -> None:
        if half != self._half:
            self._client.write(Mem.ROWS, HALF_BLOCK, 0, np.array([half]), 2)
            self._half = half


def _runs(at: npt.NDArray[np.int64], step: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of rows ``step`` words apart that lie one behind the other, of ``most`` words.

    No run goes beyond a block: rows of a page lie in one.
    """
    limit = max(1, most // step)
    first = 0
    while first < len(at):
        count = 1
        page = at[first] >> CHIP.column_bits
        while (
            count < limit
            and first + count < len(at)
            and at[first + count] == at[first] + count * step
            and at[first + count] >> CHIP.column_bits == page
        ):
            count += 1
        yield first, count
        first += count
