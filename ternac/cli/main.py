"""The command line, ``ternac VERB``: imports the module of the verb that is asked for, and runs it.

Exit status: 0 done, 1 the verb's check failed, 2 an error that the message explains, 130 interrupted.
With ``--json`` standard output carries one JSON object and nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from ternac.cli.verb import Parser, Say, Verb
from ternac.errors import TernacError, ToolMissing, UsageError

__all__ = ["VERBS", "main", "verb_and_parser"]

VERBS = {
    "train": "ternac.cli.train",
    "compare": "ternac.cli.compare",
    "tokenizer": "ternac.cli.tokenizer",
    "eval": "ternac.cli.eval",
    "export": "ternac.cli.export",
    "import": "ternac.cli.import_",
    "inspect": "ternac.cli.inspect",
    "profile": "ternac.cli.profile",
    "estimate": "ternac.cli.estimate",
    "explore": "ternac.cli.explore",
    "sim": "ternac.cli.sim",
    "verify": "ternac.cli.verify",
    "build": "ternac.cli.build",
    "report": "ternac.cli.report",
    "flash": "ternac.cli.flash",
    "integrate": "ternac.cli.integrate",
    "list": "ternac.cli.list",
    "run": "ternac.cli.run",
    "chat": "ternac.cli.chat",
    "serve": "ternac.cli.serve",
    "bench": "ternac.cli.bench.main",
    "doctor": "ternac.cli.doctor",
    "completion": "ternac.cli.completion",
}
"""Verb to the module that has it as ``VERB``, in the order of the overview."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Products here are too small for BLAS threads to pay, and on a busy machine they cost a lot.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    say = Say(as_json)
    try:
        if not words or words[0] in ("-h", "--help"):
            say(_overview())
            return 0
        if words[0] == "--version":
            say(_version())
            return 0
        verb, parser = verb_and_parser(words[0])
        args = parser.parse_args(words[1:], Namespace(every_verb=every_verb))
        outcome = verb.run(args, say)
    except TernacError as error:
        return _fail(type(error).__name__, str(error), error.hint, as_json)
    except ModuleNotFoundError as error:
        hint = "ternac doctor says what is missing and how to get it"
        message = f"ternac {words[0]} needs the Python package {error.name}, which is not installed"
        return _fail(ToolMissing.__name__, message, hint, as_json)
    except KeyboardInterrupt as stop:  # a verb may say what it has kept
        return _fail("Interrupted", str(stop) or "interrupted", "", as_json, 130)
    except BrokenPipeError:  # the reader of our output went away; that is its business
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)
    if as_json:
        _print_json(outcome.data)
    return 0 if outcome.ok else 1


def find_verb(name: str) -> Verb:
    """Import a verb. Raises UsageError if there is none of that name."""
    if name not in VERBS:
        raise UsageError(f"unknown verb {name!r}", f"verbs: {', '.join(VERBS)}")
    verb: Verb = importlib.import_module(VERBS[name]).VERB
    return verb


def verb_and_parser(name: str) -> tuple[Verb, Parser]:
    """Return a verb and the parser of its arguments. Raises UsageError if there is none of that name."""
    verb = find_verb(name)
    parser = Parser(prog=f"ternac {name}")
    parser.equip(verb)
    return verb, parser


def every_verb() -> dict[str, Verb]:
    """Import every verb, in the order of the overview. Verbs get this as ``args.every_verb``."""
    return {name: find_verb(name) for name in VERBS}


def _overview() -> str:
    lines = ["usage: ternac VERB [arguments] [--json]", "", "verbs:"]
    lines += [f"  {name:<10} {verb.help}" for name, verb in every_verb().items()]
    return "\n".join([*lines, "", "ternac VERB --help shows the arguments and an example."])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"ternac {version('ternac')}"
    except PackageNotFoundError:
        return "ternac (from a checkout)"


def _fail(kind: str, message: str, hint: str, as_json: bool, status: int = 2) -> int:
    sys.stderr.write(f"ternac: {message}\n" + (f"  hint: {hint}\n" if hint else ""))
    if as_json:
        _print_json({"error": {"type": kind, "message": message, "hint": hint}})
    return status


def _print_json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, allow_nan=False) + "\n")
    sys.stdout.flush()
