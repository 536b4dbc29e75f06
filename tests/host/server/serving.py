"""What the tests of the server share: jobs that are watched, devices that fail, what NumPy alone gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ternac.errors import NoAnswer, TernacError
from ternac.host.local import LocalBackend
from ternac.host.server.job import Finished, Job
from ternac.host.server.worker import Source
from ternac.program.program import Program
from ternac.run.generation import Chosen, Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, seed_state
from ternac.run.snapshot import Snapshot
from tests.host.boards import numpy_tokens

WARM = Sampling(False, 200, 4, 50)


def fresh(program: Program, seed: int = 1) -> Snapshot:
    """A session that has seen nothing."""
    return Snapshot(np.zeros(program.state_words, np.int16), seed_state(seed), None, 0)


def alone(
    program: Program, prompt: Sequence[int], count: int, sampling: Sampling = WARM, seed: int = 1
) -> list[int]:
    """What NumPy alone generates."""
    return numpy_tokens(program, prompt, count, sampling, seed)


class Watched:
    """A job, what came of it, and a way to wait for its end. ``stop_at``: the text ends there."""

    def __init__(
        self,
        program: Program,
        prompt: Sequence[int],
        count: int,
        sampling: Sampling = WARM,
        seed: int = 1,
        start: Snapshot | None = None,
        stop_at: int | None = None,
        on_tokens: Callable[[list[int]], None] = lambda tokens: None,
        **options: Any,
    ) -> None:
        self.tokens: list[int] = []
        self.result: Finished | TernacError | None = None
        self.over = threading.Event()
        self.stop_at, self.on_tokens = stop_at, on_tokens
        self.job = Job(
            start or fresh(program, seed), prompt, count, sampling, program.vocab, self.take, self.done,
            **options,
        )  # fmt: skip

    def take(self, tokens: list[int]) -> int | None:
        self.on_tokens(tokens)
        room = None if self.stop_at is None else self.stop_at - len(self.tokens)
        if room is not None and room <= len(tokens):
            self.tokens += tokens[:room]
            return room
        self.tokens += tokens
        return None

    def done(self, result: Finished | TernacError) -> None:
        assert self.result is None, "a job ends once"
        self.result = result
        self.over.set()

    def wait(self, timeout: float = 60) -> Finished:
        assert self.over.wait(timeout), "the job does not end"
        assert isinstance(self.result, Finished), repr(self.result)
        return self.result


class Shaky(LocalBackend):
    """NumPy, ``chunk`` tokens at a time, whose line is cut at the ``fail_at``th request: before the request
    is executed, or after it. Remembers what it ran. Takes ``pause`` seconds a request.
    """

    def __init__(
        self,
        program: Program,
        fail_at: int | None = None,
        chunk: int = 4,
        together: int = 1,
        after: bool = False,
        pause: float = 0.0,
    ) -> None:
        super().__init__(NumpyExecutor(program))
        self.pause = pause
        self.chunk, self.fail_at, self.after = chunk, fail_at, after
        self._together = together
        self.requests = 0
        self.log: list[tuple[tuple[int, ...], int, int]] = []
        self.closed = False

    @property
    def together(self) -> int:
        return self._together

    @property
    def open_sessions(self) -> int:
        return len(self._states)

    def _line(self) -> bool:
        time.sleep(self.pause)
        self.requests += 1
        cut = self.fail_at is not None and self.requests >= self.fail_at
        if cut and not self.after:
            raise NoAnswer("cut")
        return cut

    def run(self, session: int, run: Run) -> Chosen:
        cut = self._line()
        before = self.get_state(session)
        found = super().run(session, run)
        if cut:  # executed, but nobody knows: what is recalled is what was known
            self.set_state(session, before)
            raise NoAnswer("cut")
        self.log.append(((session,), len(run.tokens), run.count))
        return found

    def step(self, session: int, token: int, loops: int | None = None) -> Any:
        before, cut = self.get_state(session), self._line()
        found = super().step(session, token, loops)
        if cut:
            self.set_state(session, before)
            raise NoAnswer("cut")
        return found

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        if self._line():
            raise NoAnswer("cut")
        self.log.append((tuple(sessions), 1, runs[0].count))
        return [LocalBackend.run(self, session, run) for session, run in zip(sessions, runs, strict=True)]

    def get_state(self, session):  # type: ignore[no-untyped-def]
        if self.fail_at is not None and self.requests >= self.fail_at:
            raise NoAnswer("cut")
        return super().get_state(session)

    def recall(self, session):  # type: ignore[no-untyped-def]
        from ternac.host.backend import ReplayPoint

        return ReplayPoint(self._states[session][0].copy(), ())

    def close(self) -> None:
        self.closed = True


def source(backend: Any, label: str = "shaky", fallback: bool = False) -> Source:
    """A source of that back end; opened a second time it is not there."""
    opened = []

    def open_it() -> Any:
        if opened:
            raise NoAnswer("still gone")
        opened.append(True)
        return backend

    return Source(label, open_it, fallback)
