"""Load the compiled part when it is first needed, or say how to get it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from ternac.errors import ToolMissing, UsageError

HINT = (
    "install a C compiler and Python's headers (Debian: apt-get install gcc python3-dev), then install "
    "again: pip install ternac, or in a checkout `make env` or `python -m ternac.host.native.build`; "
    "the NumPy executor gives the same bits meanwhile"
)
HIDDEN = ("avxvnni-evex",)
"""Not chosen unless named: kernels of another instruction set, in an encoding that more processors run."""


@cache
def _module() -> Any:
    return importlib.import_module("ternac.host.native._native")


def why_missing() -> str:
    """Return why the native executor cannot be used here; empty when it can."""
    try:
        _module()
    except ImportError as error:
        if getattr(error, "name", None) in ("ternac.host.native._native", "ternac.host.native"):
            return "its C part was not compiled when ternac was installed (no C compiler?)"
        return f"its C part does not load: {error}"
    if not hasattr(_module().lib, "tn_decode"):
        return "its C part was compiled from older sources"
    return ""


def load() -> tuple[Any, Any]:
    """Return cffi's ``(ffi, lib)``. Raises ToolMissing, with the way to get it, if it is not there."""
    reason = why_missing()
    if reason:
        raise ToolMissing(f"the native executor is not here: {reason}", HINT)
    module = _module()
    return module.ffi, module.lib


@dataclass(frozen=True)
class Kernel:
    """The C side's kernel for an op kind: its number there, and its integer attributes in order."""

    number: int
    attrs: tuple[str, ...]


@cache
def kernels() -> dict[str, Kernel]:
    """Op kinds for which the C side has a kernel, by name. Raises ToolMissing as `load` does."""
    ffi, lib = load()
    found = {}
    for number in range(lib.tn_kind_count()):
        if lib.tn_has_kernel(number):
            attrs = ffi.string(lib.tn_kind_attrs(number)).decode().split()
            found[ffi.string(lib.tn_kind_name(number)).decode()] = Kernel(number, tuple(attrs))
    return found


def isas() -> dict[str, str]:
    """Return what this processor lacks for each instruction set; empty: it runs."""
    ffi, lib = load()
    names = [ffi.string(lib.tn_isa_name(i)).decode() for i in range(lib.tn_isa_count())]
    return {name: ffi.string(lib.tn_isa_missing(i)).decode() for i, name in enumerate(names)}


def best_isa() -> str:
    """Return the fastest instruction set that runs here."""
    found = isas()
    order = ("avx512vnni", "avxvnni", "avx2", "portable")
    return next(name for name in order if not found[name])


def isa_number(name: str | None) -> int:
    """Return the number of an instruction set (None: the best).

    Raises UsageError if it is unknown or not of this processor.
    """
    found = isas()
    chosen = name or best_isa()
    if chosen not in found:
        raise UsageError(f"unknown instruction set {chosen!r}", f"choose from: {', '.join(found)}")
    if found[chosen]:
        raise UsageError(f"instruction set {chosen} does not run here: {found[chosen]}")
    return list(found).index(chosen)
