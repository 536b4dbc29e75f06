"""``ternac bench``: measure, with the origin of every number; a module per bench."""

from __future__ import annotations

import argparse
import importlib

from ternac.cli.verb import Outcome, Parser, Say, Verb

BENCHES = ("array", "compress", "hdl", "gpu", "host", "link", "program", "rows", "sdram", "stream", "train")


def find_bench(name: str) -> Verb:
    """Import a bench."""
    verb: Verb = importlib.import_module(f"ternac.cli.bench.{name}").VERB
    return verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(
        dest="what", required=True, metavar="WHAT", help="what to measure", parser_class=Parser
    )
    for name in BENCHES:
        bench = find_bench(name)
        choices.add_parser(name, help=bench.help).equip(bench, default=argparse.SUPPRESS)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    return find_bench(args.what).run(args, say)


VERB = Verb(
    help="Measure, with the origin of every number.",
    example="ternac bench hdl --board ulx3s-85f --sessions 2",
    add_arguments=_arguments,
    run=_run,
)
