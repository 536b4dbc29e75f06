"""One planned program on the C side: its ops, the memory of its rows, its threads.

Arrays are passed on as they are: the caller has checked them. Calls take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import ArchiveError, UsageError
from ternac.host.native.library import Kernel, kernels, load
from ternac.host.native.plan import Plan, Planned
from ternac.host.native.weights import Weights
from ternac.program.program import Program
from ternac.run.coding import EXP2, NO_TEXT, RangeDecoder
from ternac.run.sampling import EXP, Sampling

_DTYPES = {"i8": np.int8, "i16": np.int16, "acc": np.int32}
_FORKED = "the executor was made before this process was forked, and its threads stayed there"
_NO_TEXT = -2
"""What tn_decode answers where the bytes of a row are of no encoder."""
Ints = npt.NDArray[np.int32]


class Engine:
    """Runs ``plan``, which was made for ``program`` and the layout of ``weights``.

    Up to ``rows`` tokens at a time, on ``threads`` threads. Raises UsageError if the system refuses memory or
    threads, after :meth:`close`, and in a forked child.
    """

    def __init__(
        self, isa: int, program: Program, plan: Plan, weights: Weights, rows: int, threads: int
    ) -> None:
        self._ffi, self._lib = load()
        self._plan, self._program, self._weights = plan, program, weights  # the C side reads their memory
        self._lock = threading.Lock()
        ops = self._ffi.new("tn_op[]", len(plan.ops))
        for op, planned in zip(ops, plan.ops, strict=True):
            self._fill(op, planned, kernels()[planned.kind])
        self._model = self._lib.tn_open(
            isa,
            ops,
            len(plan.ops),
            plan.row_bytes,
            rows,
            threads,
            weights.lanes * weights.trits,
            plan.places[program.logits][0],
            program.vocab,
            self._ffi.cast("uint16_t *", EXP.ctypes.data),
        )
        if self._model == self._ffi.NULL:
            raise UsageError(f"the system refuses memory for {rows} rows or {threads} threads")

    def _fill(self, op: Any, planned: Planned, kernel: Kernel) -> None:
        """Write one op of the plan into a tn_op."""
        op.kind = kernel.number
        for name in ("form", "length", "width", "out", "memory", "sync", "segment", "tail"):
            setattr(op, name, getattr(planned, name))
        for index, offset in enumerate(planned.ins):
            getattr(op, "in")[index] = offset
        for index, name in enumerate(kernel.attrs):
            op.attr[index] = planned.attrs[name]
        if planned.constant:
            op.data = self._constant(planned.constant)

    def _constant(self, name: str) -> Any:
        if name in self._weights.shapes:
            return self._weights.pointer(name)
        return self._ffi.cast("void *", self._program.consts[name].ctypes.data)

    def feed(
        self,
        state: Any,
        tokens: Ints,
        slots: Ints,
        want: Any,
        out: Ints,
        spent: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Feed ``tokens[i]`` to row ``slots[i]`` of ``state``; logits where ``want`` go to ``out``.

        ``spent``, int64 [ops + 1]: the first thread's nanoseconds in each op, and of waiting, are added.
        """
        times = self._ffi.NULL if spent is None else self._ffi.from_buffer("int64_t[]", spent)
        self._call(
            "tn_feed",
            len(tokens),
            self._ints(tokens),
            self._ints(slots),
            self._ffi.from_buffer("uint8_t[]", want),
            *self._words(state),
            self._ints(out),
            times,
        )

    def generate(
        self, state: Any, tokens: Ints, slots: Ints, count: int, sampling: Sampling, rngs: Any, chosen: Ints
    ) -> None:
        """``count`` times feed and choose, each row; ``tokens`` and ``rngs`` are changed to the last ones."""
        self._call(
            "tn_generate",
            len(tokens),
            self._ints(tokens),
            self._ints(slots),
            *self._words(state),
            count,
            sampling.greedy,
            sampling.m,
            sampling.s,
            sampling.top_k,
            self._ffi.from_buffer("uint32_t[]", rngs),
            self._ints(chosen),
        )

    def feed_spans(
        self, state: Any, tokens: Ints, slots: Ints, following: Ints, out: npt.NDArray[np.uint64]
    ) -> None:
        """Feed ``tokens[i]`` to row ``slots[i]`` of ``state``; the spans of ``following`` go to ``out``."""
        self._call(
            "tn_feed_spans",
            len(tokens),
            self._ints(tokens),
            self._ints(slots),
            *self._words(state),
            *self._rule(),
            self._ints(following),
            self._ffi.from_buffer("uint64_t[]", out),
        )

    def decode(
        self,
        state: Any,
        tokens: Ints,
        slots: Ints,
        count: int,
        decoders: Sequence[RangeDecoder],
        chosen: Ints,
    ) -> None:
        """``count`` times feed and decode, each row; ``tokens`` and ``decoders`` are changed to the last.

        Raises ArchiveError where the bytes of a row are of no encoder.
        """
        keep = [self._ffi.from_buffer("uint8_t[]", decoder.data) for decoder in decoders]
        held = self._ffi.new("tn_decoder[]", len(decoders))
        for one, decoder, data in zip(held, decoders, keep, strict=True):
            one.code, one.range, one.at = decoder.code, decoder.range, decoder.at
            one.end, one.data = len(decoder.data), data
        self._call(
            "tn_decode",
            len(tokens),
            self._ints(tokens),
            self._ints(slots),
            *self._words(state),
            count,
            *self._rule(),
            held,
            self._ints(chosen),
        )
        for one, decoder in zip(held, decoders, strict=True):
            decoder.code, decoder.range, decoder.at = one.code, one.range, one.at

    def _rule(self) -> tuple[Any, int]:
        """What the frequencies are made by: the table, and what a logit is worth."""
        return self._ffi.cast("uint16_t *", EXP2.ctypes.data), self._program.logit_scale_bits

    def products_only(self, rows: int) -> None:
        """The products of a token on whatever the rows hold."""
        self._call("tn_products_only", rows)

    def values(self) -> dict[str, Ints]:
        """The values of row 0 by name, int32; all of them if the plan keeps them."""
        memory = self._ffi.buffer(self._lib.tn_row(self._model, 0), self._plan.row_bytes)
        return {
            name: np.frombuffer(memory, _DTYPES[dtype], length, offset).astype(np.int32)
            for name, (offset, dtype, length) in self._plan.places.items()
        }

    def close(self) -> None:
        """End the threads, free the rows. Twice is allowed."""
        with self._lock:
            if self._model is not None:
                self._lib.tn_close(self._model)
                self._model = None

    def __del__(self) -> None:
        if getattr(self, "_model", None) not in (None, self._ffi.NULL):
            self.close()

    def _call(self, function: str, *arguments: Any) -> None:
        with self._lock:
            if self._model is None:
                raise UsageError("the executor is closed")
            failed = getattr(self._lib, function)(self._model, *arguments)
            if failed == _NO_TEXT:
                raise ArchiveError(*NO_TEXT)
            if failed:
                raise UsageError(_FORKED, "make it in the process that uses it")

    def _ints(self, array: Ints) -> Any:
        return self._ffi.from_buffer("int32_t[]", array)

    def _words(self, state: Any) -> tuple[Any, int]:
        """The first word of the first session, and the words from one session to the next."""
        if not state.flags.writeable:
            raise UsageError("the state is read-only")
        return self._ffi.cast("int16_t *", state.ctypes.data), state.strides[0] // state.itemsize
