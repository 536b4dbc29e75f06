"""A job of the scheduler: one text to generate, its progress and its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ternac.errors import TernacError
from ternac.host.server.scores import Scored, score
from ternac.run.executor import State
from ternac.run.generation import Generation
from ternac.run.sampling import Chooser, Sampling
from ternac.run.snapshot import Snapshot

Reason: TypeAlias = Literal["", "stop", "length", "time"]


@dataclass(frozen=True)
class Finished:
    """The end of a job.

    ``reason``: "stop" if ``take`` ended the text, "length" if all tokens are there, "time" if the deadline
    passed. ``snapshot``: the session after the last token taken, where the job keeps it. ``device`` ran the
    last slice, after ``moves`` moves from one device to another.
    """

    reason: Reason
    chosen: int
    snapshot: Snapshot | None
    device: str
    moves: int


@dataclass(eq=False)
class Job:
    """From the session ``start``, feed its pending token and ``prompt``, then choose ``count`` tokens.

    ``take`` is called with the tokens as they come, in order, each once, whatever happens to devices; it
    returns None to continue, or the number of those tokens that still belong to the text, which ends there.
    ``done`` is called once, with Finished or the error. Both are called from a device's thread and must not
    block. ``keep``: the final snapshot is wanted. ``deadline`` in seconds of time.monotonic. ``chooser``:
    the host chooses, token by token; with it ``top`` asks for `scores` of the tokens chosen, and of
    ``prompt`` with ``score_prompt``, with that many of the likeliest. ``loops``: as in `Run`, for every token
    that is fed, again after a move too. ``client``: who asks, for the share of the places; "" is not counted.
    ``behind`` says, from any thread, whether what was made before is not read yet: then the job waits.

    Raises UsageError if there is no token to feed, or one is outside ``vocab``.
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
    chooser: Chooser | None = None
    top: int | None = None
    score_prompt: bool = False
    loops: int | None = None
    client: str = ""
    behind: Callable[[], bool] = lambda: False

    # Progress. `state` holds while no device has the session; `todo` is to be fed before the pending token.
    state: State = field(init=False, repr=False)
    todo: list[int] = field(init=False, repr=False)
    text: Generation = field(init=False)
    chosen: int = field(default=0, init=False)
    reason: Reason = field(default="", init=False)
    session: int | None = field(default=None, init=False)
    device: str = field(default="", init=False)
    moves: int = field(default=0, init=False)
    cancelled: bool = field(default=False, init=False)
    scores: list[Scored] = field(default_factory=list, init=False)
    unscored: int = field(default=0, init=False)
    born: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self.text = Generation(self.vocab, self.start.rng, self.start.pending, self.start.fed)
        feed = self.text.feed(self.prompt, self.count)
        self.text.advance(feed, (), self.sampling)
        self.state, self.todo = self.start.state, feed[:-1]
        if self.score_prompt:
            self.unscored = len(self.todo)
            if self.start.pending is None:
                self.scores.append(Scored(feed[0]))
        if not self.count:
            self.reason = "length"

    @property
    def paused(self) -> bool:
        """It waits for its reader."""
        return self.generating and not self.cancelled and self.behind()

    @property
    def generating(self) -> bool:
        """The next slice chooses tokens (otherwise it feeds, or the job is over)."""
        return not self.todo and not self.reason

    @property
    def left(self) -> int:
        """Tokens still to choose."""
        return self.count - self.chosen

    @property
    def last(self) -> int:
        """The token to feed before the next one is chosen."""
        assert self.text.pending is not None
        return self.text.pending

    def score(self, logits: npt.NDArray[np.int32], scale_bits: int, token: int) -> None:
        """Append the score of ``token``, which follows where ``logits`` stand."""
        if self.top is not None:
            self.scores.append(score(logits, scale_bits, token, self.top))

    def accept(self, tokens: list[int]) -> int:
        """Take over ``tokens`` chosen in one slice; returns how many of them belong to the text."""
        end = self.take(tokens)
        taken = len(tokens) if end is None else end
        self.chosen += taken
        self.text.advance([self.last], tokens[:taken], self.sampling)
        if end is not None:
            self.reason = "stop"
        elif not self.left:
            self.reason = "length"
        return taken

    def finished(self, state: State | None) -> Finished:
        """The end, with the session in ``state`` if it is kept."""
        kept = None if state is None else self.text.snapshot(state)
        return Finished(self.reason, self.chosen, kept, self.device, self.moves)
