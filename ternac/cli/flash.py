"""``ternac flash``: write a bitstream to a board."""

from __future__ import annotations

import argparse
from pathlib import Path

from ternac.cli.arguments import (
    add_board,
    add_geometry,
    add_loopback,
    add_model,
    refuse_with_loopback,
)
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "none, the engine stays empty")
    add_board(parser)
    add_geometry(parser, "another engine (default: the board's usual one)")
    parser.add_argument("--file", type=Path, metavar="FILE", help="write this bitstream file instead")
    add_loopback(parser)
    parser.add_argument(
        "--permanent", action="store_true", help="write to the board's flash, to survive power-off"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import board
    from ternac.hdl.build.bitstream import bitstream_for
    from ternac.hdl.build.flash import check_loader, find_program, flash
    from ternac.hdl.build.loopback import loopback_for

    refuse_with_loopback(args, "--geometry", "--file")
    target = board(args.board)
    if args.file is not None and (args.model or args.geometry):
        raise UsageError("--file is a whole bitstream: it goes with neither MODEL nor --geometry")
    if args.file is not None and not args.file.is_file():
        raise UsageError(f"there is no file {args.file}", "ternac build makes bitstreams")
    check_loader(target)
    find_program()  # before what takes long
    if args.loopback:
        data = loopback_for(args.board, say)
    elif args.file is None:
        data = bitstream_for(args.board, say, model=args.model, geometry=args.geometry)
    else:
        data = {"bitstream": str(args.file)}
    command = flash(target, Path(data["bitstream"]), permanent=args.permanent)
    say(f"{target.title}: written")
    say(f"  its own bitstream: {target.verified}")
    if target.notes:
        say(f"  {target.notes}")
    kept = args.permanent or target.family == "ice40"
    return Outcome({**data, "command": " ".join(command), "permanent": kept})


VERB = Verb(
    help="Write a bitstream to a board with openFPGALoader.",
    example="ternac flash shakespeare --board ulx3s-85f --permanent",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
