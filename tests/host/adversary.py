"""A line that loses, doubles, damages, delays and so reorders frames both ways, by a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from ternac.host.board import requests

Feed = Callable[[bytes], bytes]


class Clock:
    """The time of a host's time-outs: it passes only where the host waits in vain."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.now


@contextmanager
def virtual_time(clock: Clock) -> Iterator[None]:
    """Let the time-outs of requests go by ``clock``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "time", SimpleNamespace(monotonic=clock.monotonic))
        yield


@dataclass(frozen=True)
class Faults:
    """Chances for each frame: to be lost, to come twice, to come late; and for each bit to flip."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    flipped: float = 0.0


MOST_LATE = 1000
"""Frames of one way that are late at the same time."""
STEP = 1e-4
"""Seconds that pass where something late arrives."""


@dataclass
class _Way:
    """One direction: what is on its way and late, and what happened to frames."""

    rng: random.Random
    faults: Faults
    late: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("frames", "lost", "doubled", "late",
                                                                          "flipped"), 0))  # fmt: skip

    def carry(self, frame: bytes) -> list[bytes]:
        """Return what arrives now for a frame that was sent, in order."""
        rng, faults = self.rng, self.faults
        self.counts["frames"] += 1
        now = self.arrivals(0.1)
        copies = 1
        if rng.random() < faults.lost:
            copies = 0
            self.counts["lost"] += 1
        elif rng.random() < faults.doubled:
            copies = 2
            self.counts["doubled"] += 1
        for _ in range(copies):
            one = self._flip(frame)
            if rng.random() < faults.late and len(self.late) < MOST_LATE:
                self.late.append(one)
                self.counts["late"] += 1
            else:
                now.insert(rng.randrange(len(now) + 1), one)
        return now

    def arrivals(self, chance: float) -> list[bytes]:
        """Return the late frames that arrive now, each with a chance, in any order."""
        if not self.late:
            return []
        now = [frame for frame in self.late if self.rng.random() < chance]
        for frame in now:
            self.late.remove(frame)
        self.rng.shuffle(now)
        return now

    def _flip(self, frame: bytes) -> bytes:
        chance = self.faults.flipped
        if not chance:
            return frame
        damaged, bits, at = bytearray(frame), 8 * len(frame), -1
        while True:  # the distance to the next bit that flips is drawn
            at += 1 + int(math.log(1 - self.rng.random()) / math.log(1 - chance))
            if at >= bits:
                break
            damaged[at // 8] ^= 1 << at % 8
        self.counts["flipped"] += damaged != frame
        return bytes(damaged)


class AdverseLine:
    """A transport to a board, a function from bytes to bytes (`LinkModel.feed`), through two such directions.

    A frame that is late arrives between any two later ones, or while the host waits, maybe hundreds of frames
    later.
    """

    name = "an adverse line"
    byte_seconds = 0.0

    def __init__(self, feed: Feed, rng: random.Random, faults: Faults, clock: Clock) -> None:
        self.feed, self.rng, self.clock = feed, rng, clock
        self.ways = _Way(rng, faults), _Way(rng, faults)
        self._here = bytearray()

    @property
    def frames(self) -> int:
        """Frames that were sent, both ways."""
        return sum(way.counts["frames"] for way in self.ways)

    def write(self, data: bytes) -> None:
        """One frame."""
        for frame in self.ways[0].carry(data):
            self._reach(frame)

    def _reach(self, data: bytes) -> None:
        for answer in self.feed(data).split(b"\xc0"):
            if answer:
                self._here += b"".join(self.ways[1].carry(b"\xc0" + answer + b"\xc0"))

    def read(self, timeout: float) -> bytes:
        """Return what is here; where nothing is, something late may come, or the time-out passes."""
        if not self._here:
            for frame in self.ways[0].arrivals(0.05):
                self._reach(frame)
            self._here += b"".join(self.ways[1].arrivals(0.05))
            self.clock.now += STEP if self._here else timeout
        found = bytes(self._here)
        self._here.clear()
        return found

    def close(self) -> None:
        """Nothing to do."""
