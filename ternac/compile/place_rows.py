"""Places in row RAM: constant rows at the bottom, then the memories of one session after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ternac.compile.geometry import Geometry
from ternac.compile.image import RowSymbol, Words
from ternac.compile.isa import MAX_STEP
from ternac.compile.layout import row_blocks, row_step
from ternac.errors import require
from ternac.program.program import Program


@dataclass(frozen=True)
class Rows:
    """``places`` of constant rows and of the memories of session slot 0, in words of row RAM.

    ``constants``: words of all constant rows; ``words``: of a session's memories.
    """

    places: dict[str, RowSymbol]
    constants: int
    words: int

    def room(self, geometry: Geometry) -> int:
        """Return the words that there are."""
        return geometry.rows

    def sessions(self, geometry: Geometry, distance: int) -> int:
        """Return how many sessions fit whose rows begin ``distance`` words apart."""
        free = self.room(geometry) - self.constants - self.words
        return free // distance + 1 if free >= 0 else 0

    def need(self, sessions: int) -> int:
        """Return the row words that constants and ``sessions`` sessions take at least."""
        return self.constants + sessions * self.words

    def message(self, geometry: Geometry, sessions: int) -> str:
        """Return what to say where `need` exceeds the row RAM."""
        many = f"{sessions} sessions'" if sessions > 1 else "one session's"
        parts = f"{self.constants} for constants, {many} memories {sessions * self.words}"
        need = f"rows need {self.need(sessions)} row words per column ({parts})"
        return f"{need}, {geometry.name} has {geometry.rows}"

    def blocks(self, program: Program, geometry: Geometry) -> Words:
        """Return the constant rows as words of row RAM, ``[columns, constants]``."""
        parts = [
            row_blocks(program.consts[name], geometry, place.step)
            for name, place in self.places.items()
            if name in program.consts
        ]
        return np.concatenate(parts, axis=1)


def place_rows(program: Program, geometry: Geometry) -> Rows:
    """Place all rows of a program.

    Raises DoesNotFit if a row is too wide, or if constants and one session's memories exceed the row RAM.
    """
    places: dict[str, RowSymbol] = {}
    at = 0

    def place(name: str, rows: int, width: int) -> None:
        nonlocal at
        step, most = row_step(width, geometry), geometry.columns << MAX_STEP
        message = f"{name!r} has rows of {width} elements, {geometry.name} takes {most}"
        require("elements of a row", width, most, message)
        places[name] = RowSymbol(at, rows, width, step)
        at += rows << step

    for name, role in program.roles().items():
        if role == "rows":
            place(name, *program.consts[name].shape)
    constants = at
    for name, memory in program.memories.items():
        place(name, memory.rows, memory.width)
    found = Rows(places, constants, at - constants)
    require("row words per column", at, geometry.rows, found.message(geometry, 1))
    return found
