"""A line on which chosen frames are lost, cut, damaged, doubled, delayed or mixed with noise, either way."""

from __future__ import annotations

import time
from collections.abc import Mapping

from hypothesis import strategies as st

from ternac.sim.link_model import LinkModel

KINDS = ("lost", "cut", "damaged", "doubled", "late", "noise")
Fault = tuple[str, int]


class FaultyLine:
    """A transport to a LinkModel. ``requests`` and ``answers``: what happens to the frame of that number.

    A late frame comes right before the next one, or, where none comes, when the host has asked in vain for a
    while. ``most`` is how many requests were under way at most.
    """

    name = "a faulty line"
    byte_seconds = 0.0

    def __init__(self, board: LinkModel, requests: Mapping[int, Fault], answers: Mapping[int, Fault]) -> None:
        self.board, self.faults = board, (dict(requests), dict(answers))
        self.counts = [0, 0]
        self.held = [b"", b""]
        self.waiting = bytearray()
        self.idle = 0
        self.under_way = self.most = 0

    def _pass(self, way: int, frame: bytes) -> bytes:
        kind, where = self.faults[way].pop(self.counts[way], ("", 0))
        self.counts[way] += 1
        before, self.held[way] = self.held[way], b""
        at = where % len(frame)
        match kind:
            case "lost":
                return before
            case "cut":
                return before + frame[:at]
            case "damaged":
                return before + frame[:at] + bytes((frame[at] ^ (1 << where % 8),)) + frame[at + 1 :]
            case "doubled":
                return before + frame + frame
            case "late":
                self.held[way] = frame
                return before
            case "noise":
                return before + bytes((where * i + 7) & 0xFF for i in range(at % 40)) + frame
        return before + frame

    def write(self, data: bytes) -> None:
        """One frame."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.idle = 0
        self._reach(self._pass(0, data))

    def _reach(self, data: bytes) -> None:
        came = self.board.feed(data)
        for answer in came.split(b"\xc0\xc0"):  # every answer is END .. END
            if answer:
                self.waiting += self._pass(1, b"\xc0" + answer.strip(b"\xc0") + b"\xc0")

    def read(self, timeout: float) -> bytes:
        """Everything that came; the longest delay is shorter than the host's patience."""
        if not self.waiting:
            time.sleep(min(timeout, 0.0005))
            self.idle += 1
            if self.idle == 3:
                late, self.held[0] = self.held[0], b""
                self._reach(late)
                self.waiting += self.held[1]
                self.held[1] = b""
        if not self.waiting:
            return b""
        self.under_way = 0
        data = bytes(self.waiting)
        self.waiting.clear()
        return data

    def close(self) -> None:
        """Nothing to do."""


def faults(frames: int, most: int) -> st.SearchStrategy[dict[int, Fault]]:
    """One to ``most`` faults among the first ``frames`` frames of one way."""
    return st.dictionaries(
        st.integers(0, frames),
        st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 16)),
        min_size=1,
        max_size=most,
    )
