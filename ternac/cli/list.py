"""``ternac list``: the models, boards, engines and executors that other verbs take by name."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments of its own."""


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import PRESETS
    from ternac.hdl.boards.boards import BOARDS
    from ternac.host.executors import BOARDS as LINKED
    from ternac.host.executors import LOCAL, pick_auto, why_missing
    from ternac.program.zoo import DEFAULT, names, open_program

    models: list[dict[str, Any]] = []
    say("Models (MODEL of every verb; a program file works too)")
    for name in names():
        program = open_program(name)
        memories = {memory: 2 * sizes.words for memory, sizes in program.memories.items()}
        about = {"state_bytes": 2 * program.state_words, "memory_bytes": memories}
        models.append({"name": name, "trits": program.trits, "default": name == DEFAULT, **about})
        rows = f", {sum(memories.values()):,} of them rows of memories" if memories else ""
        say(
            f"  {name:<20} {program.trits:>9,} ternary weights, {2 * program.state_words:,} bytes a session"
            f"{rows}{', default' * (name == DEFAULT)}"
        )
    say("\nBoards (--board)")
    boards = [
        {
            "name": b.name, "title": b.title, "geometry": b.geometry, "chip": b.chip.name,
            "clock_mhz": b.clock_hz / 1e6, "baud": b.baud, "serial": b.serial, "verified": b.verified,
            "notes": b.notes,
        }
        for b in BOARDS.values()
    ]  # fmt: skip
    for board in boards:
        say(f"  {board['name']:<20} {board['title']}, engine {board['geometry']}")
    say("\nEngines (--geometry)")
    geometries = [{"name": g.name, "columns": g.columns, "lanes": g.lanes} for g in PRESETS.values()]
    for geometry in geometries:
        say(f"  {geometry['name']:<20} {geometry['columns']} x {geometry['lanes']} lanes")
    say("\nExecutors (--device, --executor)")
    executors = []
    for form, text in (LOCAL | LINKED).items():
        kind = form.partition(":")[0].partition("[")[0]
        reason = why_missing(kind)
        executors.append({"name": kind, "form": form, "about": text, "missing": reason})
        here = (
            f"not here: {reason}" if reason else f"here {pick_auto()[0]}" if kind == "auto" else "works here"
        )
        say(f"  {form:<20} {text} ({here})")
    data = {"models": models, "boards": boards, "geometries": geometries, "executors": executors}
    return Outcome(data)


VERB = Verb(
    help="List models, boards, engines, and the executors that work here.",
    example="ternac list",
    add_arguments=_arguments,
    run=_run,
)
