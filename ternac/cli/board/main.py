"""``ternac board``: check a board, with its engine or with its loopback bitstream."""

from __future__ import annotations

import argparse
import importlib

from ternac.cli.verb import Outcome, Parser, Say, Verb

CHECKS = ("check", "loopback")


def find_check(name: str) -> Verb:
    """Import a check."""
    verb: Verb = importlib.import_module(f"ternac.cli.board.{name}").VERB
    return verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(
        dest="what", required=True, metavar="WHAT", help="what to do", parser_class=Parser
    )
    for name in CHECKS:
        check = find_check(name)
        choices.add_parser(name, help=check.help).equip(check, default=argparse.SUPPRESS)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    return find_check(args.what).run(args, say)


VERB = Verb(
    help="Check a board: identity, line, memories, tokens, and its loopback bitstream.",
    example="ternac board check serial:/dev/ttyUSB0 --board ulx3s-85f",
    add_arguments=_arguments,
    run=_run,
)
