"""Code whole texts of tokens by any executor: several texts at a time, each by the model's own predictions.

A text starts from a zero state. Where the program puts tokens in front of a text they are fed first; else
nothing predicts the first token, and all tokens are equally likely there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ternac.program.program import Program
from ternac.run.coding import RangeDecoder, RangeEncoder, Spans, costs, frequencies, spans, uniform
from ternac.run.executor import Executor, Logits

__all__ = [
    "Coded",
    "Coder",
    "ExecutorSessions",
    "Ids",
    "Reading",
    "Sessions",
    "StepCoder",
    "by_length",
    "most_rows",
]

Ids = npt.NDArray[Any]
MOST_ROWS, STATE_BYTES = 64, 64 << 20
KEPT = 64
"""Steps whose spans wait to be counted together."""


class Coded(NamedTuple):
    """A text as bytes; ``cost`` is what its tokens cost by the model, in 1 / `ternac.run.coding.UNIT` bit."""

    data: bytes
    cost: int


class Reading(Protocol):
    """One text that is read on, part by part."""

    def advance(self, tokens: Ids) -> Spans:
        """Read at least one token; returns their spans."""


class Coder(Protocol):
    """Texts of tokens to bytes and back."""

    name: str
    program: Program
    rows: int
    """Texts worth handing over at a time."""

    @property
    def origin(self) -> str:
        """Origin of a measured speed, for reports."""

    def encode(self, texts: Sequence[Ids]) -> list[Coded]:
        """Code texts, each for itself."""

    def decode(self, coded: Sequence[bytes], counts: Sequence[int]) -> list[Ids]:
        """Return texts of ``counts`` tokens. Raises ArchiveError where bytes are of no encoder."""

    def begin(self) -> Reading:
        """Start a text."""

    def close(self) -> None:
        """Free what the coder holds."""


class Sessions(Protocol):
    """Sessions that are stepped together, opened by a `StepCoder` for as many texts as it has."""

    def step(self, tokens: Ids) -> Logits:
        """Feed one token to each of the first sessions; returns their logits."""

    def spans(self, tokens: Ids, targets: Ids) -> Spans:
        """Feed as `step` does; returns the spans of the tokens that come next."""

    def close(self) -> None: ...


class Opener(Protocol):
    """What opens sessions: an executor's, or a board's (`ternac.host.coder`)."""

    name: str
    program: Program
    rows: int

    @property
    def origin(self) -> str: ...

    def open(self, count: int) -> Sessions: ...

    def close(self) -> None: ...


class ExecutorSessions:
    """Sessions on any executor of this process."""

    def __init__(self, executor: Executor) -> None:
        self._executor, self.name, self.program = executor, executor.name, executor.program
        self.rows = most_rows(self.program)

    @property
    def origin(self) -> str:
        return self._executor.origin

    def open(self, count: int) -> Sessions:
        return _Rows(self._executor, count)

    def close(self) -> None:
        self._executor.close()


class _Rows:
    def __init__(self, executor: Executor, count: int) -> None:
        self._executor, self._state = executor, executor.open(count)

    def step(self, tokens: Ids) -> Logits:
        return self._executor.step(self._state[: len(tokens)], tokens)

    def spans(self, tokens: Ids, targets: Ids) -> Spans:
        return spans(self.step(tokens), self._executor.program.logit_scale_bits, targets)

    def close(self) -> None:
        pass


class StepCoder:
    """A `Coder` that steps sessions token by token, those of all texts together."""

    def __init__(self, opener: Opener) -> None:
        self._opener, self.name, self.program = opener, opener.name, opener.program
        self.rows = opener.rows
        self._front = self.program.special.begin([])
        self._bits = self.program.logit_scale_bits

    @property
    def origin(self) -> str:
        return self._opener.origin

    def encode(self, texts: Sequence[Ids]) -> list[Coded]:
        order = by_length([len(text) for text in texts])
        given = [texts[at] for at in order]
        made = [RangeEncoder() for _ in given]
        bits = [0] * len(given)
        kept: list[Spans] = []

        def count() -> None:
            for step in kept:
                for coder, span in zip(made, step.tolist(), strict=False):
                    coder.put(*span)
            if kept:
                rows = np.concatenate([np.arange(len(step)) for step in kept])
                for row, cost in zip(rows.tolist(), costs(np.concatenate(kept)).tolist(), strict=True):
                    bits[row] += cost
            kept.clear()

        walk = _Walk(self, [len(text) for text in given])
        try:
            for at in walk:
                targets = np.array([text[at] for text in given[: walk.live]], np.int64)
                kept.append(walk.spans(targets))
                if len(kept) >= KEPT:
                    count()
                walk.last = targets
            count()
        finally:
            walk.close()
        found = [Coded(b"", 0)] * len(texts)
        for at, coder, cost, text in zip(order, made, bits, given, strict=True):
            found[at] = Coded(coder.finish() if len(text) else b"", cost)
        return found

    def decode(self, coded: Sequence[bytes], counts: Sequence[int]) -> list[Ids]:
        order = by_length(counts)
        decoders = [RangeDecoder(coded[at]) for at in order]
        made = [np.empty(counts[at], np.int32) for at in order]
        walk = _Walk(self, [counts[at] for at in order])
        try:
            for at in walk:
                logits = walk.step()
                if logits is None:
                    tokens = [one.evenly(self.program.vocab) for one in decoders[: walk.live]]
                else:
                    ends = frequencies(logits, self._bits).cumsum(axis=1)
                    tokens = [one.token(row) for one, row in zip(decoders, ends, strict=False)]
                for text, token in zip(made, tokens, strict=False):
                    text[at] = token
                walk.last = np.array(tokens, np.int64)
        finally:
            walk.close()
        found = list(made)
        for at, text in zip(order, made, strict=True):
            found[at] = text
        return found

    def begin(self) -> Reading:
        return _StepReading(self)

    def close(self) -> None:
        self._opener.close()


class _Walk:
    """Positions of texts of ``counts`` tokens, the longest first. At each either `step` or `spans` is called
    once; ``last`` are then set to the tokens there, of the ``live`` texts that have one.
    """

    def __init__(self, coder: StepCoder, counts: Sequence[int]) -> None:
        self._coder, self._counts = coder, counts
        self.live = sum(count > 0 for count in counts)
        self.last: Ids = np.zeros(0, np.int64)
        self._fed = False
        self._sessions = coder._opener.open(self.live) if self.live else None

    def __iter__(self) -> Iterator[int]:
        if self._sessions is None:
            return
        front = self._coder._front
        for token in front[:-1]:
            self._sessions.step(np.full(self.live, token, np.int64))
        self.last = np.full(self.live, front[-1] if front else 0, np.int64)
        for at in range(self._counts[0]):
            while self._counts[self.live - 1] <= at:
                self.live -= 1
            self._fed = at > 0 or bool(front)
            yield at

    def step(self) -> Logits | None:
        """Return the logits, None where nothing predicts."""
        assert self._sessions is not None
        return self._sessions.step(self.last[: self.live]) if self._fed else None

    def spans(self, targets: Ids) -> Spans:
        """Return the spans of the tokens here."""
        assert self._sessions is not None
        if not self._fed:
            return uniform(targets, self._coder.program.vocab)
        return self._sessions.spans(self.last[: self.live], targets)

    def close(self) -> None:
        if self._sessions is not None:
            self._sessions.close()


class _StepReading:
    def __init__(self, coder: StepCoder) -> None:
        self._coder, self._sessions = coder, coder._opener.open(1)
        self._waiting = list(coder._front)

    def advance(self, tokens: Ids) -> Spans:
        found = []
        for token in np.asarray(tokens, np.int64):
            for fed in self._waiting[:-1]:
                self._sessions.step(np.array([fed], np.int64))
            target = np.array([token])
            if self._waiting:
                found.append(self._sessions.spans(np.array(self._waiting[-1:], np.int64), target))
            else:
                found.append(uniform(target, self._coder.program.vocab))
            self._waiting = [int(token)]
        return np.concatenate(found)


def by_length(counts: Sequence[int]) -> list[int]:
    """Return the numbers of texts, the longest first."""
    return sorted(range(len(counts)), key=lambda at: -counts[at])


def most_rows(program: Program) -> int:
    """Return how many sessions of a program may run together, by the memory of their states."""
    return max(1, min(MOST_ROWS, STATE_BYTES // max(1, 2 * program.state_words)))
