"""``ternac completion``: a script that completes verbs, options and their choices.

shtab makes it from the parsers themselves, for all three shells; argcomplete, which starts Python at every
keystroke, and a generator of our own (three dialects) were the alternatives.
"""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.verb import Outcome, Parser, Say, Verb

SHELLS = ("bash", "zsh", "fish")
PATHS = ("MODEL", "FILE", "DIR", "PATH", "TEXT")
"""Metavars of arguments that take a path."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="shell to write the script for")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import shtab

    root = Parser(prog="ternac")
    root.add_argument("--version", action="store_true", help="show the version")
    verbs = root.add_subparsers(metavar="VERB")
    for name, verb in args.every_verb().items():
        parser = verbs.add_parser(name, help=verb.help)
        parser.equip(verb)
        _complete_paths(parser, shtab.FILE)
    script = shtab.complete(root, args.shell)
    say(script)
    return Outcome({"shell": args.shell, "script": script})


def _complete_paths(parser: Parser, files: Any) -> None:
    """Mark every path of a parser and its subparsers for shtab, which reads an action's ``complete``."""
    for action in parser.arguments:
        if action.metavar in PATHS:
            action.complete = files  # type: ignore[attr-defined]
    for bench in parser.benches.values():
        _complete_paths(bench, files)


VERB = Verb(
    help="Print a script that completes ternac's verbs and options in a shell.",
    example="ternac completion bash",
    add_arguments=_arguments,
    run=_run,
)
