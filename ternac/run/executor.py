"""What every executor of a program has: states as rows, and the checks of what it is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.program import Program

State = npt.NDArray[np.int16]


class ExecutorBase:
    """The part of an executor that does not compute.

    The state of B sessions is a plain int16 array [B, program.state_words], zeros at the start, changed in
    place by an executor's ``step``; copy rows to fork, save or move sessions.  An executor holds no session.
    """

    program: Program

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""
        if batch < 1:
            raise UsageError(f"batch is {batch}, needs at least 1")
        return np.zeros((batch, self.program.state_words), np.int16)

    def state_dict(self, state: State) -> dict[str, State]:
        """The same state as views by state name, each int16 [B, length]."""
        return {name: state[:, part] for name, part in self.program.state_slices().items()}

    def check_tokens(self, tokens: Iterable[int] | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``tokens``, at least one, as an array [n] of some integer type; UsageError for anything else."""
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
        vocab = self.program.vocab
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= vocab:
            raise UsageError(f"a token is not an integer in 0..{vocab - 1}")
        return ids

    def check_state(self, state: State, rows: int | None = None) -> None:
        """UsageError unless ``state`` is int16 [rows, state_words] (None: any number of rows)."""
        shape = (len(state) if rows is None else rows, self.program.state_words)
        if state.dtype != np.int16 or state.shape != shape:
            raise UsageError(f"state is {state.dtype}{list(state.shape)}, needs int16{list(shape)}")
