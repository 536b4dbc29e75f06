"""Rows in an SDRAM: where a word of a row lies, and how long the engine takes to move rows.

Rows of head k lie in bank ``k % 4``, so that the next head's can be opened while this one's is read. A row
takes a power of two of bursts; row ``l`` of head ``k`` of a memory with R rows a head begins at burst
``8 * sector + ((k // 4 * R + l) << bursts)`` of its bank. Places are given in sectors: 8 bursts of each bank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.compile.image import RowSymbol
from ternac.compile.sdram import BURST, ULX3S_CHIP, Cycles
from ternac.errors import UsageError

__all__ = [
    "BANKS", "BURST", "CHIP", "CLOCKS", "MOST_ELEMENTS", "MOVE_WORDS", "REFRESH", "SECTORS", "SECTOR_BURSTS",
    "SECTOR_WORDS", "TIMES", "MoveTime", "StoredSymbol", "burst_bits", "check_clock", "row_addresses",
    "sectors", "word_address",
]  # fmt: skip

CHIP = ULX3S_CHIP
BANKS = 1 << CHIP.bank_bits
SECTOR_BURSTS = 8
SECTOR_WORDS = SECTOR_BURSTS * BURST * BANKS
"""Words of a sector in all banks."""
MOST_ELEMENTS = 2 * SECTOR_BURSTS * BURST
"""Elements of a row at most, so that none is longer than a sector or lies in two rows of the chip."""
SECTORS = 1 << CHIP.word_bits - (SECTOR_WORDS.bit_length() - 1)
"""Sectors of the chip."""
CLOCKS = 50_000_000, 100_000_000
"""Clocks at which a board's rows can run. The distances between commands are those of the fastest one and
refreshes as many as the slowest one needs, so that an engine counts the same cycles at each of them."""
TIMES: Cycles = CHIP.cycles(CLOCKS[1])
REFRESH = CHIP.cycles(CLOCKS[0]).refresh
"""Cycles from one refresh to the next."""
MOVE_WORDS = 2048
"""Words of one move: refreshes wait until it has ended, and eight may."""


@dataclass(frozen=True)
class StoredSymbol(RowSymbol):
    """Place of a session's memory in the SDRAM: ``address`` is the sector of its first row.

    ``heads``: what it is addressed with; ``parts``: how many times it is there, for the runs of a loop.
    """

    heads: int
    parts: int = 1


def check_clock(clock_hz: int) -> None:
    """Raise UsageError if rows cannot run at a clock."""
    if not CLOCKS[0] <= clock_hz <= CLOCKS[1]:
        low, high = (hz / 1e6 for hz in CLOCKS)
        raise UsageError(f"rows in SDRAM run at {low:g} to {high:g} MHz, not {clock_hz / 1e6:g}")


def burst_bits(width: int) -> int:
    """Return log2 of the bursts that a row of ``width`` elements takes."""
    return (-(-width // (2 * BURST)) - 1).bit_length()


def sectors(rows: int, width: int, heads: int) -> int:
    """Return the sectors that a memory takes."""
    bursts = -(-heads // BANKS) * (rows // heads) << burst_bits(width)
    return -(-bursts // SECTOR_BURSTS)


def word_address(bank: npt.ArrayLike, burst: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the number of the first word of a burst of a bank, as `SdramChip.place` reads it."""
    column_bursts = CHIP.column_bits - (BURST.bit_length() - 1)
    bank, burst = np.asarray(bank, np.int64), np.asarray(burst, np.int64)
    row, column = burst >> column_bursts, burst & (1 << column_bursts) - 1
    return (row << CHIP.bank_bits | bank) << CHIP.column_bits | column * BURST


def row_addresses(symbol: RowSymbol, sector: int) -> npt.NDArray[np.int64]:
    """Return the word with which each row of a memory begins, whose session's sectors begin at ``sector``."""
    assert isinstance(symbol, StoredSymbol)
    own = symbol.rows // symbol.parts
    part, row = np.divmod(np.arange(symbol.rows), own)
    head, local = np.divmod(row, own // symbol.heads)
    first = symbol.address + sector + part * sectors(own, symbol.width, symbol.heads)
    bursts = (head // BANKS * (own // symbol.heads) + local) << burst_bits(symbol.width)
    return word_address(head % BANKS, first * SECTOR_BURSTS + bursts)


@dataclass
class MoveTime:
    """When moves begin and end, and the refreshes between them: the closed form of `hdl.sdram.rows`.

    A refresh is due with the start of a token from rest and every `REFRESH` cycles after it; it takes ``rfc``
    cycles and waits for the move that runs. ``origin`` is the cycle of that start.
    """

    origin: int = 0
    refreshes: int = 0
    free: int = 0

    LEAD = 3
    """Cycles from a move's begin to its first command: the address."""
    GAP = 2
    """Cycles of a head of a move to the SDRAM for commands beside its words."""
    TAIL = 4
    """Cycles from the last head to the end."""

    def restart(self, origin: int) -> None:
        """Note a start from rest."""
        self.origin, self.refreshes, self.free = origin, 0, origin + 1

    def head(self, words: int, *, out: bool) -> int:
        """Return the cycles of a head's ``words``; ``out``: to the SDRAM."""
        return words + (self.GAP if out else 0)

    def move(self, asked: int, heads: int, words: int, *, out: bool) -> int:
        """Return the cycle that ends a move that is asked for in cycle ``asked``: the first in which what it
        has moved may be used.
        """
        while True:
            due = max(self.origin + 1 + self.refreshes * REFRESH, self.free)
            if due > max(asked, self.free):
                break
            self.free = due + TIMES.rfc
            self.refreshes += 1
        body = max(asked, self.free) + self.LEAD + TIMES.rcd + heads * self.head(words, out=out)
        self.free = body + self.TAIL
        return body + (1 if out else 2) + 2


assert MOVE_WORDS // BURST * (BURST + MoveTime.GAP) < 8 * REFRESH
