"""Back ends whose states are arrays of this process: the sessions' book, and any executor like NumPy's."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.backend import Meter, Recall, State
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase
from ternac.run.sampling import Sampling

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Sessions by number on ``executor``, each an int16 array [1, state_words] and a dict entry.

    A subclass has `run`, which takes the states with :meth:`_changing` and changes those.
    """

    chunk = 1

    def __init__(self, program: Program, executor: ExecutorBase) -> None:
        self.program = program
        self.meter = Meter()
        self._open = executor.open
        self._states: dict[int, State] = {}
        self._next = 0

    def open(self) -> int:
        """A new session."""
        self._next += 1
        self._states[self._next] = self._open(1)
        return self._next

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """As the back end's."""
        raise NotImplementedError

    def stream(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> Generator[int]:
        """``chunk`` tokens at a time; closed between them, it goes back and feeds what was handed out."""
        feed = list(tokens)
        if not count:
            self.run(session, feed, 0, sampling, rng)
        while count:
            before = self._state(session).copy()
            chosen, rng = self.run(session, feed, min(self.chunk, count), sampling, rng)
            count -= len(chosen)
            for at, token in enumerate(chosen):
                try:
                    yield token
                except BaseException:
                    if at + 1 < len(chosen) and session in self._states:
                        self._states[session] = before
                        self.run(session, [*feed, *chosen[:at]], 0, sampling, rng)
                    raise
            feed = chosen[-1:]

    def get_state(self, session: int) -> State:
        """A copy."""
        return self._state(session)[0].copy()

    def set_state(self, session: int, state: State) -> None:
        """Replace it. UsageError for another type or length."""
        held = self._state(session)
        check_state(state, self.program)
        held[0] = state

    def recall(self, session: int) -> Recall:
        """The state itself."""
        return Recall(self.get_state(session), ())

    def release(self, session: int) -> None:
        """Forget it."""
        self._states.pop(session, None)

    def close(self) -> None:
        """The states stay until they are released."""

    def _state(self, session: int) -> State:
        try:
            return self._states[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    @contextmanager
    def _changing(self, sessions: Sequence[int], steps: int) -> Iterator[State]:
        """Copies of the states, int16 [n, state_words], which become the sessions' at the end; then ``steps``
        tokens are counted. After an exception nothing has changed."""
        states = np.concatenate([self._state(session) for session in sessions])
        began = time.perf_counter()
        yield states
        self.meter.seconds += time.perf_counter() - began
        self.meter.steps += steps
        for session, state in zip(sessions, states, strict=True):
            self._states[session][0] = state


def check_state(state: npt.NDArray[np.int16], program: Program) -> None:
    """UsageError unless ``state`` is one session's of ``program``."""
    if state.dtype != np.int16 or state.shape != (program.state_words,):
        raise UsageError(
            f"the state is {state.dtype}{list(state.shape)}, needs int16[{program.state_words}]",
            "restore a session only from the state of the same program",
        )
