"""``ternac board check``: all that can be checked of a board with its engine, in one report."""

from __future__ import annotations

import argparse
from pathlib import Path

from ternac.cli.arguments import (
    add_board,
    add_geometry,
    add_model,
    add_out,
    add_seed,
    engine_of,
    make_folder,
    number,
    open_model,
)
from ternac.cli.board.output import about, parse_port, show
from ternac.cli.verb import Outcome, Say, Verb

OUT = "board-check.json"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="serial:/dev/ttyUSB0, or sim for the simulated board")
    add_model(parser)
    add_board(parser)
    add_geometry(parser)
    number(parser, "--minutes", "length of the soak", default=3, least=0, most=10_000, kind=float)
    number(parser, "--tokens", "tokens of MODEL, each compared in logits and states", default=200, least=4)
    number(parser, "--fills", "times that weights and embedding are filled at random", default=2, least=0)
    add_seed(parser, "of the random words and texts")
    add_out(parser, "the report, in JSON", default=OUT)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.board.check.check import Extent, check_board
    from ternac.host.board.check.identity import manifest_facts
    from ternac.host.board.client import SERIAL, SIMULATED
    from ternac.host.device import open_line

    port = parse_port(args.port)
    make_folder(args.out)
    geometry, simulated = engine_of(args), port.kind == "sim"
    model = open_model(args.model, geometry, say)
    manifest = {} if simulated else manifest_facts(args.board, geometry.name)
    if not simulated:
        say(f"program and sessions of {args.board} are overwritten, by {model.program.name} in the end")
    report = check_board(
        open_line(port, args.board, geometry),
        geometry,
        args.board,
        model,
        Extent(minutes=args.minutes, tokens=args.tokens, fills=args.fills, seed=args.seed),
        simulated=simulated,
        patience=SIMULATED if simulated else SERIAL,
        named=args.model is not None,
        about={
            **about(args.port, args.board, geometry.name, manifest),
            "model": model.program.name,
            "program_hash": model.program.hash,
        },
    )
    return show(report, Path(args.out), say)


VERB = Verb(
    help="Check a board's identity, line, memories and tokens against NumPy, and write a report.",
    example="ternac board check sim --geometry tiny --minutes 0.1",
    add_arguments=_arguments,
    run=_run,
)
