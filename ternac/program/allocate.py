"""First fit: places for values in a memory that is used again when a value is no longer needed."""

from __future__ import annotations

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
        self._live: list[tuple[int, int, int]] = []  # offset, size, last moment

    def place(self, size: int, now: int, last: int) -> int:
        """Return the offset of ``size`` that is needed from ``now`` to ``last``.

        ``now`` must not decrease from call to call. A place whose last moment is ``now`` is still taken.
        """
        self._live = [entry for entry in self._live if entry[2] >= now]
        at = first_fit(((offset, taken) for offset, taken, _ in self._live), size)
        self._live.append((at, size, last))
        self.top = max(self.top, at + size)
        return at
