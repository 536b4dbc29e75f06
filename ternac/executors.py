"""Executors with the NumPy executor's interface, by name: ``numpy``, ``native``, ``gpu``, or ``auto`` for the
faster of the first two.

``native`` may carry an instruction set and the bits of a weight: ``native:avx2``, ``native:avx2:1.6``;
``gpu:cpu`` and ``gpu:interpret`` run the plan of ``gpu`` without a GPU (docs/gpu.md). The module of an
executor is imported when it is asked for, by name, as verbs are.
"""

from __future__ import annotations

import importlib
from typing import Any

from ternac.errors import UsageError
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor

__all__ = ["NAMES", "make_executor", "pick"]

NAMES = ("numpy", "native", "gpu", "auto")


def _native() -> Any:
    return importlib.import_module("ternac.host.native.executor")


def pick() -> tuple[str, str]:
    """What ``auto`` stands for here, and why."""
    reason = importlib.import_module("ternac.host.native.library").why_missing()
    return ("numpy", f"the native executor is not here: {reason}") if reason else ("native", "it is compiled")


def make_executor(name: str, program: Program) -> Any:
    """An executor of ``program``. UsageError for an unknown name, ToolMissing for ``native`` not compiled, or
    ``gpu`` where there is none."""
    kind, _, rest = name.partition(":")
    if name == "auto":
        kind = pick()[0]
    if kind == "numpy" and not rest:
        return NumpyExecutor(program)
    if kind == "native":
        isa, _, bits = rest.partition(":")
        return _native().NativeExecutor(program, isa=isa or None, bits=bits or None)
    if kind == "gpu":
        importlib.import_module("ternac.host.gpu.where").need(rest or "cuda")
        return importlib.import_module("ternac.host.gpu.executor").GpuExecutor(program, mode=rest or "cuda")
    raise UsageError(
        f"unknown executor {name!r}",
        f"choose from: {', '.join(NAMES)}, native:ISA, native:ISA:BITS, gpu:cpu, gpu:interpret",
    )
