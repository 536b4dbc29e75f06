"""The verb ``explore``: search, table and picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.planner.explore import GOALS, explore
from ternac.hdl.planner.picture import FORMATS, write_picture
from ternac.progress import Progress
from ternac.table import columns

__all__ = ["VERB"]

_ROWS = 24
"""Rows of the table."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument("--board", choices=BOARDS, default="ulx3s-85f", help="default: ulx3s-85f")
    parser.add_argument("--model", dest="model_option", metavar="MODEL", help="the same as MODEL")
    parser.add_argument("--goal", choices=GOALS, default="throughput", help="default: throughput")
    parser.add_argument(
        "--sessions", type=int, metavar="N", help="sessions at a time (default: whatever is best)"
    )
    parser.add_argument(
        "--clock", type=float, metavar="MHZ", help="clock assumed (default: the shipped build's)"
    )
    parser.add_argument("--out", type=Path, metavar="PICTURE", help="draw the front (.png or .svg)")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.out is not None and args.out.suffix not in FORMATS:
        raise UsageError(f"{args.out} is no picture", f"choose a name that ends in {' or '.join(FORMATS)}")
    if args.out is not None and not args.out.parent.is_dir():
        raise UsageError(f"there is no folder {args.out.parent}")
    target = board(args.board)
    with Progress(1, f"{target.name}: geometries", "shapes") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        data, best, points = explore(
            args.model_option or args.model, target, args.goal,
            sessions=args.sessions, clock=args.clock, progress=progress,
        )  # fmt: skip
    _table(data, say)
    if args.out is not None:
        write_picture(args.out, data, points)
        data["picture"] = str(args.out)
        say(f"  {args.out}")
    return Outcome(data)


def _table(data: dict[str, Any], say: Say) -> None:
    say(f"{data['model']} on {data['board']} for {data['goal']}, {data['clock_mhz']:g} MHz:")
    say(f"  {data['fitting']} of {data['looked_at']} geometries fit, {len(data['front'])} are on the front")
    today = data["today"]
    rows = [
        [
            row["name"], f"{row['tokens_per_second']:,.0f}", str(row["sessions"]),
            f"{row['cycles_per_token']:,}", f"{row['latency_us']:,.1f}", f"{row['comb']:,}", f"{row['ff']:,}",
            str(row["bram"]), "today's engine" if row is today else "",
        ]
        for row in data["front"][:_ROWS] + ([today] if today else [])
    ]  # fmt: skip
    header = ("geometry", "tokens/s", "sessions", "cycles", "us", "COMB", "FF", "RAM", "")
    for line in columns(header, rows):
        say(f"  {line}")
    if len(data["front"]) > _ROWS:
        say(f"  {len(data['front']) - _ROWS} more of the front: --json")
    say(f"  cycles and us: one token alone. clock: {data['clock_origin']}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Search engine geometries for a board and a model: the Pareto front of speed, latency and area.",
    example="ternac explore --board icebreaker --model shakespeare-small --goal throughput",
    add_arguments=_arguments,
    run=_run,
)
