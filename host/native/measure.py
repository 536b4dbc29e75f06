"""Measuring on a machine that others use: candidates take turns, a thread's own processor time counts.

Processor time leaves out what other processes take of the processor; it does not undo that they share caches,
memory and, with two threads to a core, the arithmetic units. So only figures of one run are compared, and a
ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

__all__ = ["Rounds", "rounds"]

ORIGIN = (
    "measured on this host: processor time of one thread, median of {0} rounds in which all candidates "
    "take turns"
)


class Rounds:
    """Seconds of each candidate in each round."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = seconds

    def typical(self, name: str) -> float:
        """Median seconds."""
        return median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times faster ``name`` is than ``other``: median over the rounds."""
        return median(b / a for a, b in zip(self.seconds[name], self.seconds[other], strict=True))


def rounds(
    candidates: Mapping[str, Callable[[], object]],
    count: int,
    least: float = 0.004,
    clock: Callable[[], float] = time.thread_time,
    progress: Callable[[int], object] = lambda done: None,
) -> Rounds:
    """Run every candidate once in each of ``count`` rounds, repeated so that it takes ``least`` seconds.

    Seconds are those of one call.
    """
    repeats = {}
    for name, run in candidates.items():
        run()
        began = clock()
        run()
        repeats[name] = max(1, round(least / max(clock() - began, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for done in range(count):
        for name, run in candidates.items():
            began = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - began) / repeats[name])
        progress(done + 1)
    return Rounds(seconds)
