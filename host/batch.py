"""Sessions on an executor that takes many tokens, and chooses many, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.memory import MemoryBackend
from ternac.program.program import Program
from ternac.run.sampling import Sampling

__all__ = ["BatchBackend"]


class BatchBackend(MemoryBackend):
    """``executor`` has ``step``, ``feed``, ``generate``, ``rows`` and ``close``, as `NativeExecutor`."""

    def __init__(self, program: Program, executor: Any) -> None:
        self.executor = executor
        super().__init__(program, executor)

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """The prompt many tokens at a time, then all chosen tokens in one call."""
        chosen: list[int] = []
        with self._changing([session], len(tokens) + max(count - 1, 0)) as state:
            prompt = tokens[:-1] if count else tokens
            if prompt:
                slots = np.zeros(len(prompt), np.int32)
                self.executor.feed(state, list(prompt), slots, np.zeros(len(prompt), np.uint8))
            if count:
                out, (rng,) = self.executor.generate(state, [tokens[-1]], count, sampling, [rng])
                chosen = out[0].tolist()
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
        with self._changing(sessions, count * len(sessions)) as states:
            chosen, following = self.executor.generate(states, tokens, count, sampling, rngs)
        return [(row.tolist(), rng) for row, rng in zip(chosen, following, strict=True)]

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """One token."""
        with self._changing([session], 1) as state:
            logits: npt.NDArray[np.int32] = self.executor.step(state, [token])[0]
        return logits

    def close(self) -> None:
        """Free the executor's memory; the states stay until they are released."""
        self.executor.close()
