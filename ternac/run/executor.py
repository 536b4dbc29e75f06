"""The interface of every executor of a program, and the part of it that is the same for all."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.loops import MemoryPart, check_loops
from ternac.program.program import Program
from ternac.run.sampling import U32, Sampling, choose

__all__ = ["Executor", "ExecutorBase", "Logits", "State", "Tokens", "memory_view"]

State = npt.NDArray[np.int16]
Logits = npt.NDArray[np.int32]
Tokens = Iterable[int] | npt.NDArray[Any]


def memory_view(state: State, part: MemoryPart) -> npt.NDArray[Any]:
    """Rows in the states int16 [B, words] of B sessions: a view, int8 or int16 [B, rows, width]."""
    memory = part.memory
    words = state[:, part.start : part.start + memory.words]
    flat = words.view(np.int8) if memory.dtype == "i8" else words
    return flat.reshape(len(state), memory.rows, memory.width)


class Executor(Protocol):
    """Run one program for any number of sessions at a time.

    The state of B sessions is a plain int16 array [B, program.state_words], zeros at the start, changed in
    place by ``step``, ``feed`` and ``generate``; copy rows to fork, save or move sessions. An executor holds
    no session. A bad token, state or slot raises UsageError before anything is changed. The rows of a
    program's memories are part of the state, and changed where they lie.

    ``loops``: runs of every LOOP without levels, for this call (None: ``times`` of each). Raises UsageError
    if the program has no such LOOP or it allows fewer.
    """

    @property
    def name(self) -> str:
        """``numpy``, ``native``, ``gpu``, ..."""

    @property
    def program(self) -> Program:
        """The program that it runs."""

    @property
    def rows(self) -> int:
        """Sessions that run at the same time for less than they cost one after the other."""

    @property
    def chunk(self) -> int:
        """Tokens worth choosing in one call of ``generate``."""

    @property
    def cycles(self) -> int:
        """Clock cycles of all tokens so far, of an executor that is a simulation of one; else 0."""

    @property
    def origin(self) -> str:
        """Origin of a measured speed, for reports."""

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""

    def state_dict(self, state: State) -> dict[str, npt.NDArray[Any]]:
        """Views of ``state`` by name: of a state int16 [B, length], of a memory int8 or int16
        [B, rows, width].
        """

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        """Feed one token to each session; returns logits int32 [B, vocab].

        ``trace`` receives the values of the program by name, int32 [B, length], as far as they are known;
        of a LOOP those of its last run.
        """

    def feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any = None, *, loops: int | None = None
    ) -> Logits:
        """Feed ``tokens[i]`` to the session in row ``slots[i]`` of ``state``, in order.

        Returns int32 logits [wanted, vocab] of the tokens i with ``want[i]`` (None: all).
        """

    def generate(
        self,
        state: State,
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
        *,
        loops: int | None = None,
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """In every session, ``count`` times: feed the last token, choose the next.

        Session b starts with ``tokens[b]`` and generator state ``rngs[b]``; the last token chosen is not fed.
        Returns (chosen int32 [B, count], generator states).
        """

    def close(self) -> None:
        """Free what the executor holds; it cannot be used any more. Closing twice is allowed."""


class ExecutorBase:
    """An `Executor` made from ``step`` alone, which a subclass has; and the checks of arguments."""

    name = ""
    program: Program
    rows = 1
    chunk = 1
    cycles = 0

    @property
    def origin(self) -> str:
        return f"{self.name} on this host, measured"

    def open(self, batch: int = 1) -> State:
        if batch < 1:
            raise UsageError(f"batch is {batch}, needs at least 1")
        return np.zeros((batch, self.program.state_words), np.int16)

    def state_dict(self, state: State) -> dict[str, npt.NDArray[Any]]:
        states: dict[str, npt.NDArray[Any]] = {}
        states |= {name: state[:, part] for name, part in self.program.state_slices().items()}
        for name, part in self.program.memory_slices().items():
            states[name] = memory_view(state, MemoryPart(part.start, self.program.memories[name]))
        return states

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        raise NotImplementedError

    def feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any = None, *, loops: int | None = None
    ) -> Logits:
        ids, at, flags = self.check_feed(state, tokens, slots, want)
        self.check_loops(loops)
        found = [
            self.step(state[slot : slot + 1], ids[i : i + 1], loops=loops)[0] for i, slot in enumerate(at)
        ]
        return np.array(found, np.int32)[flags]

    def generate(
        self,
        state: State,
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
        *,
        loops: int | None = None,
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        last = self.check_generate(state, tokens, count, rngs).copy()
        self.check_loops(loops)
        chosen, following = np.empty((len(last), count), np.int32), list(rngs)
        for at in range(count):
            for row, logits in enumerate(self.step(state, last, loops=loops)):
                last[row], following[row] = choose(logits, sampling, following[row])
            chosen[:, at] = last
        return chosen, following

    def close(self) -> None:
        pass

    def check_tokens(self, tokens: Tokens) -> npt.NDArray[Any]:
        """Return ``tokens`` as an integer array [n]. Raises UsageError if there is none, or one is bad."""
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
        vocab = self.program.vocab
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= vocab:
            raise UsageError(f"a token is not an integer in 0..{vocab - 1}")
        return ids

    def check_state(self, state: State, rows: int | None = None) -> None:
        """Raises UsageError unless ``state`` is int16 [rows, state_words] (None: any number of rows)."""
        shape = (len(state) if rows is None else rows, self.program.state_words)
        if state.dtype != np.int16 or state.shape != shape:
            raise UsageError(f"state is {state.dtype}{list(state.shape)}, needs int16{list(shape)}")
        if self.program.memories and state.strides[1] != state.itemsize:
            raise UsageError(
                f"the words of a state are {state.strides[1]} bytes apart, needs {state.itemsize}"
            )

    def check_loops(self, loops: int | None) -> None:
        """Raises UsageError unless a request may ask for ``loops`` runs (None: as the program says)."""
        if loops is not None:
            check_loops(self.program, loops)

    def check_feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return the arguments of ``feed`` as arrays of one length: tokens, slots, wanted."""
        ids, at = self.check_tokens(tokens).astype(np.int32), np.asarray(slots)
        self.check_state(state)
        flags = np.ones(len(ids), bool) if want is None else np.array(want, bool)
        if at.shape != ids.shape or flags.shape != ids.shape:
            raise UsageError("tokens, slots and want must have one length")
        if at.min() < 0 or at.max() >= len(state):
            raise UsageError(f"a slot is outside 0..{len(state) - 1}")
        return ids, np.ascontiguousarray(at, np.int32), flags

    def check_generate(
        self, state: State, tokens: Tokens, count: int, rngs: Sequence[int]
    ) -> npt.NDArray[np.int32]:
        """Return the tokens of ``generate`` as an int32 array. Raises UsageError for a bad argument."""
        ids = self.check_tokens(tokens).astype(np.int32)
        self.check_state(state, len(ids))
        if count < 1 or len(rngs) != len(ids) or not all(1 <= rng <= U32 for rng in rngs):
            raise UsageError("generate needs a count of at least 1 and a generator state for each session")
        return ids
