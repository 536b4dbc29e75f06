"""``ternac report``: one self-contained HTML page about a model on a board."""

from __future__ import annotations

import argparse

from ternac.cli.arguments import (
    add_board,
    add_geometry,
    add_model,
    add_out,
    engine_of,
    make_folder,
    open_model,
)
from ternac.cli.verb import Outcome, Say, Verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_geometry(parser)
    add_out(parser, "page to write", default="report.html")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.files import write_text
    from ternac.hdl.boards.boards import board
    from ternac.hdl.planner.report import render
    from ternac.manifest import folder

    make_folder(args.out)
    target = board(args.board)
    geometry = engine_of(args)
    model = open_model(args.model, geometry, say)
    page = render(model, target, geometry)
    write_text(args.out, page)
    say(f"wrote {args.out}, {len(page):,} bytes, nothing external in it")
    shipped = folder(target.name, geometry.name).exists()
    return Outcome(
        {
            "report": str(args.out),
            "bytes": len(page),
            "board": target.name,
            "geometry": geometry.name,
            "model": model.program.name,
            "bitstream": shipped,
        }
    )


VERB = Verb(
    help="Write one self-contained HTML page about a model on a board.",
    example="ternac report shakespeare --board ulx3s-85f --out report.html",
    add_arguments=_arguments,
    run=_run,
    renamed={"--output": "--out"},
)
