"""One text that goes on: what the scheduler is asked for, how far it is, and how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ternac.errors import TernacError, UsageError
from ternac.run.sampling import Sampling, xorshift32
from ternac.run.session import Snapshot

Reason: TypeAlias = Literal["", "stop", "length", "time"]


@dataclass(frozen=True)
class Finished:
    """A job that came to its end.

    ``reason``: "stop", ``take`` said so; "length", all tokens are there; "time", the deadline cut it.
    ``snapshot``: the session behind the last token taken, where the job keeps it. ``device`` ran the end of
    it, after ``moves`` moves from one device to another.
    """

    reason: Reason
    chosen: int
    snapshot: Snapshot | None
    device: str
    moves: int


@dataclass(eq=False)
class Job:
    """From the session ``start``, feed its pending token and ``prompt``, then choose ``count`` tokens.

    ``take`` gets the tokens as they come, in order, each once, whatever happens to devices; it returns None
    to go on, or how many of those it was given belong to the text, which then is at its end. ``done`` gets
    the end, once: Finished, or the error. Both are called from a device's thread and must not wait. ``keep``:
    the final snapshot is wanted. ``deadline`` in seconds of time.monotonic.

    UsageError for tokens outside ``vocab``, and for nothing to go on from.
    """

    start: Snapshot
    prompt: Sequence[int]
    count: int
    sampling: Sampling
    vocab: int
    take: Callable[[list[int]], int | None]
    done: Callable[[Finished | TernacError], None]
    keep: bool = False
    deadline: float = math.inf

    # How far it is. `state` holds while no device has the session; `todo` is to be fed before `last`.
    state: npt.NDArray[np.int16] = field(init=False, repr=False)
    todo: list[int] = field(init=False, repr=False)
    last: int = field(init=False)
    rng: int = field(init=False)
    chosen: int = field(default=0, init=False)
    reason: Reason = field(default="", init=False)
    session: int | None = field(default=None, init=False)
    device: str = field(default="", init=False)
    moves: int = field(default=0, init=False)
    cancelled: bool = field(default=False, init=False)
    born: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        feed = [*([] if self.start.pending is None else [self.start.pending]), *self.prompt]
        if not feed:
            raise UsageError("nothing to go on from: the prompt of a new session is empty")
        bad = next((token for token in feed if not 0 <= token < self.vocab), None)
        if bad is not None:
            raise UsageError(f"token {bad} is outside 0..{self.vocab - 1}")
        if self.count < 0:
            raise UsageError(f"number of tokens is {self.count}, needs at least 0")
        self._before = self.start.fed + len(feed) - 1
        *self.todo, self.last = feed
        self.state, self.rng = self.start.state, self.start.rng
        if not self.count:
            self.reason = "length"

    @property
    def generating(self) -> bool:
        """Whether the next thing to do is to choose tokens."""
        return not self.todo and not self.reason

    @property
    def left(self) -> int:
        """Tokens still to choose."""
        return self.count - self.chosen

    def accept(self, tokens: list[int], rng: int) -> int:
        """Take over ``tokens`` chosen in one slice, with the generator behind them: how many count."""
        before = self.rng
        end = self.take(tokens)
        taken = len(tokens) if end is None else end
        self.chosen += taken
        if taken:
            self.last = tokens[taken - 1]
        self.rng = rng
        if taken < len(tokens) and not self.sampling.greedy:
            self.rng = before
            for _ in range(taken):
                self.rng = xorshift32(self.rng)
        if end is not None:
            self.reason = "stop"
        elif not self.left:
            self.reason = "length"
        return taken

    def finished(self, state: npt.NDArray[np.int16] | None) -> Finished:
        """The end, with the session in ``state`` if it is kept."""
        kept = None
        if state is not None:
            kept = Snapshot(state, self.rng, self.last, self._before + self.chosen)
        return Finished(self.reason, self.chosen, kept, self.device, self.moves)
