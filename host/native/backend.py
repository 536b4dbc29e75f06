"""Sessions on the native executor, as `ternac.host.backend.Backend` wants them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.backend import Meter, State
from ternac.host.native.executor import THREADS_FROM, NativeExecutor
from ternac.program import Program
from ternac.sampling import Sampling


class NativeBackend:
    """The native executor with any number of sessions; each costs its state, 2 bytes a word, and a dict
    entry.
    """

    name = "native"

    def __init__(self, program: Program, executor: NativeExecutor | None = None) -> None:
        self.program = program
        self.meter = Meter()
        self.executor = executor or NativeExecutor(program)
        self.chunk = 1 if self.executor.weights.nbytes >= THREADS_FROM else 32
        self._states: dict[int, State] = {}
        self._next = 0

    @property
    def origin(self) -> str:
        """What ran, for reports."""
        e = self.executor
        return f"native on this host ({e.isa}, {e.bits} bits a weight, {e.threads} thread(s)), measured"

    def open(self) -> int:
        """A new session."""
        self._next += 1
        self._states[self._next] = self.executor.open(1)
        return self._next

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """The prompt many tokens at a time, then all chosen tokens in one call."""
        state = self._state(session)
        began = time.perf_counter()
        prompt = tokens[:-1] if count else tokens
        if prompt:
            slots = np.zeros(len(prompt), np.int32)
            self.executor.feed(state, list(prompt), slots, np.zeros(len(prompt), np.uint8))
        chosen: list[int] = []
        if count:
            out, (rng,) = self.executor.generate(state, [tokens[-1]], count, sampling, [rng])
            chosen = out[0].tolist()
        self._count(len(tokens) + max(count - 1, 0), began)
        return chosen, rng

    @property
    def together(self) -> int:
        """Sessions whose products are taken at the same time, so that weights are read once for all."""
        return self.executor.rows

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """One token for each session, ``count`` chosen in each, in one call. UsageError for one twice."""
        if not 1 <= len(sessions) <= self.together or len(set(sessions)) != len(sessions):
            raise UsageError(
                f"{len(sessions)} sessions at a time: this executor runs 1 to {self.together} different ones"
            )
        states = np.concatenate([self._state(session) for session in sessions])
        began = time.perf_counter()
        chosen, following = self.executor.generate(states, tokens, count, sampling, rngs)
        self._count(count * len(sessions), began)
        for session, state in zip(sessions, states, strict=True):
            self._states[session][0] = state
        return [(row.tolist(), rng) for row, rng in zip(chosen, following, strict=True)]

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """One token."""
        began = time.perf_counter()
        logits = self.executor.step(self._state(session), [token])[0]
        self._count(1, began)
        return logits

    def get_state(self, session: int) -> State:
        """A copy."""
        return self._state(session)[0].copy()

    def set_state(self, session: int, state: State) -> None:
        """Replace it."""
        self._state(session)[0] = state

    def release(self, session: int) -> None:
        """Forget it."""
        self._states.pop(session, None)

    def close(self) -> None:
        """Forget all, free the memory."""
        self._states.clear()
        self.executor.close()

    def _state(self, session: int) -> State:
        try:
            return self._states[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def _count(self, steps: int, began: float) -> None:
        self.meter.steps += steps
        self.meter.seconds += time.perf_counter() - began
