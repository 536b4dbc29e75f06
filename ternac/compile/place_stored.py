"""Places of memories in an SDRAM, one session's after the other."""

from __future__ import annotations

from dataclasses import dataclass

from ternac.compile.geometry import Geometry
from ternac.compile.image import RowSymbol
from ternac.compile.isa import MAX_STEP
from ternac.compile.layout import row_step
from ternac.compile.place_rows import Rows, place_rows
from ternac.compile.row_store import MOST_ELEMENTS, SECTOR_WORDS, SECTORS, StoredSymbol, sectors
from ternac.errors import IllegalProgram, require
from ternac.program.legality import shapes
from ternac.program.ops import memory_of
from ternac.program.program import Program

__all__ = ["StoredRows", "place"]


@dataclass(frozen=True)
class StoredRows(Rows):
    """As `Rows`, in sectors of an SDRAM; there are no constant rows."""

    def room(self, geometry: Geometry) -> int:
        return SECTORS

    def message(self, geometry: Geometry, sessions: int) -> str:
        many = f"{sessions} sessions'" if sessions > 1 else "one session's"
        mib = self.need(sessions) * SECTOR_WORDS * 2 / (1 << 20)
        return (
            f"{many} rows need {mib:g} MiB of SDRAM, {geometry.name} has {SECTORS * SECTOR_WORDS * 2 >> 20}"
        )


def place(program: Program, geometry: Geometry) -> Rows:
    """Place all rows of a program, in row RAM or in the SDRAM.

    Raises DoesNotFit if a row is too wide or memory too small, IllegalProgram if constants have rows or a
    memory is addressed with different numbers of heads, which the SDRAM of ``geometry`` cannot take.
    """
    if not geometry.stores_rows:
        return place_rows(program, geometry)
    heads = _heads(program, geometry)
    places: dict[str, RowSymbol] = {}
    at = 0
    for name, memory in program.memories.items():
        step, most = row_step(memory.width, geometry), min(geometry.columns << MAX_STEP, MOST_ELEMENTS)
        message = f"{name!r} has rows of {memory.width} elements, {geometry.name} takes {most}"
        require("elements of a row", memory.width, most, message)
        many = heads.get(name, 1)
        places[name] = StoredSymbol(at, memory.rows, memory.width, step, many)
        at += sectors(memory.rows, memory.width, many)
    found = StoredRows(places, 0, at)
    require("sectors of SDRAM", at, SECTORS, found.message(geometry, 1))
    return found


def _heads(program: Program, geometry: Geometry) -> dict[str, int]:
    """Return the heads that each memory is addressed with."""
    found: dict[str, int] = {}
    types = shapes(program)
    for index, op in enumerate(program.ops):
        name = memory_of(op)
        if name is None:
            continue
        if name not in program.memories:
            raise IllegalProgram(
                f"op {index} {op.kind} {op.out!r}: {geometry.name} keeps rows of sessions, not the constant"
                f" rows {name!r}",
                "take an engine with rows in block RAM, as ulx3s-85f-rows",
            )
        count = types[op.ins[0]][1]
        if found.setdefault(name, count) != count:
            raise IllegalProgram(
                f"op {index} {op.kind} {op.out!r}: {name!r} is addressed with {found[name]} and with {count}"
                f" heads, {geometry.name} has a bank of its SDRAM for each"
            )
    return found
