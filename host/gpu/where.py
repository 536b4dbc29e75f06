"""Places where the GPU executor runs: CUDA, Triton's interpreter, plain torch; and what is missing here.

``cuda`` runs the Triton kernels on a GPU. ``interpret`` runs the same kernels, operation by operation, in
Triton's interpreter on the CPU. ``cpu`` follows the same plan on the same packed weights and the same memory
with torch's integer operations, without Triton. All three give the same bits; the last two exist to show it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import suppress
from types import ModuleType

from ternac.errors import ToolMissing, UsageError

__all__ = ["MODES", "kernels", "need", "why_missing"]

MODES = ("cuda", "cpu", "interpret")
_SWITCH = "TRITON_INTERPRET"
HINT = (
    "pip install 'ternac[cuda]' on a machine with a CUDA GPU; gpu:cpu and gpu:interpret run the same plan "
    "without one"
)


def why_missing(mode: str = "cuda") -> str:
    """Return why the executor cannot run in this mode here; empty if it can.

    Raises UsageError if the mode is unknown.
    """
    if mode not in MODES:
        raise UsageError(f"unknown place {mode!r} for the GPU executor", f"choose from: {', '.join(MODES)}")
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if mode != "cpu" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if mode == "cuda":
        torch = importlib.import_module("torch")
        if not torch.version.cuda:
            return f"torch {torch.__version__} is built without CUDA"
        if not torch.cuda.is_available():
            return "torch finds no CUDA GPU"
    return ""


def need(mode: str) -> None:
    """Raises ToolMissing, with the reason and the cure, unless the executor can run in this mode here."""
    reason = why_missing(mode)
    if reason:
        raise ToolMissing(f"the GPU executor ({mode}) cannot run here: {reason}", HINT)


_MODULES: dict[tuple[str, bool], ModuleType] = {}


def kernels(interpret: bool) -> ModuleType:
    """The module of the kernels, made for a GPU or for the interpreter."""
    return _made("kernels", interpret)


def _made(name: str, interpret: bool) -> ModuleType:
    """A module of kernels. Triton decides what a kernel is when it is decorated, so each exists twice, with
    the functions that it imports; each is loaded once.
    """
    if (name, interpret) not in _MODULES:
        with suppress(
            ImportError
        ):  # the interpreter would import it while it has functions replaced, and fail
            importlib.import_module("triton.experimental.gluon")
        shared = "ternac.host.gpu.ops_triton"
        before, held = os.environ.get(_SWITCH), sys.modules.get(shared)
        os.environ[_SWITCH] = "1" if interpret else "0"
        try:
            if name != "ops_triton":
                sys.modules[shared] = _made("ops_triton", interpret)
            spec = importlib.util.find_spec(f"ternac.host.gpu.{name}")
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            _restore(before, shared, held)
        _MODULES[name, interpret] = module
    return _MODULES[name, interpret]


def _restore(before: str | None, shared: str, held: ModuleType | None) -> None:
    os.environ.pop(_SWITCH)
    if before is not None:
        os.environ[_SWITCH] = before
    sys.modules.pop(shared, None)
    if held is not None:
        sys.modules[shared] = held
