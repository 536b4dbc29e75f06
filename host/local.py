"""Sessions on an executor of this process."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.backend import Meter, ReplayPoint, Speed, State, check_state, check_together
from ternac.run.executor import Executor
from ternac.run.generation import Chosen, Run

__all__ = ["LocalBackend"]


class LocalBackend:
    """A `Backend` on ``executor``: a session is an int16 array [1, state_words] and a dict entry."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.program = executor, executor.program
        self.name, self.chunk = executor.name, executor.chunk
        self.meter = Meter()
        self._states: dict[int, State] = {}
        self._next = 0

    @property
    def together(self) -> int:
        return self.executor.rows

    def open(self) -> int:
        self._next += 1
        self._states[self._next] = self.executor.open(1)
        return self._next

    def run(self, session: int, run: Run) -> Chosen:
        with self._changing([session], run.steps) as state:
            prompt = run.tokens[:-1] if run.count else run.tokens
            if prompt:
                slots = np.zeros(len(prompt), np.int32)
                self.executor.feed(state, list(prompt), slots, np.zeros(len(prompt), bool))
            if not run.count:
                return Chosen([], run.rng)
            chosen, (rng,) = self.executor.generate(
                state, [run.tokens[-1]], run.count, run.sampling, [run.rng]
            )
            return Chosen(chosen[0].tolist(), rng)

    def stream(self, session: int, run: Run) -> Generator[int]:
        """Run ``chunk`` tokens at a time; if closed between them, go back and feed what was yielded."""
        feed, left, rng = list(run.tokens), run.count, run.rng
        if not left:
            self.run(session, run)
        while left:
            before = self._state(session).copy()
            chosen, rng = self.run(session, Run(feed, min(self.chunk, left), run.sampling, rng))
            left -= len(chosen)
            for at, token in enumerate(chosen):
                try:
                    yield token
                except BaseException:
                    if at + 1 < len(chosen) and session in self._states:
                        self._states[session] = before
                        self.run(session, Run([*feed, *chosen[:at]]))
                    raise
            feed = chosen[-1:]

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        check_together(sessions, runs, self.together, "this executor")
        count, sampling = runs[0].count, runs[0].sampling
        with self._changing(sessions, count * len(sessions)) as states:
            chosen, rngs = self.executor.generate(
                states, [run.tokens[0] for run in runs], count, sampling, [run.rng for run in runs]
            )
        return [Chosen(row.tolist(), rng) for row, rng in zip(chosen, rngs, strict=True)]

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        with self._changing([session], 1) as state:
            return self.executor.step(state, [token])[0]

    def get_state(self, session: int) -> State:
        return self._state(session)[0].copy()

    def set_state(self, session: int, state: State) -> None:
        held = self._state(session)
        check_state(state, self.program)
        held[0] = state

    def recall(self, session: int) -> ReplayPoint:
        return ReplayPoint(self.get_state(session), ())

    def release(self, session: int) -> None:
        self._states.pop(session, None)

    def speed(self) -> Speed:
        return Speed(self.meter.tokens_per_second, self.executor.origin, self.meter.data)

    def close(self) -> None:
        """Free the executor; the states stay until they are released."""
        self.executor.close()

    def _state(self, session: int) -> State:
        try:
            return self._states[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    @contextmanager
    def _changing(self, sessions: Sequence[int], steps: int) -> Iterator[State]:
        """Lend copies of the states, int16 [n, state_words], and keep them at the end, counting ``steps``
        tokens. After an exception nothing has changed.
        """
        states = np.concatenate([self._state(session) for session in sessions])
        began = time.perf_counter()
        yield states
        self.meter.seconds += time.perf_counter() - began
        self.meter.steps += steps
        for session, state in zip(sessions, states, strict=True):
            self._states[session][0] = state
