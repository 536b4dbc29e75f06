"""``ternac build``: a bitstream for a board, empty or with a model in it."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ternac.cli.arguments import (
    add_board,
    add_geometry,
    add_loopback,
    add_model,
    add_out,
    make_folder,
    number,
    refuse_unused,
    refuse_with_loopback,
)
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "none, the engine stays empty")
    add_board(parser)
    add_geometry(parser, "another engine (default: the board's usual one)")
    number(parser, "--clock", "design clock (default: the board's)", kind=float, metavar="MHZ")
    add_out(parser, "copy the bitstream here, out of the cache")
    add_loopback(parser)
    parser.add_argument(
        "--wide", action="store_true", help="the engine for whole imported models, in the board's SDRAM"
    )
    parser.add_argument("--force", action="store_true", help="run every step again, even if nothing changed")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.build.bitstream import bitstream_for
    from ternac.hdl.build.loopback import loopback_for
    from ternac.hdl.build.wide import wide_for

    refuse_with_loopback(args, "--geometry", "--clock", "--wide")
    if args.wide:
        if args.model is not None:
            raise UsageError(
                "MODEL has no effect with --wide", "its SDRAM is loaded over the link: leave one out"
            )
        refuse_unused(
            args, "--wide", dict.fromkeys(("--geometry", "--clock"), "another engine: leave --wide out")
        )
    make_folder(args.out)
    started = time.monotonic()
    if args.loopback:
        data = loopback_for(args.board, say, force=args.force, out=args.out)
    elif args.wide:
        data = wide_for(args.board, say, force=args.force, out=args.out)
    else:
        data = bitstream_for(
            args.board,
            say,
            model=args.model,
            clock_mhz=args.clock,
            geometry=args.geometry,
            force=args.force,
            out=args.out,
        )
    data["elapsed_seconds"] = round(time.monotonic() - started, 1)
    _show(data, say)
    return Outcome(data)


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"{data['bitstream']}")
    say(f"  {data['comb']:,} COMB, {data['ff']:,} FF, {data['bram']} block RAMs, no multiplier, no DSP")
    say(f"  clock {data['clock_mhz']:g} MHz, routed for {data['fmax_mhz']:g} MHz; {data['origin']}")
    say(f"  sha256 {data['sha256']}")


VERB = Verb(
    help="Build a bitstream with the open tools, empty or with a model in it.",
    example="ternac build shakespeare --board ulx3s-85f",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
