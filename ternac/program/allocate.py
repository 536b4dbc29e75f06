"""First fit: places for values in a memory that is used again when a value is no longer needed."""

from __future__ import annotations

import heapq
from bisect import bisect
from collections.abc import Iterable


def first_fit(taken: Iterable[tuple[int, int]], size: int) -> int:
    """Return the lowest offset at which ``size`` fits between ``taken``, pairs (offset, size)."""
    at = 0
    for offset, length in sorted(taken):
        if offset - at >= size:
            break
        at = max(at, offset + length)
    return at


class Lifetimes:
    """Places by first fit, each taken from the moment when it is given out to the last that needs it.

    ``top`` is the size of the memory that all places together need.
    """

    def __init__(self, top: int = 0) -> None:
        self.top = top
        self._gaps: list[tuple[int, int]] = []  # offset, end; sorted; below `_end`
        self._end = 0  # everything above is free
        self._live: list[tuple[int, int, int]] = []  # last moment, offset, size; a heap

    def place(self, size: int, now: int, last: int) -> int:
        """Return the offset of ``size`` that is needed from ``now`` to ``last``.

        ``now`` must not decrease from call to call. A place whose last moment is ``now`` is still taken.
        """
        while self._live and self._live[0][0] < now:
            _, offset, taken = heapq.heappop(self._live)
            self._free(offset, offset + taken)
        at = self._end
        for index, (offset, end) in enumerate(self._gaps):
            if end - offset >= size:
                at = offset
                self._gaps[index : index + 1] = [(offset + size, end)] if end - offset > size else []
                break
        else:
            self._end += size
        heapq.heappush(self._live, (last, at, size))
        self.top = max(self.top, at + size)
        return at

    def _free(self, offset: int, end: int) -> None:
        """Add a gap, as one with those that it touches."""
        at = bisect(self._gaps, (offset, end))
        if at < len(self._gaps) and self._gaps[at][0] == end:
            end = self._gaps.pop(at)[1]
        if at and self._gaps[at - 1][1] == offset:
            offset = self._gaps.pop(at - 1)[0]
            at -= 1
        if end == self._end:
            self._end = offset
        else:
            self._gaps.insert(at, (offset, end))
