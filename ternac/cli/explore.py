"""``ternac explore``: search engine geometries; table and picture."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.arguments import add_board, add_model, add_picture, make_folder, number, open_model
from ternac.cli.verb import Outcome, Say, Verb
from ternac.table import columns

_ROWS = 24
"""Rows of the table."""
GOALS = ("throughput", "latency", "area")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    parser.add_argument(
        "--goal", choices=GOALS, default="throughput", help="what comes first (default: throughput)"
    )
    number(parser, "--sessions", "sessions at a time (default: as many as are best)")
    number(parser, "--clock", "clock assumed (default: the shipped build's)", kind=float, metavar="MHZ")
    add_picture(parser, "the geometries, for --geometry FILE:NAME of other verbs")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.files import write_json
    from ternac.hdl.boards.boards import board
    from ternac.hdl.planner.explore import explore, write_picture
    from ternac.progress import Progress

    make_folder(args.out)
    target = board(args.board)
    program = open_model(args.model, target.engine, say).program
    with Progress(1, f"{target.name}: geometries", "shapes") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        data, _, points = explore(
            program, target, args.goal, sessions=args.sessions, clock=args.clock, progress=progress
        )
    _show(data, say)
    if args.out is not None:
        if args.out.suffix == ".json":
            write_json(args.out, data, indent=1)
            data["geometries"] = str(args.out)
        else:
            write_picture(args.out, data, points)
            data["picture"] = str(args.out)
        say(f"  {args.out}")
    return Outcome(data)


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"{data['model']} on {data['board']} for {data['goal']}, {data['clock_mhz']:g} MHz:")
    say(f"  {data['fitting']} of {data['looked_at']} geometries fit, {len(data['front'])} are on the front")
    today = data["today"]
    rows = [
        [
            row["name"],
            f"{row['tokens_per_second']:,.0f}",
            str(row["sessions"]),
            f"{row['cycles_per_token']:,}",
            f"{row['latency_us']:,.1f}",
            f"{row['comb']:,}",
            f"{row['ff']:,}",
            str(row["bram"]),
            "today's engine" if row is today else "",
        ]
        for row in data["front"][:_ROWS] + ([today] if today else [])
    ]
    header = ("geometry", "tokens/s", "sessions", "cycles", "us", "COMB", "FF", "RAM", "")
    for line in columns(header, rows):
        say(f"  {line}")
    if len(data["front"]) > _ROWS:
        say(f"  {len(data['front']) - _ROWS} more of the front: --json")
    say("  --out FILE.json writes them for other verbs: --geometry FILE:NAME")
    say(f"  cycles and us: one token alone. clock: {data['clock_origin']}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Search engine geometries for a board and a model: the Pareto front of speed, latency and area.",
    example="ternac explore shakespeare-small --board icebreaker --goal throughput",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
