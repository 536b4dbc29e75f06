"""The compiled kernels of the training step (``step.cpp``): built once by g++, called through ctypes.

Builds are kept in the cache (`ternac.cache`). Without a compiler :func:`kernels` raises ToolMissing; training
then says so and takes the slower way through ``functional.py``.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ternac.cache import cached
from ternac.errors import BuildFailed, ToolMissing

SOURCE = Path(__file__).with_name("step.cpp")
# No contraction: a product and a sum round apart, as in torch. No errno, no traps: floorf is one instruction.
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fopenmp-simd", "-shared", "-fPIC",
)  # fmt: skip
Argument = Tensor | int | float | None


def _processor() -> str:
    """Return what ``-march=native`` depends on, so that a cache is not used on another kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def build(compiler: str | None = None) -> Path:
    """Return the shared library, compiled unless the cache has it.

    Raises ToolMissing if there is no compiler, BuildFailed if it fails, UnsafeCache if the library that is
    there could be another user's.
    """
    found = shutil.which(compiler or os.environ.get("CXX") or "g++")
    if found is None:
        raise ToolMissing("no C++ compiler for the training kernels", hint="install g++, or set CXX")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout

    def compile_it(scratch: Path, log: Path) -> None:
        command = [found, *FLAGS, "-o", str(scratch / "step.so"), str(SOURCE)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BuildFailed(
                f"{found} cannot compile the training kernels: {result.stderr.strip()[-400:]}",
                hint="set CXX to another compiler",
            )

    return cached("kernels", (SOURCE.read_text(), version, _processor(), *FLAGS), compile_it) / "step.so"


class Kernels:
    """The functions of ``step.cpp``; ``call`` splits the rows of one among torch's number of threads."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library.resolve()))
        self._pool: ThreadPoolExecutor | None = None

    def call(self, name: str, *arguments: Argument, rows: int) -> None:
        """Run ``name`` on rows 0..rows-1. Tensors: contiguous, on the CPU and of the kernel's types."""
        function = self._library[name]
        function.restype = None
        values = [_convert(argument) for argument in arguments]
        threads = max(1, min(torch.get_num_threads(), rows))
        edges = [rows * i // threads for i in range(threads + 1)]
        jobs = [(ctypes.c_int64(a), ctypes.c_int64(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        if threads == 1:
            function(*values, *jobs[0])
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(os.cpu_count() or 1)
        for done in [self._pool.submit(function, *values, *job) for job in jobs]:
            done.result()


def _convert(argument: Argument) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous() and argument.device.type == "cpu"
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(None)
    return ctypes.c_int64(argument) if isinstance(argument, int) else ctypes.c_float(argument)


@cache
def kernels() -> Kernels:
    """Return the kernels of this process, built at the first call.

    Raises ToolMissing or BuildFailed if they cannot be built, UnsafeCache if others can write the cache.
    """
    return Kernels(build())
