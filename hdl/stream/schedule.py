"""Cycles of the streaming unit in closed form, equal to the RTL's where memory never lets it
wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from ternac.compile.stream_layout import Descriptor
from ternac.hdl.stream.matvec import StreamMatVec

__all__ = ["FIRST_ADDRESS", "phase_ends"]

FIRST_ADDRESS = 4
"""Cycles from the first descriptor to the first ARVALID."""
_FIFO = 2
"""Cycles from a beat to its word at the other side of an empty FIFO."""


def phase_ends(
    unit: StreamMatVec, phases: Sequence[Sequence[Descriptor]], *, turnaround: int, latency: int
) -> list[int]:
    """The cycle in which each phase's last sum is there, counted from the first descriptor's.

    ``phases`` as in ``ternac.sim.stream.Job``: their activations are written, one word a cycle and a pulse of
    ``x_ready`` after each matrix's, from ``turnaround`` (at least 1) cycles after the last sum of the phase
    before.

    A matrix of w words ends w cycles after the later of: two cycles after its pulse; one cycle after the
    matrix before it; its first word. Its last sum follows ``lanes.latency`` cycles and one for every row of
    its last group later. Words are there in time if memory answers a burst after ``latency`` cycles and
    then sends a beat a cycle, ``latency`` plus a burst is less than the FIFO's depth, bursts are of at
    least three words, and a row group has at least ``encoding.rows`` words, so that sums leave as fast as
    they come.
    """
    encoding, ends = unit.encoding, []
    free = FIRST_ADDRESS + latency + _FIFO
    begin = 0
    for phase in phases:
        written, rows = begin, 0
        for each in phase:
            written += each.words
            free = max(free, written + 1) + each.beats(encoding) + 1
            rows = each.rows - (each.groups(encoding) - 1) * encoding.rows
        ends.append(free - 2 + unit.lanes.latency + rows)
        begin = ends[-1] + turnaround
    return ends
