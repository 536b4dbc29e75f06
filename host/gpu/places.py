"""Where values lie between phases: three areas of memory per row, each with its own element type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ternac.program.ops import Value
from ternac.program.program import Program

AREAS = ("i8", "i16", "acc")
_LINE = {"i8": 64, "i16": 32, "acc": 16}
"""Elements of 64 bytes."""


class Made(Protocol):
    """What the allocation needs of a phase."""

    outs: list[str]

    def reads(self) -> set[str]:
        """Names that it reads."""


@dataclass
class Places:
    """``offset`` of each value in its area, in elements; ``sizes``: elements of a row by area."""

    offset: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=lambda: dict(_LINE))

    def row_bytes(self) -> int:
        """Memory of one row."""
        return sum(self.sizes[area] * width for area, width in zip(AREAS, (1, 2, 4), strict=True))


def allocate(phases: Sequence[Made], program: Program, values: dict[str, Value], keep: bool) -> Places:
    """First fit; a place is free again in the phase after the last that reads it."""
    end = len(phases)
    last: dict[str, int] = {}
    for index, phase in enumerate(phases):
        for name in (*phase.reads(), *phase.outs):
            last[name] = end if keep else index
    last[program.logits] = end
    places = Places()
    live: dict[str, list[tuple[int, int, int]]] = {area: [] for area in AREAS}  # (offset, size, last phase)
    for index, phase in enumerate(phases):
        for name in phase.outs:
            value = values[name]
            area, line = value.dtype, _LINE[value.dtype]
            size = -(-value.length // line) * line
            taken = sorted(entry for entry in live[area] if entry[2] >= index)
            at = 0
            for offset, length, _ in taken:
                if offset - at >= size:
                    break
                at = max(at, offset + length)
            live[area] = [*taken, (at, size, last[name])]
            places.offset[name] = at
            places.sizes[area] = max(places.sizes[area], at + size)
    return places
