"""Sessions on the NumPy executor, or on any other with its interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.host.memory import MemoryBackend
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose

__all__ = ["NumpyBackend"]


class NumpyBackend(MemoryBackend):
    """The NumPy executor, or ``executor``; token by token."""

    def __init__(self, program: Program, executor: Any = None) -> None:
        self.executor: Any = executor or NumpyExecutor(program)
        super().__init__(program, self.executor)
        self.name: str = self.executor.name
        self.origin = f"{'NumPy' if self.name == 'numpy' else self.name} on this host, measured"

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """Token by token."""
        chosen: list[int] = []
        with self._changing([session], len(tokens) + max(count - 1, 0)) as state:
            for token in tokens:
                logits = self.executor.step(state, np.array([token]))
            while len(chosen) < count:
                token, rng = choose(logits[0], sampling, rng)
                chosen.append(token)
                if len(chosen) < count:
                    logits = self.executor.step(state, np.array([token]))
        return chosen, rng

    @property
    def together(self) -> int:
        """One: there is nothing to gain."""
        return 1

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """One after the other."""
        return [self.run(s, [t], count, sampling, r) for s, t, r in zip(sessions, tokens, rngs, strict=True)]

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """One token."""
        with self._changing([session], 1) as state:
            logits: npt.NDArray[np.int32] = self.executor.step(state, np.array([token]))[0]
        return logits
