"""Cycles that a program with memories takes on an engine with rows, and how many of them are for rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.compile.image import Image
from ternac.compile.isa import WORDS, Instruction, Opcode, Source
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.link import MAX_BATCH_TOKENS
from ternac.program.program import Program

__all__ = ["cycles_with_rows", "without_rows"]


def cycles_with_rows(program: Program, geometry: Geometry) -> dict[str, Any]:
    """Return cycles a token of one session and of as many as run at a time, by the closed form.

    ``for_rows`` is what the token of one session takes less when the passes over rows and the digit list are
    left out: products that make addresses or values stay. Raises DoesNotFit or UnsupportedOp if the program
    does not run there.
    """
    image = compile_program(program, geometry)
    alone = schedule(image).cycles
    together = len(image.entries)
    batch = batch_cycles(image, together, MAX_BATCH_TOKENS) / (together * MAX_BATCH_TOKENS)
    return {
        "model": program.name,
        "program_hash": program.hash,
        "trits": program.trits,
        "row_words": {"constants": image.row_base, "a_session": image.row_words},
        "cycles_per_token": alone,
        "for_rows": alone - schedule(without_rows(image)).cycles,
        "sessions_together": together,
        "cycles_per_token_together": round(batch, 1),
    }


def without_rows(image: Image) -> Image:
    """Return the image of one context without its passes over rows; nobody looks for winners."""
    kept, moved = list[tuple[Instruction, str]](), dict[int, int]()
    for at, (inst, name) in enumerate(zip(image.instructions, image.names, strict=True)):
        moved[at] = len(kept)
        only_rows = inst.op == Opcode.MEM or inst.source == Source.ROWS
        if not only_rows and not (inst.to_list and inst.source != Source.DOT and not inst.to_bank):
            kept.append((replace(inst, to_list=0, arg=0, mask=0), name))
    instructions = tuple(
        replace(inst, a=moved[inst.a // WORDS] * WORDS) if inst.op == Opcode.LOOP else inst
        for inst, _ in kept
    )
    return replace(image, instructions=instructions, names=tuple(name for _, name in kept))
