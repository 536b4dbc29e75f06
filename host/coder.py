"""Open what codes texts: an executor of this process by name, or a board through its sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ternac.host.backend import Backend
from ternac.host.executors import ExecutorName, open_executor, parse_executor, pick_auto
from ternac.program.program import Program
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
    """Sessions of a back end, a board's say: one text at a time, and a request for each token."""

    rows = 1

    def __init__(self, backend: Backend) -> None:
        self._backend, self.name, self.program = backend, backend.name, backend.program

    @property
    def origin(self) -> str:
        return f"{self._backend.speed()}, a request for the logits of every token"

    def open(self, count: int) -> Sessions:
        return _Opened(self._backend, count)

    def close(self) -> None:
        self._backend.close()


class _Opened:
    def __init__(self, backend: Backend, count: int) -> None:
        self._backend, self._numbers = backend, [backend.open() for _ in range(count)]

    def step(self, tokens: Ids) -> Logits:
        numbers = zip(self._numbers, tokens, strict=False)
        return np.stack([self._backend.step(number, int(token)) for number, token in numbers])

    def close(self) -> None:
        for number in self._numbers:
            self._backend.release(number)
