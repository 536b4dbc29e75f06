"""Turn a program into the image that an engine of a given geometry runs.

Ops are fused along the column pipeline (ternac/compile/isa.py): a matrix product takes its requantization,
its table and one elementwise operation with it. So a layer of the MatMul-free LM is twelve instructions, and
seven where a side lane takes its norms and its gate.
What cannot be placed on the pipeline is refused with the op's name and the reason; nothing is approximated.
"""

from __future__ import annotations

from ternac.compile.assemble import assemble
from ternac.compile.fuse import fuse
from ternac.compile.geometry import Geometry
from ternac.compile.image import Image
from ternac.compile.lower import lower
from ternac.compile.place_stored import place
from ternac.errors import DoesNotFit, IllegalProgram, UnsupportedOp
from ternac.program.legality import check
from ternac.program.loops import loops_of
from ternac.program.ops import IMPORT_KINDS, MEMORY_KINDS
from ternac.program.program import Program

ROW_KINDS = set(MEMORY_KINDS) - {"SUB"}
"""Kinds that need an engine with rows; a LOOP that is unrolled needs none."""

_PLAIN = [(True, True, False), (False, True, False)]
_ROWS = [
    *((side, hold, False) for side in (True, False) for hold in (True, False)),
    *((side, False, True) for side in (True, False)),
]
"""Ways to fuse a program, the fastest first: with the side lane for gates or without, and (with rows) with
digits that stay in the list as long as that saves time, or not, or with passes that wait for its slots."""


def compile_program(
    program: Program, geometry: Geometry, contexts: int | None = None, *, fill: bool = True
) -> Image:
    """Compile ``program`` for ``geometry``, with microcode for ``contexts`` sessions at a time.

    Without ``contexts`` there are as many as the geometry has and its memories hold, at least one. Without
    ``fill`` the image has no memories: enough for its sizes and its schedule, in a tenth of the time.

    Raises IllegalProgram if the program breaks a rule or an op has no place on the column pipeline,
    UnsupportedOp for ops of memories and loops on an engine without rows, DoesNotFit if a memory of the
    geometry is too small.
    """
    check(program)
    refuse_wide(program, geometry)
    lowered = lower(program, geometry)
    if geometry.rows:
        place(lowered.program, geometry)  # what does not fit is said with its numbers first
    if contexts is not None and not 1 <= contexts <= geometry.contexts:
        message = f"{contexts} contexts: {geometry.name} has {geometry.contexts}"
        raise DoesNotFit(message, resource="contexts", needed=contexts, limit=geometry.contexts)
    ways = _ROWS if geometry.rows else _PLAIN
    for count in range(contexts or geometry.contexts, 0, -1):
        for side, hold, wait in ways:
            try:
                fused = fuse(lowered, geometry, side=side, hold=hold)
                return assemble(lowered, geometry, fused, count, fill=fill, wait_for_list=wait)
            except DoesNotFit:
                if (side, hold, wait) == ways[-1] and (count == 1 or contexts is not None):
                    raise
    raise AssertionError("unreachable")


def needs_rows(program: Program) -> bool:
    """Return whether only an engine with rows runs ``program``."""
    return bool(_of_rows(program))


def _of_rows(program: Program) -> list[int]:
    """Return the ops that need rows."""
    unrolled = {loop.index for loop in loops_of(program.ops) if loop.levels or loop.most == 1}
    return [i for i, op in enumerate(program.ops) if op.kind in ROW_KINDS and i not in unrolled]


def refuse_wide(program: Program, geometry: Geometry) -> None:
    """Raise IllegalProgram or UnsupportedOp if an op is one of imported models, for which docs/wide.md has
    an engine, or needs rows that ``geometry`` does not have.
    """
    for name, memory in program.memories.items():
        if memory.dtype != "i8" and geometry.rows:
            raise IllegalProgram(
                f"memory {name!r} is {memory.dtype}, the rows of {geometry.name} are i8",
                "run it on an executor in software, or train it with i8 rows",
            )
    for index, op in enumerate(program.ops):
        if op.kind in IMPORT_KINDS:
            raise IllegalProgram(
                f"op {index} {op.kind} {op.out!r}: {geometry.name} does not have the ops of imported models",
                "verify it on the executor rtl, or run it in software: numpy, torch or native",
            )
    for index in _of_rows(program) if not geometry.rows else ():
        op = program.ops[index]
        raise UnsupportedOp(
            f"op {index} {op.kind} {op.out!r}: {geometry.name} has no rows",
            "take an engine with rows, as ulx3s-85f-rows, or an executor in software",
        )
