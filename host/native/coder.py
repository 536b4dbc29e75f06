"""Code texts on the native executor: whole blocks in one call, on several processors.

Each processor has rows of its own and shares the packed weights; a block is coded by one of them, and decoded
side by side with the others of its processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from ternac.errors import UsageError
from ternac.host.native.executor import THREADS_FROM, NativeExecutor, processors
from ternac.host.native.library import load
from ternac.program.program import Program
from ternac.run.coding import RangeDecoder, Spans, costs, uniform
from ternac.run.texts import Coded, Ids, by_length, most_rows

__all__ = ["NativeCoder", "encode"]

STEPS = 256
"""Tokens decoded in one call: a user who stops it waits for no more."""
PIECE = 1 << 14
"""Tokens whose spans are kept at a time."""


class NativeCoder:
    """A `ternac.run.texts.Coder`. ``threads``: processors (default: all that this process may use)."""

    name = "native"

    def __init__(self, program: Program, *, threads: int | None = None, isa: str | None = None) -> None:
        count = processors() if threads is None else threads
        first = NativeExecutor(program, isa=isa, threads=1)
        self.program = program
        if first.weights.nbytes >= THREADS_FROM:  # one token at a time needs all of the memory's speed
            first.close()
            first = NativeExecutor(program, isa=isa, threads=count, weights=first.weights)
            count = 1
        more = (NativeExecutor(program, isa=isa, threads=1, weights=first.weights) for _ in range(count - 1))
        self._executors = [first, *more]
        self.rows = min(most_rows(program), 32 * count)
        self._free: SimpleQueue[NativeExecutor] = SimpleQueue()
        for executor in self._executors:
            self._free.put(executor)
        self._pool = ThreadPoolExecutor(count)

    @property
    def origin(self) -> str:
        first = self._executors[0]
        return (
            f"native on this host ({first.isa}, {len(self._executors) * first.threads} thread(s)), measured"
        )

    def encode(self, texts: Sequence[Ids]) -> list[Coded]:
        return self._each(self._encode, texts)

    def decode(self, coded: Sequence[bytes], counts: Sequence[int]) -> list[Ids]:
        order = by_length(counts)
        parts = [part for job in range(len(self._executors)) if (part := order[job :: len(self._executors)])]
        found: list[Ids] = [np.zeros(0, np.int32)] * len(counts)
        made = self._each(self._decode, [[(coded[at], counts[at]) for at in part] for part in parts])
        for part, texts in zip(parts, made, strict=True):
            for at, text in zip(part, texts, strict=True):
                found[at] = text
        return found

    def begin(self) -> NativeReading:
        return NativeReading(self._executors[0])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        for executor in self._executors:
            executor.close()

    def _each(self, work: Any, items: Sequence[Any]) -> list[Any]:
        def one(item: Any) -> Any:
            executor = self._free.get()
            try:
                return work(executor, item)
            finally:
                self._free.put(executor)

        if len(items) == 1:
            return [one(items[0])]
        return list(self._pool.map(one, items))

    def _encode(self, executor: NativeExecutor, text: Ids) -> Coded:
        reading, found, bits = NativeReading(executor), [], 0
        for first in range(0, len(text), PIECE):
            made = reading.advance(text[first : first + PIECE])
            bits += int(costs(made).sum())
            found.append(made)
        return Coded(encode(np.concatenate(found)) if found else b"", bits)

    def _decode(self, executor: NativeExecutor, given: list[tuple[bytes, int]]) -> list[Ids]:
        """Blocks of one processor, the longest first."""
        counts = [count for _, count in given]
        found = [np.empty(count, np.int32) for count in counts]
        rows = sum(count > 0 for count in counts)
        if not rows:
            return found
        decoders = [RangeDecoder(data) for data, _ in given[:rows]]
        state = executor.open(rows)
        front = self.program.special.begin([])
        if front:
            for token in front[:-1]:
                executor.step(state, np.full(rows, token, np.int32))
            last, at = np.full(rows, front[-1], np.int32), 0
        else:
            last, at = np.array([one.evenly(self.program.vocab) for one in decoders], np.int32), 1
            for text, first in zip(found, last, strict=False):
                text[0] = first
        while rows := sum(count > at for count in counts):
            steps = min(STEPS, counts[rows - 1] - at)
            made = executor.decode(state[:rows], last[:rows], steps, decoders[:rows])
            for text, row in zip(found, made, strict=False):
                text[at : at + steps] = row
            last, at = made[:, -1], at + steps
        return found


class NativeReading:
    """A text that is read on: see `ternac.run.texts.Reading`."""

    def __init__(self, executor: NativeExecutor) -> None:
        self._executor, self._state = executor, executor.open(1)
        self._waiting = list(executor.program.special.begin([]))

    def advance(self, tokens: Ids) -> Spans:
        executor, found = self._executor, []
        ids = executor.check_tokens(tokens).astype(np.int32)
        if not self._waiting:  # nothing predicts the first token
            found.append(uniform(ids[:1], executor.program.vocab))
            self._waiting, ids = [int(ids[0])], ids[1:]
        if len(ids):
            fed = np.concatenate([np.array(self._waiting, np.int32), ids[:-1]])
            slots, more = np.zeros(len(fed), np.int32), len(self._waiting) - 1
            if more:
                executor.feed(self._state, fed[:more], slots[:more], np.zeros(more, bool))
            found.append(executor.feed_spans(self._state, fed[more:], slots[more:], ids))
            self._waiting = [int(ids[-1])]
        return np.concatenate(found)


def encode(given: Spans) -> bytes:
    """Return the bytes of `ternac.run.coding.encode`."""
    ffi, lib = load()
    spans = np.ascontiguousarray(given, np.uint64)
    out = np.empty(6 * len(spans) + 16, np.uint8)  # a token takes at most 5 bytes
    size = lib.tn_encode(
        ffi.from_buffer("uint64_t[]", spans), len(spans), ffi.from_buffer("uint8_t[]", out), len(out)
    )
    if size > len(out):
        raise UsageError("the spans are of no text")
    return out[:size].tobytes()
