"""Pattern tests of the banks, the memory of activations and session states, which the line writes and
reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry, Mem
from ternac.hdl.diagnostics.patterns import Pattern, pattern_words
from ternac.host.board.check.report import Section
from ternac.host.board.client import LinkClient
from ternac.link import MAX_WORDS, MAX_WRITE_BYTES

__all__ = ["FRAME_WORDS", "Round", "check_banks", "rounds"]

BITS = 16
FRAME_WORDS = min(MAX_WORDS, MAX_WRITE_BYTES // 2)
"""Words that are written, or read, at a time."""

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Round:
    """A pattern written everywhere, then read everywhere. ``seed`` and ``invert`` as in `Pattern`."""

    pattern: Pattern
    seed: int = 0
    invert: bool = False

    @property
    def name(self) -> str:
        """The pattern in words."""
        inverted = ", inverted" if self.invert else ""
        seed = f" {self.seed:#x}" if self.seed else ""
        return f"{self.pattern.name.lower()}{seed}{inverted}"

    def words(self, geometry: Geometry) -> Words:
        """Return the words [columns, bank_depth]; the address counts through all columns."""
        size = geometry.columns * geometry.bank_depth
        words = pattern_words(
            self.pattern, BITS, (size - 1).bit_length(), 0, size, seed=self.seed, invert=self.invert
        )
        return words.reshape(geometry.columns, geometry.bank_depth)


def rounds(seed: int) -> Iterator[Round]:
    """Every pattern: zeros, ones, stripes, a walking one and a walking zero, the address, random words."""
    for pattern in (Pattern.CONSTANT, Pattern.STRIPES, Pattern.ADDRESS, Pattern.HIGH):
        yield from (Round(pattern), Round(pattern, invert=True))
    for bit in range(BITS):
        yield from (Round(Pattern.WALKING, 1 << bit), Round(Pattern.WALKING, 1 << bit, invert=True))
    for number in range(2):
        yield Round(Pattern.RANDOM, (seed + number) % 0xFFFFFFFF + 1)


MARCH = (
    (True, False, 0xFFFF, 0),
    (False, False, 0, 0xFFFF),
    (True, True, 0xFFFF, 0),
    (False, True, 0, 0xFFFF),
)
"""March C-, behind zeros everywhere: (write ones, downwards, written, expected before)."""


def check_banks(
    section: Section,
    client: LinkClient,
    geometry: Geometry,
    seed: int,
    update: Callable[[int], None] = lambda done: None,
) -> None:
    """Write and read every word of BANK in every pattern, then march up and down, a frame's words at a time.

    Each pattern's first wrong word is named. The banks are zeros afterwards.
    """
    done = 0
    tested = list(rounds(seed))
    for one in tested:
        words = one.words(geometry)
        for column in range(geometry.columns):
            _write(client, column, words[column])
        found = np.array([_read(client, column, geometry.bank_depth) for column in range(geometry.columns)])
        _compare(section, one.name, words, found)
        done += 1
        update(done)
    for column in range(geometry.columns):
        _write(client, column, np.zeros(geometry.bank_depth, np.uint32))
    for number, (_, down, written, expected) in enumerate(MARCH):
        found = np.zeros((geometry.columns, geometry.bank_depth), np.uint32)
        starts = [
            (c, at) for c in range(geometry.columns) for at in range(0, geometry.bank_depth, FRAME_WORDS)
        ]
        for column, at in reversed(starts) if down else starts:
            count = min(FRAME_WORDS, geometry.bank_depth - at)
            found[column, at : at + count] = client.read(column, at, count)
            client.write(Mem.BANK, column, at, np.full(count, written, np.uint32), 2)
        way = "down" if down else "up"
        _compare(section, f"march element {number + 1}, {way}", np.full_like(found, expected), found)
        done += 1
        update(done)
    size = geometry.columns * geometry.bank_depth
    section.figure("words of BANK", size, "words of 16 bits", "geometry")
    section.figure("patterns", len(tested) + len(MARCH))
    section.figure("seed", seed, "", "option or default")


def steps_of(seed: int) -> int:
    """Return how often `check_banks` reports progress."""
    return len(list(rounds(seed))) + len(MARCH)


def _write(client: LinkClient, column: int, words: Words) -> None:
    for at in range(0, len(words), FRAME_WORDS):
        client.write(Mem.BANK, column, at, words[at : at + FRAME_WORDS], 2)


def _read(client: LinkClient, column: int, depth: int) -> Words:
    parts = [client.read(column, at, min(MAX_WORDS, depth - at)) for at in range(0, depth, MAX_WORDS)]
    return np.concatenate(parts)


def _compare(section: Section, name: str, expected: Words, found: Words) -> None:
    wrong = np.argwhere(expected != found)
    if not len(wrong):
        return
    column, address = (int(part) for part in wrong[0])
    want, got = int(expected[column, address]), int(found[column, address])
    bits = int(np.bitwise_or.reduce((expected ^ found).reshape(-1)))
    section.fail(
        f"memory BANK, pattern {name}: column {column}, word {address} is {got:#06x}, not {want:#06x}; "
        f"{len(wrong)} words differ, in bits {bits:#06x}",
        "one bit at few addresses: a cell; words of other addresses: an address line; random: the supply",
        memory="BANK", pattern=name, column=column, address=address, expected=want, found=got,
        words=len(wrong), bits=bits,
    )  # fmt: skip
