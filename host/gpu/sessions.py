"""Sessions that live on the device: slots of one tensor of states, which grows as they come."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import torch

from ternac.host.gpu.engine import Engine
from ternac.host.gpu.graph import Tokens

State = npt.NDArray[np.int16]


class Slots:
    """Slots of `Rows.states`. The first ``rows`` and one more belong to calls on states in host memory
    (:meth:`bring`, :meth:`take`); a session is an int16 [state_words] in a slot of its own after these.
    """

    def __init__(self, engine: Engine, tokens: Tokens, lock: threading.RLock) -> None:
        self._engine, self._tokens, self._lock = engine, tokens, lock
        self._words = engine.program.state_words
        self._free: list[int] = []
        self._first = engine.rows.states.shape[0]

    def bring(self, state: State) -> None:
        """States of host memory into the first slots."""
        self._engine.rows.states[: len(state), : self._words] = self._tensor(state)

    def take(self, count: int) -> State:
        """What the first slots hold."""
        return self._engine.rows.states[:count, : self._words].cpu().numpy()

    def open(self) -> int:
        """A slot with a zero state; the tensor is doubled when none is free, and graphs are made anew."""
        with self._lock:
            if not self._free:
                self._grow()
            slot = self._free.pop()
            self._engine.rows.states[slot] = 0
            return slot

    def release(self, slot: int) -> None:
        """Give a slot back."""
        with self._lock:
            self._free.append(slot)

    def read(self, slot: int) -> State:
        """A copy of a session's state."""
        with self._lock:
            return self._engine.rows.states[slot, : self._words].cpu().numpy().copy()

    def write(self, slot: int, state: State) -> None:
        """Replace a session's state."""
        with self._lock:
            self._engine.rows.states[slot, : self._words] = self._tensor(state)

    def _grow(self) -> None:
        rows = self._engine.rows
        old = rows.states
        have, used = old.shape[0], old.shape[0] - self._first
        more = max(16, used)
        grown = torch.zeros(have + more, old.shape[1], dtype=old.dtype, device=old.device)
        grown[:have] = old
        rows.states = grown
        self._tokens.clear()
        self._free = list(range(have + more - 1, have - 1, -1))

    def _tensor(self, state: State) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(state, np.int16)).to(self._engine.device)
