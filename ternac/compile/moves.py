"""Passes that move rows between an SDRAM and the row RAM, around those that read or change them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ternac.compile.fuse import Pass
from ternac.compile.geometry import Geometry
from ternac.compile.isa import Instruction, Opcode, RowAddress, Source
from ternac.compile.place_rows import Rows
from ternac.compile.row_store import BURST, MOVE_WORDS, burst_bits
from ternac.errors import require

__all__ = ["insert_moves", "is_move", "waits_for_rows"]


def is_move(inst: Instruction) -> bool:
    """Return whether a pass moves rows; it waits only for passes over rows, and only those wait for it."""
    return inst.op == Opcode.MOVE


def waits_for_rows(inst: Instruction) -> bool:
    """Return whether a pass begins only when that before which uses rows, or reads the list, has ended."""
    return bool(inst.source == Source.ROWS or inst.to_rows or inst.mask)


def insert_moves(passes: Sequence[Pass], rows: Rows, geometry: Geometry, contexts: int) -> list[Pass]:
    """Return the passes with those that bring each pass the rows it works on, and take changed ones back.

    Each context has a part of the row RAM for the rows of one pass. Rows are fetched behind the first matrix
    pass that follows what their move waits for, so that it has that pass and more to come in.

    Raises DoesNotFit if a pass works on more rows than a context's row RAM or a move can hold.
    """
    found: list[Pass] = []
    barred = 0  # no move goes before this pass: one over rows, or the begin of a loop
    fetched: tuple[object, ...] | None = None
    for one in passes:
        if one.begins_loop:
            barred, fetched = len(found), None
        if one.rows is None:
            found.append(one)
            if waits_for_rows(one.inst) or one.inst.op == Opcode.LOOP:
                barred, fetched = len(found), None
            continue
        place, inst = rows.places[one.rows], one.inst
        words = BURST << burst_bits(place.width)
        _check(one, place.step, words, geometry, contexts)
        move = Instruction(
            op=Opcode.MOVE, source=Source.ROWS, count=1, words=inst.words,
            table=burst_bits(place.width),
        )  # fmt: skip
        what = (one.rows, one.list_in, inst.words)
        if fetched != what:
            at = _earliest(found, barred, one.list_in)
            fetch = Pass(f"{one.name}.fetch", move, "", list_in=one.list_in, rows=one.rows, bits=one.bits)
            begins = at == len(found) and one.begins_loop
            found.insert(at, replace(fetch, begins_loop=begins))
            one = replace(one, begins_loop=one.begins_loop and not begins)
        here = RowAddress(first=0, bits=0, step=place.step, a=0).fields()
        found.append(replace(one, inst=replace(inst, **here), rows=None, list_in=()))  # type: ignore[arg-type]
        fetched = what
        if inst.to_rows:
            back = replace(move, to_rows=1)
            found.append(
                Pass(f"{one.name}.store", back, "", list_in=one.list_in, rows=one.rows, bits=one.bits)
            )
            fetched = None
        barred = len(found)
    return found


def _check(one: Pass, step: int, words: int, geometry: Geometry, contexts: int) -> None:
    """Require that a pass's rows fit a context's row RAM, and one move."""
    heads, room = one.inst.words, geometry.rows // contexts
    message = f"{one.name!r} works on {heads << step} row words, {geometry.name} has {room} for a context"
    require("row words per column", heads << step, room, message)
    message = f"{one.name!r} moves {heads * words} words of SDRAM at once, {geometry.name} takes {MOVE_WORDS}"
    require("words of a move", heads * words, MOVE_WORDS, message)


def _earliest(passes: Sequence[Pass], barred: int, digits: Sequence[str]) -> int:
    """Return where the move of rows goes whose digits are ``digits``."""
    first = barred
    for i, one in enumerate(passes[barred:], barred):
        if one.list_out in digits:
            first = i + 1
    for i, one in enumerate(passes[first:], first):
        if one.inst.source == Source.DOT and one.inst.op == Opcode.VEC and not one.begins_loop:
            return i + 1
    return len(passes)
