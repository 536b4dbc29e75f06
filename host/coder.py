"""Open what codes texts: an executor of this process by name, or a board through its sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ternac.host.backend import Backend
from ternac.host.board.backend import BoardBackend
from ternac.host.executors import ExecutorName, open_executor, parse_executor, pick_auto
from ternac.program.program import Program
from ternac.run.coding import Spans, spans
from ternac.run.executor import Logits
from ternac.run.texts import Coder, ExecutorSessions, Ids, Sessions, StepCoder

__all__ = ["BackendSessions", "open_coder"]


def open_coder(
    name: str | ExecutorName, program: Program, *, path: Path | None = None, threads: int | None = None
) -> Coder:
    """Open an executor of this process; all code the same bytes. ``threads``: of ``native``.

    Raises as `ternac.host.executors.open_executor` does.
    """
    found = parse_executor(name) if isinstance(name, str) else name
    kind = pick_auto()[0] if found.kind == "auto" else found.kind
    if kind == "native":
        from ternac.host.native.coder import NativeCoder

        isa, _, _ = found.detail.partition(":")
        return NativeCoder(program, threads=threads, isa=isa or None)
    return StepCoder(ExecutorSessions(open_executor(found, program, path=path)))


class BackendSessions:
    """Sessions of a back end, a board's say: one text at a time, and a request for each token.

    Where a board's engine reports spans, these are asked for, not the logits.

    Raises DeviceError if it does not and ``spans`` says that it must.
    """

    rows = 1

    def __init__(self, backend: Backend, *, spans: bool = False) -> None:
        self._backend, self.name, self.program = backend, backend.name, backend.program
        self._reporter = backend if isinstance(backend, BoardBackend) and backend.reports_spans else None
        if spans and isinstance(backend, BoardBackend):
            backend.require_spans()

    @property
    def origin(self) -> str:
        what = "the logits" if self._reporter is None else "the span"
        return f"{self._backend.speed()}, a request for {what} of every token"

    def open(self, count: int) -> Sessions:
        return _Opened(self._backend, self._reporter, count)

    def close(self) -> None:
        self._backend.close()


class _Opened:
    def __init__(self, backend: Backend, reporter: BoardBackend | None, count: int) -> None:
        self._backend, self._reporter = backend, reporter
        self._numbers = [backend.open() for _ in range(count)]

    def step(self, tokens: Ids) -> Logits:
        numbers = zip(self._numbers, tokens, strict=False)
        return np.stack([self._backend.step(number, int(token)) for number, token in numbers])

    def spans(self, tokens: Ids, targets: Ids) -> Spans:
        board = self._reporter
        if board is None:
            return spans(self.step(tokens), self._backend.program.logit_scale_bits, targets)
        asked = zip(self._numbers, tokens.tolist(), targets.tolist(), strict=False)
        return np.array([board.span(*each) for each in asked], np.uint64)

    def close(self) -> None:
        for number in self._numbers:
            self._backend.release(number)
