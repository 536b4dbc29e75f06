"""First divergence between two executors of one program: token, layer, op, element and both values.

Values and states are compared in the order in which the program computes and stores them, so that what is
named is where the difference began and not where it ended up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import Mismatch
from ternac.program.ops import memory_written, state_written
from ternac.program.program import Program

__all__ = ["Divergence", "cycle_divergence", "first_divergence", "scalar_divergence"]

Vectors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Divergence:
    """The first difference of two executors: ``expected`` is the first one's value, ``got`` the second's."""

    token: int
    """Index of the token in the run, from 0."""
    kind: str
    """``value`` (result of an op), ``state`` (rows of a memory, too), ``logits``, ``next token``,
    ``generator`` or ``cycles``.
    """
    name: str
    op: str
    """The op that computes (or stores) it, for example ``op 12 REQUANT``; empty if there is none."""
    element: int
    expected: int
    got: int
    differing: int
    length: int
    executors: tuple[str, str] = ("numpy", "rtl")

    @property
    def layer(self) -> str:
        """The layer's number from the name (``0.f.pre``: layer 0), or empty."""
        head = self.name.partition(".")[0]
        return head if head.isdigit() and "." in self.name else ""

    def __str__(self) -> str:
        where = [f"token {self.token}"]
        if self.layer:
            where.append(f"layer {self.layer}")
        where.append(f"{self.kind} {self.name!r}" + (f" ({self.op})" if self.op else ""))
        first, second = self.executors
        return (
            f"first divergence at {', '.join(where)}, element {self.element}: {first} has {self.expected}, "
            f"{second} has {self.got} ({self.differing} of {self.length} elements differ)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the layer."""
        return asdict(self) | {"executors": list(self.executors), "layer": self.layer}

    def error(self) -> Mismatch:
        """Return it as an exception."""
        return Mismatch(str(self), "everything before it agrees: look at this op's inputs, tables and shifts")


def first_divergence(
    program: Program,
    token: int,
    expected: Vectors,
    got: Vectors,
    *,
    states: Vectors | None = None,
    got_states: Vectors | None = None,
    executors: tuple[str, str] = ("numpy", "rtl"),
) -> Divergence | None:
    """Return the first difference after one token, or None.

    ``expected`` and ``got`` map value names to vectors [length] (a leading batch axis of 1 is allowed); only
    names in both are compared, for an engine does not keep every intermediate. States are those after the
    token. KeyError if the two sides' states have different names, ValueError if two vectors have different
    lengths.
    """
    if set(states or {}) != set(got_states or {}):
        raise KeyError(f"states differ in name: {sorted(states or {})} and {sorted(got_states or {})}")
    for index, op in enumerate(program.ops):
        changed = (state_written(op), memory_written(op))
        for name in dict.fromkeys((op.out, *filter(None, changed))):
            is_state = name in changed
            ours, theirs = (states or {}, got_states or {}) if is_state else (expected, got)
            if name not in ours or name not in theirs:
                continue
            found = _difference(ours[name], theirs[name])
            if found:
                kind = "state" if is_state else "logits" if name == program.logits else "value"
                return Divergence(token, kind, name, f"op {index} {op.kind}", *found, executors=executors)
    return None


def scalar_divergence(
    token: int, kind: str, expected: int, got: int, executors: tuple[str, str] = ("numpy", "rtl")
) -> Divergence | None:
    """Return the divergence of one number (``next token``, ``generator`` or ``cycles``), or None."""
    if expected == got:
        return None
    return Divergence(token, kind, kind, "", 0, int(expected), int(got), 1, 1, executors)


def cycle_divergence(
    token: int, closed_form: int, got: int, executor: str, *, exact: bool
) -> Divergence | None:
    """Return the divergence of an engine's cycles from the closed form (`ternac.hdl.engine.schedule`).

    Where that is not ``exact``, it is a lower bound.
    """
    if not exact and got >= closed_form:
        return None
    return scalar_divergence(token, "cycles", closed_form, got, ("closed form", executor))


def _difference(expected: npt.NDArray[Any], got: npt.NDArray[Any]) -> tuple[int, int, int, int, int] | None:
    """Return (element, expected, got, differing, length) of the first differing element, or None."""
    a, b = np.asarray(expected, np.int64).reshape(-1), np.asarray(got, np.int64).reshape(-1)
    if len(a) != len(b):
        raise ValueError(f"vectors of {len(a)} and of {len(b)} elements cannot be compared")
    different = np.flatnonzero(a != b)
    if not len(different):
        return None
    at = int(different[0])
    return at, int(a[at]), int(b[at]), len(different), len(a)
