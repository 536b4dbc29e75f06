"""``ternac bench rows``: cycles a token of every shipped memory system on an engine with rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_geometry, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import ProgramError, UsageError

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry
    from ternac.program.program import Program

GEOMETRY, BOARD = "ulx3s-85f-rows", "ulx3s-85f"
PLAIN = "shakespeare"
"""The model without a memory that `hybrid` is compared with: as many ternary weights, within 10%."""
SPLIT = ("hybrid", 512)
"""System and rows of the variant of which four sessions fit."""
COLUMNS = (
    "model", "ternary weights", "row words a column: constants", "a session", "cycles a token", "for rows",
    "sessions at a time", "cycles a token then", "tokens/s alone", "in all",
)  # fmt: skip


def models() -> Iterator[tuple[str, Program]]:
    """Yield every shipped model of the memory systems by name, and what `hybrid` is compared with."""
    from ternac.model.memory.hybrid import LARGE
    from ternac.model.memory.system import NAMES, open_system
    from ternac.program.zoo import open_program

    yield PLAIN, open_program(PLAIN)
    seen = set[str]()
    for name in NAMES:
        system = open_system(name)
        for part in system.parts:
            if (name, part) == (SPLIT[0], LARGE):
                continue  # exported when asked for, not shipped
            program = system.shipped(part)
            if program.hash not in seen:
                seen.add(program.hash)
                yield name if system.parts == (part,) or part == name else f"{name} {part}", program
        if name == SPLIT[0]:
            yield f"{name}, {SPLIT[1]} rows", with_rows(SPLIT[1])


def with_rows(rows: int) -> Program:
    """Return `hybrid` with so many rows; its address maps are even on no text, which costs no cycle."""
    from ternac.model.export.export import to_program
    from ternac.model.export.resize import resize
    from ternac.model.training import checkpoint as ckpt
    from ternac.model.training.run_folder import CHECKPOINT
    from ternac.program.zoo import ZOO

    saved = ckpt.load(ZOO / SPLIT[0] / CHECKPOINT)
    model, memory = ckpt.model_of(saved), ckpt.model_config(saved).memory
    assert memory is not None
    resize(model, rows, memory.seed, None)
    return to_program(model, f"{SPLIT[0]}-{rows}", {}, ckpt.tokenizer_of(saved))


def bench_rows(geometry: Geometry, tokens: int, say: Say) -> dict[str, Any]:
    """Return cycles a token of all models, by the closed form; with ``tokens`` counted in the RTL as well."""
    from ternac.hdl.boards.boards import board
    from ternac.hdl.planner.estimate import routed_clock
    from ternac.hdl.planner.rows import cycles_with_rows

    target = board(BOARD)
    clock, origin = routed_clock(target, geometry)
    rows: list[dict[str, Any]] = []
    for name, program in models():
        try:
            row = cycles_with_rows(program, geometry)
        except ProgramError as error:
            rows.append({"name": name, "trits": program.trits, "refused": str(error)})
            continue
        both = row["cycles_per_token"], row["cycles_per_token_together"]
        alone, together = (clock * 1e6 / cycles for cycles in both)
        row |= {"tokens_per_second": alone, "tokens_per_second_together": together}
        if tokens:
            row["counted"] = count(program, geometry, tokens)
        rows.append({"name": name, **row})
        say(line(rows[-1]))
    for row in rows:
        if "refused" in row:
            say(f"{row['name']:20} does not fit: {row['refused']}")
    how = (
        "cycle-exact simulation, and closed form"
        if tokens
        else "closed form (held equal to the RTL by tests)"
    )
    return {
        "geometry": geometry.name,
        "clock_mhz": clock,
        "rows": rows,
        "mismatches": sum(row["counted"]["mismatches"] for row in rows if "counted" in row),
        "origin": f"cycles: {how}; tokens/s: cycles x {origin}, measured on no board",
    }


def count(program: Program, geometry: Geometry, tokens: int) -> dict[str, int]:
    """Count ``tokens`` tokens of one session, and of as many as run at a time, in the simulated board.

    ``mismatches`` is the number of the two that are not the closed form's.
    """
    from ternac.hdl.engine.schedule import batch_cycles, schedule
    from ternac.host.device import Device
    from ternac.run.generation import Run

    with Device.open("sim", program, geometry=geometry, board=geometry.name, progress=False) as device:
        board = device.board
        sessions = [board.open() for _ in range(board.together)]

        def measured(some: list[int]) -> int:
            before = board.meter.cycles
            board.run_together(some, [Run([0], tokens) for _ in some])
            return board.meter.cycles - before

        alone, many = measured(sessions[:1]), measured(sessions)
        image, together = board.image, len(sessions)
    one = batch_cycles(image, 1, tokens) if together > 1 else tokens * schedule(image).cycles
    all_of_them = batch_cycles(image, together, tokens) if together > 1 else one
    return {
        "tokens": tokens,
        "alone": alone,
        "together": many,
        "mismatches": (alone != one) + (many != all_of_them),
    }


def line(row: dict[str, Any]) -> str:
    """Return what is said of a model that fits."""
    counted = row.get("counted")
    verdict = "" if counted is None else ", NOT as counted" if counted["mismatches"] else ", as counted"
    return (
        f"{row['name']:20} {row['cycles_per_token']:6,} cycles a token, {row['for_rows']:4} for rows; "
        f"{row['sessions_together']} at a time: {row['cycles_per_token_together']:8,.1f}{verdict}"
    )


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a model that fits as a row of the page's table, see `COLUMNS`."""
    words = row["row_words"]
    return (
        f"`{row['name']}`", f"{row['trits']:,}", f"{words['constants']:,}", f"{words['a_session']:,}",
        f"{row['cycles_per_token']:,}", f"{row['for_rows']:,}", str(row["sessions_together"]),
        f"{row['cycles_per_token_together']:,.0f}", f"{row['tokens_per_second']:,.0f}",
        f"{row['tokens_per_second_together']:,.0f}",
    )  # fmt: skip


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_geometry(parser, f"engine with rows (default: {GEOMETRY})")
    number(parser, "--tokens", "count so many tokens in the simulated board, too", least=1, most=64)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import preset

    geometry = args.geometry or preset(GEOMETRY)
    if not geometry.rows:
        raise UsageError(f"{geometry.name} has no rows", "take one that has: tiny-rows, ulx3s-85f-rows")
    data = bench_rows(geometry, args.tokens or 0, say)
    say(f"origin: {data['origin']}")
    return Outcome(data, ok=not data["mismatches"])


VERB = Verb(
    help="Count the cycles that each shipped memory system takes on an engine with rows.",
    example="ternac bench rows --json",
    add_arguments=_arguments,
    run=_run,
)
