"""Calls of libraries on data from elsewhere, in a process of its own that has a limit of memory and time.

A library in native code cannot be interrupted, and what it allocates is this process's. `Worker` starts a
module of this package with ``python -m``; that module ends in `serve`. Requests and answers are JSON texts
behind their length, so that nothing but data comes back. A call that takes longer than the budget, or a
process that dies, costs that process alone: the next call starts another.

Starting one takes 0.1 to 0.3 s, a call 0.1 ms and what its data needs. Memory is limited where the system
has RLIMIT_AS (Linux); time everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from ternac import limits
from ternac.errors import OverBudget, TernacError, UsageError

LENGTH_BYTES = 8
MAX_ANSWER = 1 << 30
_QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "RUST_BACKTRACE": "0",
}
"""Each thread would reserve address space."""


class Worker:
    """Answers of ``module``, a module that ends in `serve`, given ``first`` when it starts.

    ``size``: bytes of the file that it works on, for its budget. ``what`` names that in errors. One call at a
    time; calls of other threads wait.
    """

    def __init__(self, module: str, first: Any, size: int, what: str) -> None:
        self._module, self._first, self._size, self._what = module, first, size, what
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.started = 0
        """Processes so far."""

    def call(self, request: Any) -> Any:
        """Return the answer. Raises UsageError if the library refuses the data, OverBudget if it takes more
        time or memory than it may.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
                self._exchange(self._first)
            return self._exchange(request)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _start(self) -> None:
        self.close()
        memory = limits.PARSER_MEMORY.limit(self._size)
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _QUIET,
            process_group=0,  # a terminal's Ctrl-C is for its parent
        )
        self.started += 1

    def _exchange(self, request: Any) -> Any:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        seconds = limits.PARSER_SECONDS.limit(self._size)
        deadline = time.monotonic() + seconds
        try:
            _send(process.stdin, json.dumps(request).encode(), deadline)
            answer = json.loads(_receive(process.stdout, deadline))
        except TimeoutError:
            self.close()
            raise OverBudget(
                f"{self._what} took more than {seconds} seconds of a library",
                "if you trust it, raise the limits: --budget 10, or ternac.limits.raised",
                resource=limits.PARSER_SECONDS.unit,
                needed=seconds + 1,
                limit=seconds,
            ) from None
        except (OSError, EOFError, ValueError):
            self.close()
            memory = limits.PARSER_MEMORY.limit(self._size)
            raise OverBudget(
                f"{self._what} ended the library that reads it, which may take {memory:,} bytes of memory",
                "is the file damaged? If you trust it, raise the limits: --budget 4, or ternac.limits.raised",
                resource=limits.PARSER_MEMORY.unit,
                needed=memory + 1,
                limit=memory,
            ) from None
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            raise UsageError(answer["error"])
        return answer["value"]


def _send(pipe: Any, data: bytes, deadline: float) -> None:
    data = len(data).to_bytes(LENGTH_BYTES, "little") + data
    os.set_blocking(pipe.fileno(), False)
    view = memoryview(data)
    while view:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([], [pipe], [], left)[1]:
            raise TimeoutError
        with contextlib.suppress(BlockingIOError):
            view = view[os.write(pipe.fileno(), view[: 1 << 16]) :]


def _receive(pipe: Any, deadline: float) -> bytes:
    def exactly(count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
            data = os.read(pipe.fileno(), min(count - len(found), 1 << 20))
            if not data:
                raise EOFError
            found += data
        return bytes(found)

    size = int.from_bytes(exactly(LENGTH_BYTES), "little")
    if size > MAX_ANSWER:
        raise ValueError(size)
    return exactly(size)


def serve(begin: Callable[[Any], Callable[[Any], Any]]) -> None:
    """Answer the requests of a `Worker`: ``begin`` gets the first and returns what answers the others.

    What either raises, panics of Rust included, is the answer to that request.
    """
    _limit_memory(int(sys.argv[1]))
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints does not answer
    answer: Callable[[Any], Any] | None = None
    while (request := _read(source)) is not None:
        try:
            if answer is None:
                answer, value = begin(request), None
            else:
                value = answer(request)
            data = json.dumps({"value": value}).encode()
        except MemoryError:
            os._exit(1)
        except BaseException as error:
            text = str(error) if isinstance(error, TernacError) else f"{type(error).__name__}: {error}"
            data = json.dumps({"error": text[:500]}).encode()
        sink.write(len(data).to_bytes(LENGTH_BYTES, "little") + data)
        sink.flush()


def _read(source: BinaryIO) -> Any:
    head = source.read(LENGTH_BYTES)
    return json.loads(source.read(int.from_bytes(head, "little"))) if len(head) == LENGTH_BYTES else None


def _limit_memory(size: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # no such limit here: the one of time holds
        return
