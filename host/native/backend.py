"""Sessions on the native executor, as `ternac.host.backend.Backend` wants them."""

from __future__ import annotations

from ternac.host.batch import BatchBackend
from ternac.host.native.executor import THREADS_FROM, NativeExecutor
from ternac.program.program import Program


class NativeBackend(BatchBackend):
    """The native executor with any number of sessions."""

    name = "native"

    def __init__(self, program: Program, executor: NativeExecutor | None = None) -> None:
        super().__init__(program, executor or NativeExecutor(program))
        self.chunk = 1 if self.executor.weights.nbytes >= THREADS_FROM else 32

    @property
    def origin(self) -> str:
        """What ran, for reports."""
        e = self.executor
        return f"native on this host ({e.isa}, {e.bits} bits a weight, {e.threads} thread(s)), measured"
