"""Sessions on an executor of this process.

A request happens whole or not at all. Where a state is small, the work is done on a copy of it. A state with
memories may have megabytes: it is changed where it is, and after a failure made again, from a copy that is
`JOURNAL` tokens old or so and the tokens fed since.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.backend import Meter, ReplayPoint, Speed, State, check_state, check_together
from ternac.program.loops import check_loops
from ternac.run.executor import Executor
from ternac.run.generation import Chosen, Run

__all__ = ["JOURNAL", "LocalBackend"]

JOURNAL = 512
"""Tokens fed to a session with memories before its state is copied again."""
TOGETHER_BYTES = 1 << 20
"""Largest state of sessions that run together: they are copied side by side for it, and back."""


@dataclass(slots=True)
class _Journal:
    """Of a session with memories ``base``, a state that it once had (None: zeros), and the tokens ``fed``
    since, all with ``loops``. ``stale``: the state is not what they lead to, for something failed on the way.
    """

    base: State | None = None
    fed: list[int] = field(default_factory=list)
    loops: int | None = None
    stale: bool = False


class LocalBackend:
    """A `Backend` on ``executor``: a session is an int16 array [1, state_words] and a dict entry."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.program = executor, executor.program
        self.name, self.chunk = executor.name, executor.chunk
        self.meter = Meter()
        self._states: dict[int, State] = {}
        self._journals: dict[int, _Journal] = {}
        self._next = 0

    @property
    def together(self) -> int:
        return self.executor.rows if 2 * self.program.state_words <= TOGETHER_BYTES else 1

    def open(self) -> int:
        self._next += 1
        self._states[self._next] = self.executor.open(1)
        if self.program.memories:
            self._journals[self._next] = _Journal()
        return self._next

    def run(self, session: int, run: Run) -> Chosen:
        check_loops(self.program, run.loops)
        with self._changing([session], run.steps, run.loops) as state:
            prompt = run.tokens[:-1] if run.count else run.tokens
            if prompt:
                slots = np.zeros(len(prompt), np.int32)
                want = np.zeros(len(prompt), bool)
                self.executor.feed(state, list(prompt), slots, want, loops=run.loops)
            found = Chosen([], run.rng)
            if run.count:
                chosen, (rng,) = self.executor.generate(
                    state, [run.tokens[-1]], run.count, run.sampling, [run.rng], loops=run.loops
                )
                found = Chosen(chosen[0].tolist(), rng)
        self._fed(session, [*run.tokens, *found.tokens[:-1]])
        return found

    def stream(self, session: int, run: Run) -> Generator[int]:
        """Run ``chunk`` tokens at a time; if closed between them, go back and feed what was yielded."""
        feed, left, rng = list(run.tokens), run.count, run.rng
        if not left:
            self.run(session, run)
        while left:
            before = None if session in self._journals else self._state(session).copy()
            some = replace(run, tokens=feed, count=min(self.chunk, left), rng=rng)
            chosen, rng = self.run(session, some)
            left -= len(chosen)
            for at, token in enumerate(chosen):
                try:
                    yield token
                except BaseException:
                    if at + 1 < len(chosen) and session in self._states:
                        if before is None:
                            self._take_back(session, len(chosen) - at - 1)
                        else:
                            self._states[session] = before
                            self.run(session, Run([*feed, *chosen[:at]], loops=run.loops))
                    raise
            feed = chosen[-1:]

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        check_together(sessions, runs, self.together, "this executor")
        count, sampling, loops = runs[0].count, runs[0].sampling, runs[0].loops
        check_loops(self.program, loops)
        with self._changing(sessions, count * len(sessions), loops) as states:
            tokens, rngs = [run.tokens[0] for run in runs], [run.rng for run in runs]
            chosen, rngs = self.executor.generate(states, tokens, count, sampling, rngs, loops=loops)
        for session, run, row in zip(sessions, runs, chosen, strict=True):
            self._fed(session, [run.tokens[0], *row[:-1].tolist()])
        return [Chosen(row.tolist(), rng) for row, rng in zip(chosen, rngs, strict=True)]

    def step(self, session: int, token: int, loops: int | None = None) -> npt.NDArray[np.int32]:
        check_loops(self.program, loops)
        with self._changing([session], 1, loops) as state:
            logits = self.executor.step(state, [token], loops=loops)[0]
        self._fed(session, [token])
        return logits

    def get_state(self, session: int) -> State:
        return self._state(session)[0].copy()

    def set_state(self, session: int, state: State) -> None:
        held = self._held(session)
        check_state(state, self.program)
        held[0] = state
        if session in self._journals:
            self._journals[session] = _Journal(state[None].copy())

    def recall(self, session: int) -> ReplayPoint:
        state, journal = self._held(session), self._journals.get(session)
        if journal is None:
            return ReplayPoint(state[0].copy(), ())
        base = np.zeros_like(state) if journal.base is None else journal.base.copy()
        return ReplayPoint(base[0], tuple(journal.fed), journal.loops)

    def release(self, session: int) -> None:
        self._states.pop(session, None)
        self._journals.pop(session, None)

    def speed(self) -> Speed:
        return Speed(self.meter.tokens_per_second, self.executor.origin, self.meter.data)

    def close(self) -> None:
        """Free the executor; the states stay until they are released."""
        self.executor.close()

    def _held(self, session: int) -> State:
        try:
            return self._states[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def _state(self, session: int) -> State:
        """The session's state, made again if something failed."""
        state, journal = self._held(session), self._journals.get(session)
        if journal is not None and journal.stale:
            state[...] = 0 if journal.base is None else journal.base
            count = len(journal.fed)
            if count:
                slots, want = np.zeros(count, np.int32), np.zeros(count, bool)
                self.executor.feed(state, list(journal.fed), slots, want, loops=journal.loops)
            journal.stale = False
        return state

    @contextmanager
    def _changing(self, sessions: Sequence[int], steps: int, loops: int | None) -> Iterator[State]:
        """Lend the states to be changed, int16 [n, state_words], and keep them at the end, counting ``steps``
        tokens fed with ``loops``. After an exception nothing has changed.
        """
        for session in sessions:
            self._begin(session, loops)
        alone = len(sessions) == 1 and sessions[0] in self._journals
        states = self._alone(sessions[0]) if alone else np.concatenate([self._state(one) for one in sessions])
        began = time.perf_counter()
        yield states
        self.meter.seconds += time.perf_counter() - began
        self.meter.steps += steps
        if alone:
            return
        for session, state in zip(sessions, states, strict=True):
            self._states[session][0] = state

    def _alone(self, session: int) -> State:
        """The state itself, which counts as stale until `_fed` says what it has been fed."""
        state, journal = self._state(session), self._journals[session]
        journal.stale = True
        return state

    def _begin(self, session: int, loops: int | None) -> None:
        """Copy the state of a session with memories where the tokens since the last copy are many, or were
        fed with other loops than the next ones.
        """
        journal = self._journals.get(session)
        if journal is None:
            self._held(session)
            return
        if journal.fed and (len(journal.fed) >= JOURNAL or journal.loops != loops):
            journal.base, journal.fed = self._state(session).copy(), []
        journal.loops = loops

    def _fed(self, session: int, tokens: Sequence[int]) -> None:
        """Note what a session with memories has been fed."""
        journal = self._journals.get(session)
        if journal is not None:
            journal.fed += tokens
            journal.stale = False

    def _take_back(self, session: int, count: int) -> None:
        """Go back to where the last ``count`` tokens had not been fed."""
        journal = self._journals[session]
        del journal.fed[len(journal.fed) - count :]
        journal.stale = True
