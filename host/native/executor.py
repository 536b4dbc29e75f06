"""The native executor: a whole token, for many sessions, in one call of the C side.

The same interface as `ternac.run.numpy_executor.NumpyExecutor` (``open``, ``state_dict``, ``step``), and
two methods that make it fast: :meth:`NativeExecutor.feed` takes many tokens at once, of one session or of
several, and :meth:`NativeExecutor.generate` chooses and feeds tokens without coming back to Python.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.native.engine import Engine
from ternac.host.native.library import best_isa, isa_number, kernels, load
from ternac.host.native.plan import Plan, make_plan
from ternac.host.native.weights import Weights, pack_all, trits_per_byte
from ternac.program.program import Program
from ternac.run.coding import RangeDecoder, Spans
from ternac.run.executor import ExecutorBase, Logits, State, Tokens
from ternac.run.sampling import Sampling

MOST_ROWS = 64
THREADS_FROM = 8 << 20
"""Bytes of packed weights from which several threads pay."""
MOST_ENGINES = 8
"""Numbers of runs of the loops for which the rows and threads are kept."""
SMALL_CHUNK = 32
"""Tokens chosen in one call where a token takes less time than the call."""


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NativeExecutor(ExecutorBase):
    """Runs one program for any number of sessions at a time, on the CPU, in C.

    ``isa``: instruction set by name (default: the best of this processor). ``bits``: "2" or "1.6" per weight
    (default: 1.6 where the weights exceed the cache and decoding is cheap). ``threads``: default one for
    small programs, else all processors. ``weights``: matrices packed before, if they are not to be taken
    from the program. Raises ToolMissing if the C part was not compiled, UnsupportedOp if
    it has no kernel for an op, IllegalProgram, UsageError.

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
        self._isa = isa_number(isa)
        self.isa, self.program = isa or best_isa(), program
        matrices = {name: program.consts[name] for name, role in program.roles().items() if role == "trits"}
        lanes = load()[1].tn_isa_lanes(self._isa)
        sizes = [(m.shape[0], m.shape[1]) for m in matrices.values()]
        trits = weights.trits if weights else trits_per_byte(bits, self.isa, sizes)
        plan = self.plan = make_plan(program, lanes * trits, kernels())
        if weights is None:
            weights = pack_all(matrices, lanes, trits)
        elif weights.lanes != lanes or {n: m.shape for n, m in matrices.items()} != weights.shapes:
            raise UsageError("the packed weights are of another program or instruction set")
        self.weights = weights
        self.rows = _rows(plan.row_bytes, weights.nbytes)
        many = processors() if weights.nbytes >= THREADS_FROM else 1
        self.threads = many if threads is None else threads
        if not 1 <= self.threads <= 1024:
            raise UsageError(f"{threads} threads, needs 1 to 1024")
        self.chunk = 1 if weights.nbytes >= THREADS_FROM else SMALL_CHUNK
        self._engine = Engine(self._isa, program, plan, weights, self.rows, self.threads)
        self._engines: dict[int | None, Engine] = {None: self._engine}  # by runs of the loops
        self._tracers: dict[int | None, Engine] = {}

    @property
    def origin(self) -> str:
        return (
            f"native on this host ({self.isa}, {self.bits} bits a weight, {self.threads} thread(s)), measured"
        )

    @property
    def bits(self) -> str:
        """Bits per weight: "2" or "1.6"."""
        return "2" if self.weights.trits == 4 else "1.6"

    @property
    def bytes_held(self) -> dict[str, int]:
        """Memory by purpose: packed ``weights``; ``rows``, the values of as many tokens as run at a time;
        ``other`` constants, which are the program's own arrays and not copied.
        """
        roles = self.program.roles()
        other = sum(int(self.program.consts[n].nbytes) for n, role in roles.items() if role != "trits")
        return {"weights": self.weights.nbytes, "rows": self.plan.row_bytes * self.rows, "other": other}

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        ids = self._ids(tokens)
        self.check_state(state, len(ids))
        self.check_loops(loops)
        if trace is not None:
            return self._traced(state, ids, trace, loops)
        return self.feed(state, ids, np.arange(len(ids)), loops=loops)

    def feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any = None, *, loops: int | None = None
    ) -> Logits:
        """Products run for up to ``rows`` tokens at a time, of one session (a prompt) or of many."""
        self.check_loops(loops)
        return self._feed(state, tokens, slots, want, loops, None)

    def time_ops(
        self, state: State, tokens: Tokens, slots: Any, want: Any = None
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Feed as :meth:`feed` does; returns the nanoseconds of each op by its kind, in the program's order.

        ``"waiting"`` is that for other threads. All are the first thread's; reading the clock adds some 20 ns
        an op and row.
        """
        spent = np.zeros(len(self.plan.ops) + 1, np.int64)
        self._feed(state, tokens, slots, want, None, spent)
        kinds = np.array([*(op.kind for op in self.plan.ops), "waiting"])
        return {str(kind): spent[kinds == kind] for kind in dict.fromkeys(kinds)}

    def _feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any, loops: int | None, spent: Any
    ) -> Logits:
        ids, at, wanted = self.check_feed(state, tokens, slots, want)
        flags, engine = wanted.astype(np.uint8), self._engine_of(loops)
        out = np.empty((int(flags.sum()), self.program.vocab), np.int32)
        done = 0
        with _rows_apart(state) as words:
            for part in self._parts(len(ids)):
                engine.feed(words, ids[part], at[part], flags[part], out[done:], spent)
                done += int(flags[part].sum())
        return out

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
        ids = self.check_generate(state, tokens, count, rngs)
        self.check_loops(loops)
        slots, generators = np.arange(len(ids), dtype=np.int32), np.array(rngs, np.uint32)
        out, engine = np.empty((len(ids), count), np.int32), self._engine_of(loops)
        with _rows_apart(state) as words:
            for part in self._parts(len(ids)):
                engine.generate(words, ids[part], slots[part], count, sampling, generators[part], out[part])
        return out, [int(rng) for rng in generators]

    def feed_spans(self, state: State, tokens: Tokens, slots: Any, following: Any) -> Spans:
        """Feed as :meth:`feed` does; returns the spans (`ternac.run.coding`) of the tokens ``following``."""
        ids, at, _ = self.check_feed(state, tokens, slots, None)
        targets = np.ascontiguousarray(self.check_tokens(following), np.int32)
        if targets.shape != ids.shape:
            raise UsageError("tokens, slots and those following must have one length")
        out = np.empty((len(ids), 3), np.uint64)
        with _rows_apart(state) as words:
            for part in self._parts(len(ids)):
                self._engine.feed_spans(words, ids[part], at[part], targets[part], out[part])
        return out

    def decode(
        self, state: State, tokens: Tokens, count: int, decoders: Sequence[RangeDecoder]
    ) -> npt.NDArray[np.int32]:
        """In every session, ``count`` times: feed the last token, decode the next; int32 [B, count].

        Session b starts with ``tokens[b]``; the last token decoded is not fed. Raises ArchiveError where
        bytes are of no encoder.
        """
        ids = self.check_generate(state, tokens, count, [1] * len(decoders)).copy()
        slots, out = np.arange(len(ids), dtype=np.int32), np.empty((len(ids), count), np.int32)
        with _rows_apart(state) as words:
            for part in self._parts(len(ids)):
                self._engine.decode(words, ids[part], slots[part], count, decoders[part], out[part])
        return out

    def products_only(self, rows: int = 1) -> None:
        """The products of a token and nothing else, on whatever is there: for measurements."""
        if not 1 <= rows <= self.rows:
            raise UsageError(f"{rows} rows at a time, needs 1 to {self.rows}")
        self._engine.products_only(rows)

    def close(self) -> None:
        """End the threads and free the rows."""
        for engine in (*self._engines.values(), *self._tracers.values()):
            engine.close()

    def _engine_of(self, loops: int | None) -> Engine:
        """The engine whose loops run ``loops`` times; it is made when it is first asked for."""
        if loops not in self._engines:
            plan = self._plan(loops=loops)
            _keep_few(
                self._engines,
                loops,
                Engine(self._isa, self.program, plan, self.weights, self.rows, self.threads),
            )
        return self._engines[loops]

    def _plan(self, *, keep: bool = False, loops: int | None = None) -> Plan:
        grain = self.weights.lanes * self.weights.trits
        return make_plan(self.program, grain, kernels(), keep=keep, loops=loops)

    def _traced(
        self,
        state: State,
        ids: npt.NDArray[np.int32],
        trace: MutableMapping[str, Logits],
        loops: int | None,
    ) -> Logits:
        """One session after the other, by a plan that keeps every value."""
        if loops not in self._tracers:
            plan = self._plan(keep=True, loops=loops)
            _keep_few(self._tracers, loops, Engine(self._isa, self.program, plan, self.weights, 1, 1))
        tracer = self._tracers[loops]
        out = np.empty((len(ids), self.program.vocab), np.int32)
        zero, one = np.zeros(1, np.int32), np.ones(1, np.uint8)
        found = []
        with _rows_apart(state) as words:
            for row in range(len(ids)):
                here = slice(row, row + 1)
                tracer.feed(words[here], ids[here], zero, one, out[here])
                found.append(tracer.values())
        trace.update({name: np.stack([values[name] for values in found]) for name in found[0]})
        return out

    def _parts(self, count: int) -> Iterator[slice]:
        return (slice(first, first + self.rows) for first in range(0, count, self.rows))

    def _ids(self, tokens: Tokens) -> npt.NDArray[np.int32]:
        return np.ascontiguousarray(self.check_tokens(tokens), np.int32)


@contextmanager
def _rows_apart(state: State) -> Iterator[State]:
    """The state itself if the words of each session lie side by side, else a copy that is written back."""
    if state.strides[1] == state.itemsize and state.strides[0] % state.itemsize == 0:
        yield state
        return
    array = np.ascontiguousarray(state)
    yield array
    state[...] = array


def _keep_few(engines: dict[int | None, Engine], loops: int | None, engine: Engine) -> None:
    """Add an engine for ``loops`` runs; the oldest such one is closed where there are many."""
    oldest = next((runs for runs in engines if runs is not None), None)
    if len(engines) > MOST_ENGINES and oldest is not None:
        engines.pop(oldest).close()
    engines[loops] = engine


def _rows(row_bytes: int, weights: int) -> int:
    """Rows at a time: 64 where they are small, else as many as 4% of the weights hold, but at least 16."""
    room = weights // 25 if weights >= THREADS_FROM else 16 << 20
    return int(min(MOST_ROWS, max(16, room // row_bytes)))
