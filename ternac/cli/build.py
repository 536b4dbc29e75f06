"""The verbs of the hardware side: build and flash here, estimate, report and bench from their own modules."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ternac.cli import explore as explore_verb
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, VARIANTS, board
from ternac.hdl.build.bitstream import bitstream_for
from ternac.hdl.build.flash import flash
from ternac.hdl.planner import estimate, report


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", choices=sorted(BOARDS), default="ulx3s-85f", help="default: %(default)s")
    parser.add_argument("--geometry", choices=VARIANTS, help="another engine than the board's usual one")
    parser.add_argument("--model", help="bake this program in: a file or the name of a shipped model")
    parser.add_argument("--clock", type=float, metavar="MHZ", help="design clock (default: the board's)")
    parser.add_argument("--force", action="store_true", help="run every step again, even if nothing changed")
    parser.add_argument("--out", type=Path, metavar="FILE", help="copy the bitstream here, out of the cache")


def _build(args: argparse.Namespace, say: Say) -> Outcome:
    started = time.monotonic()
    data = bitstream_for(
        args.board,
        say,
        model=args.model,
        clock_mhz=args.clock,
        engine=args.geometry,
        force=args.force,
        out=args.out,
    )
    data["elapsed_seconds"] = round(time.monotonic() - started, 1)
    say(f"{data['bitstream']}")
    say(f"  {data['comb']:,} COMB, {data['ff']:,} FF, {data['bram']} block RAMs, no multiplier, no DSP")
    say(f"  clock {data['clock_mhz']:g} MHz, routed for {data['fmax_mhz']:g} MHz; {data['origin']}")
    say(f"  sha256 {data['sha256']}")
    return Outcome(data)


def _flash_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", choices=sorted(BOARDS), default="ulx3s-85f", help="default: %(default)s")
    parser.add_argument("--geometry", choices=VARIANTS, help="another engine than the board's usual one")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--model", help="the bitstream with this program baked in (default: the empty engine)")
    what.add_argument("--file", type=Path, help="this bitstream file")
    parser.add_argument(
        "--permanent", action="store_true", help="into the board's flash, to survive power-off"
    )


def _flash(args: argparse.Namespace, say: Say) -> Outcome:
    target = board(args.board)
    if args.file is not None and not args.file.is_file():
        raise UsageError(f"there is no file {args.file}", "ternac build makes bitstreams")
    data = (
        {"bitstream": str(args.file)}
        if args.file
        else bitstream_for(args.board, say, model=args.model, engine=args.geometry)
    )
    command = flash(target, Path(data["bitstream"]), permanent=args.permanent)
    say(f"{target.title}: written")
    return Outcome(
        {**data, "command": " ".join(command), "permanent": args.permanent or target.family == "ice40"}
    )


VERBS = {
    "build": Verb(
        help="Build a bitstream with the open tools, or bake a model into one.",
        example="ternac build --board ulx3s-85f --model shakespeare",
        add_arguments=_build_arguments,
        run=_build,
    ),
    "flash": Verb(
        help="Write a bitstream to a board with openFPGALoader.",
        example="ternac flash --board ulx3s-85f --model shakespeare --permanent",
        add_arguments=_flash_arguments,
        run=_flash,
    ),
    "estimate": estimate.VERB,
    "explore": explore_verb.VERB,
    "report": report.VERB,
}
