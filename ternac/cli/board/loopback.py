"""``ternac board loopback``: test line, block RAM and SDRAM of a board that carries its loopback
bitstream.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ternac.cli.arguments import add_board, add_out, add_seed, make_folder, number
from ternac.cli.board.output import about, parse_port, show
from ternac.cli.verb import Outcome, Say, Verb

OUT = "board-loopback.json"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="serial:/dev/ttyUSB0, or sim for the simulated loopback")
    add_board(parser)
    text = "most words of each memory that are tested (default: all; with sim 4096)"
    number(parser, "--words", text, least=8, most=1 << 24)
    add_seed(parser, "of the random words")
    add_out(parser, "the report, in JSON", default=OUT)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import board
    from ternac.hdl.diagnostics.design import memories
    from ternac.hdl.diagnostics.registers import LOOPBACK
    from ternac.host.board.check.identity import manifest_facts
    from ternac.host.board.check.loopback import check_loopback
    from ternac.host.board.client import SERIAL, SIMULATED
    from ternac.host.board.transport import ProcessTransport, SerialTransport, Transport
    from ternac.sim.loopback import build_loopback

    port, target = parse_port(args.port), board(args.board)
    make_folder(args.out)
    memories(target)  # before what takes long
    simulated = port.kind == "sim"
    line: Transport
    if simulated:
        line = ProcessTransport(build_loopback(target, say=say))
    else:
        line = SerialTransport(port.detail, target.baud)
    report = check_loopback(
        line,
        target,
        simulated=simulated,
        patience=SIMULATED if simulated else SERIAL,
        seed=args.seed,
        words=None if args.words is None else args.words - args.words % 8,
        about=about(
            args.port,
            target.name,
            LOOPBACK.name,
            {} if simulated else manifest_facts(target.name, LOOPBACK.name),
        ),
    )
    return show(report, Path(args.out), say)


VERB = Verb(
    help="Test line, block RAM and SDRAM of a board that carries its loopback bitstream.",
    example="ternac board loopback serial:/dev/ttyUSB0 --board ulx3s-85f",
    add_arguments=_arguments,
    run=_run,
)
