"""The native executor: a whole token, for many sessions, in one call of the C side.

The same interface as `ternac.executor.NumpyExecutor` (``open``, ``state_dict``, ``step``), and two that make it
fast: :meth:`NativeExecutor.feed` takes many tokens at once, of one session or of several, and
:meth:`NativeExecutor.generate` chooses and feeds tokens without coming back to Python.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.native.library import best_isa, isa_number, load
from ternac.host.native.plan import Plan, make_plan
from ternac.host.native.weights import Weights, pack_all, trits_per_byte
from ternac.program import Program
from ternac.sampling import EXP, Sampling

State = npt.NDArray[np.int16]
Logits = npt.NDArray[np.int32]
MOST_ROWS = 64
THREADS_FROM = 8 << 20
"""Bytes of packed weights from which several threads pay."""
_DTYPES = {"i8": np.int8, "i16": np.int16, "acc": np.int32}


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NativeExecutor:
    """Runs one program for any number of sessions at a time, on the CPU, in C.

    ``isa``: instruction set by name (default: the best of this processor). ``bits``: "2" or "1.6" per weight
    (default: 1.6 where the weights exceed the cache and decoding is cheap). ``threads``: default one for small
    programs, else all processors. ``weights``: matrices packed before, if they are not to be taken from the
    program. ToolMissing if the C part was not compiled, UnsupportedOp, IllegalProgram, UsageError.

    States are plain int16 arrays, as NumPy's. Calls from several Python threads take turns.
    """

    name = "native"

    def __init__(
        self,
        program: Program,
        *,
        isa: str | None = None,
        bits: str | None = None,
        threads: int | None = None,
        weights: Weights | None = None,
    ) -> None:
        self._ffi, self._lib = load()
        self._model: Any = None
        self._isa = isa_number(isa)
        self.isa = isa or best_isa()
        self.program = program
        matrices = {name: program.consts[name] for name, role in program.roles().items() if role == "trits"}
        lanes = self._lib.tn_isa_lanes(self._isa)
        sizes = [(m.shape[0], m.shape[1]) for m in matrices.values()]
        trits = weights.trits if weights else trits_per_byte(bits, self.isa, sizes)
        plan = self._plan = make_plan(program, lanes * trits, trits)
        if weights is None:
            weights = pack_all(matrices, lanes, trits)
        elif weights.lanes != lanes or {n: m.shape for n, m in matrices.items()} != weights.shapes:
            raise UsageError("the packed weights are of another program or instruction set")
        self.weights = weights
        self._slices = program.state_slices()
        self.rows = _rows(plan.row_bytes, weights.nbytes)
        self.threads = threads or (processors() if weights.nbytes >= THREADS_FROM else 1)
        if not 1 <= self.threads <= 1024:
            raise UsageError(f"{threads} threads, needs 1 to 1024")
        self._lock = threading.Lock()
        self._model = self._open(plan, self.rows, self.threads)
        self._tracer: tuple[Plan, Any] | None = None

    @property
    def bits(self) -> str:
        """Bits per weight: "2" or "1.6"."""
        return "2" if self.weights.trits == 4 else "1.6"

    @property
    def bytes_held(self) -> dict[str, int]:
        """Memory by purpose: packed ``weights``; ``other`` constants, which are the program's own arrays; ``rows``,
        the values of as many tokens as run at a time."""
        roles = self.program.roles()
        other = sum(int(self.program.consts[n].nbytes) for n, role in roles.items() if role != "trits")
        return {"weights": self.weights.nbytes, "other": other, "rows": self._plan.row_bytes * self.rows}

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""
        if batch < 1:
            raise UsageError(f"batch is {batch}, needs at least 1")
        return np.zeros((batch, self.program.state_words), np.int16)

    def state_dict(self, state: State) -> dict[str, State]:
        """The same state as views by state name, each int16 [B, length]."""
        return {name: state[:, part] for name, part in self._slices.items()}

    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, Logits] | None = None,
    ) -> Logits:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``tokens`` are B integers. With ``trace``, every value of the program is put there by name, int32
        [B, length]. A bad token or state raises UsageError before anything is changed.
        """
        ids = self._ids(tokens)
        self._check_state(state, len(ids))
        if trace is not None:
            return self._traced(state, ids, trace)
        return self.feed(state, ids, np.arange(len(ids)))

    def feed(
        self, state: State, tokens: Iterable[int] | npt.NDArray[Any], slots: Any, want: Any = None
    ) -> Logits:
        """Feed ``tokens[i]`` to the session in row ``slots[i]`` of ``state``, in this order where it is the same.

        Products run for up to ``rows`` tokens at a time, whether of one session (a prompt) or of many. Returns
        int32 logits [wanted, vocab] of the tokens i with ``want[i]`` (None: all). UsageError before any change.
        """
        ids = self._ids(tokens)
        at = np.asarray(slots)
        self._check_state(state, None)
        flags = np.ones(len(ids), np.uint8) if want is None else np.asarray(want, np.uint8)
        if at.shape != ids.shape or flags.shape != ids.shape:
            raise UsageError("tokens, slots and want must have one length")
        if at.min() < 0 or at.max() >= len(state):
            raise UsageError(f"a slot is outside 0..{len(state) - 1}")
        at = np.ascontiguousarray(at, np.int32)
        out = np.empty((int(flags.sum()), self.program.vocab), np.int32)
        work = _Rows(state)
        done = 0
        for first in range(0, len(ids), self.rows):
            part = slice(first, first + self.rows)
            count = len(ids[part])
            self._call(
                self._lib.tn_feed, count, self._in("int32_t[]", ids[part]), self._in("int32_t[]", at[part]),
                self._in("uint8_t[]", flags[part]), self._inout("int16_t[]", work.array),
                self._inout("int32_t[]", out[done:]),
            )  # fmt: skip
            done += int(flags[part].sum())
        work.back()
        return out

    def generate(
        self, state: State, tokens: Sequence[int], count: int, sampling: Sampling, rngs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """In every session, ``count`` times: feed the last token, choose the next. (chosen [B, count], generators).

        Session b starts with ``tokens[b]`` and generator state ``rngs[b]``; the last token chosen is not fed.
        """
        ids = self._ids(tokens).copy()
        self._check_state(state, len(ids))
        if count < 1 or len(rngs) != len(ids) or not all(1 <= rng < 1 << 32 for rng in rngs):
            raise UsageError("generate needs a count of at least 1 and a generator state for each session")
        out = np.empty((len(ids), count), np.int32)
        generators = np.array(rngs, np.uint32)
        work = _Rows(state)
        for first in range(0, len(ids), self.rows):
            part = slice(first, first + self.rows)
            slots = np.arange(len(ids), dtype=np.int32)[part]
            self._call(
                self._lib.tn_generate, len(slots), self._inout("int32_t[]", ids[part]),
                self._in("int32_t[]", slots), self._inout("int16_t[]", work.array), count, sampling.greedy,
                sampling.m, sampling.s, sampling.top_k, self._inout("uint32_t[]", generators[part]),
                self._inout("int32_t[]", out[part]),
            )  # fmt: skip
        work.back()
        return out, [int(rng) for rng in generators]

    def products_only(self, rows: int = 1) -> None:
        """The products of a token and nothing else, on whatever is there: for measurements."""
        if not 1 <= rows <= self.rows:
            raise UsageError(f"{rows} rows at a time, needs 1 to {self.rows}")
        self._call(self._lib.tn_products_only, rows)

    def close(self) -> None:
        """End the threads and free the rows; the executor cannot be used any more. Twice is allowed."""
        with self._lock:
            for model in (self._model, self._tracer[1] if self._tracer else None):
                if model is not None:
                    self._lib.tn_close(model)
            self._model = self._tracer = None

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    def _open(self, plan: Plan, rows: int, threads: int) -> Any:
        ops = self._ffi.new("tn_op[]", len(plan.ops))
        for op, planned in zip(ops, plan.ops, strict=True):
            for field in ("kind", "form", "length", "columns", "shift", "factor", "sync", "segment", "tail", "wide", "out"):
                setattr(op, field, getattr(planned, field))
            for index, offset in enumerate(planned.ins):
                getattr(op, "in")[index] = offset
            if planned.constant:
                op.data = self._constant(planned.constant)
        model = self._lib.tn_open(
            self._isa, ops, len(plan.ops), plan.row_bytes, rows, threads,
            self.weights.lanes * self.weights.trits, plan.places[self.program.logits][0], self.program.vocab,
            self.program.state_words, self._ffi.cast("uint16_t *", EXP.ctypes.data),
        )  # fmt: skip
        if model == self._ffi.NULL:
            raise UsageError(f"the system refuses memory for {rows} rows or {threads} threads")
        return model

    def _constant(self, name: str) -> Any:
        if name in self.weights.shapes:
            return self.weights.pointer(name)
        return self._ffi.cast("void *", self.program.consts[name].ctypes.data)

    def _traced(self, state: State, ids: npt.NDArray[np.int32], trace: MutableMapping[str, Logits]) -> Logits:
        """One session after the other, in a plan where every value stays."""
        if self._tracer is None:
            plan = make_plan(self.program, self.weights.lanes * self.weights.trits, self.weights.trits, keep=True)
            self._tracer = plan, self._open(plan, 1, 1)
        plan, model = self._tracer
        values: dict[str, list[Any]] = {name: [] for name in plan.places}
        out = np.empty((len(ids), self.program.vocab), np.int32)
        work = _Rows(state)
        zero, one = np.zeros(1, np.int32), np.ones(1, np.uint8)
        for row in range(len(ids)):
            self._call(
                self._lib.tn_feed, 1, self._in("int32_t[]", ids[row : row + 1]), self._in("int32_t[]", zero),
                self._in("uint8_t[]", one), self._inout("int16_t[]", work.array[row : row + 1]),
                self._inout("int32_t[]", out[row : row + 1]), model=model,
            )  # fmt: skip
            memory = self._ffi.buffer(self._lib.tn_row(model, 0), plan.row_bytes)
            for name, (offset, dtype, length) in plan.places.items():
                found = np.frombuffer(memory, _DTYPES[dtype], length, offset)
                values[name].append(found.astype(np.int32))
        work.back()
        trace.update({name: np.stack(parts) for name, parts in values.items()})
        return out

    def _call(self, function: Any, *arguments: Any, model: Any = None) -> None:
        with self._lock:
            if self._model is None:
                raise UsageError("the executor is closed")
            if function(self._model if model is None else model, *arguments):
                raise UsageError(
                    "the executor was made before this process was forked, and its threads stayed there",
                    "make it in the process that uses it",
                )

    def _ids(self, tokens: Iterable[int] | npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
        vocab = self.program.vocab
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= vocab:
            raise UsageError(f"a token is not an integer in 0..{vocab - 1}")
        return np.ascontiguousarray(ids, np.int32)

    def _check_state(self, state: State, rows: int | None) -> None:
        words = self.program.state_words
        if state.dtype != np.int16 or state.ndim != 2 or state.shape[1] != words or len(state) != (rows or len(state)):
            raise UsageError(f"state is {state.dtype}{list(state.shape)}, needs int16[{rows or 'B'}, {words}]")

    def _in(self, kind: str, array: npt.NDArray[Any]) -> Any:
        return self._ffi.from_buffer(kind, array)

    def _inout(self, kind: str, array: npt.NDArray[Any]) -> Any:
        return self._ffi.from_buffer(kind, array, require_writable=True)


class _Rows:
    """A state as one contiguous piece of memory; :meth:`back` writes it to where it came from."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.array = np.ascontiguousarray(state)

    def back(self) -> None:
        if self.array is not self.state:
            self.state[...] = self.array


def _rows(row_bytes: int, weights: int) -> int:
    """Rows at a time: 64 where they are small, else as many as 4% of the weights hold, but at least 16."""
    room = weights // 25 if weights >= THREADS_FROM else 16 << 20
    return int(min(MOST_ROWS, max(16, room // row_bytes)))
