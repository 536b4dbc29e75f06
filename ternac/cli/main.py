"""The command line: ``ternac VERB``.  Finds the verb's module when it is asked for, so that help stays fast.

Exit status: 0 done, 1 the verb's check failed, 2 an error that the message explains, 130 interrupted.
With ``--json`` standard output carries one JSON object and nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import TernacError, ToolMissing, UsageError

__all__ = ["SUMMARIES", "VERBS", "Outcome", "Say", "Verb", "main"]

VERBS = {
    "train": "ternac.cli.train",
    "tokenizer": "ternac.cli.tokenizer",
    "compare": "ternac.cli.compare",
    "eval": "ternac.cli.program_verbs",
    "export": "ternac.cli.train",
    "import": "ternac.cli.import_",
    "inspect": "ternac.cli.program_verbs",
    "profile": "ternac.cli.profile",
    "estimate": "ternac.cli.build",
    "explore": "ternac.cli.build",
    "sim": "ternac.cli.sim",
    "verify": "ternac.cli.verify",
    "build": "ternac.cli.build",
    "report": "ternac.cli.build",
    "flash": "ternac.cli.build",
    "integrate": "ternac.cli.integrate",
    "run": "ternac.cli.run",
    "serve": "ternac.cli.serve",
    "bench": "ternac.cli.bench.main",
    "doctor": "ternac.cli.doctor",
}
"""Verb to the module whose ``VERBS`` dictionary holds it."""

SUMMARIES = {
    "train": "train a ternary language model on text",
    "compare": "train float, ternary and integer twins: what each step costs",
    "tokenizer": "make a tokenizer from a text",
    "eval": "loss of an integer program on a text",
    "export": "turn a training checkpoint into an integer program",
    "import": "turn a model trained elsewhere into an integer program",
    "inspect": "show what is in a program file",
    "profile": "ranges, saturation and what each layer's rounding costs",
    "estimate": "resources and speed of a board, without synthesis",
    "explore": "search engine geometries for a board, a model and a goal",
    "sim": "run the engine's RTL and look at it",
    "verify": "compare executors bit for bit",
    "build": "build a bitstream with the open tools",
    "report": "write one HTML page about a model and its engine",
    "flash": "write a bitstream to a board",
    "integrate": "write the engine as an AXI block for other tools",
    "run": "generate text on an executor or a board",
    "serve": "serve a model over HTTP, with OpenAI's API",
    "bench": "measure, with the origin of every number",
    "doctor": "say what is missing and how to get it",
}


class _Parser(argparse.ArgumentParser):
    """Wrong arguments become UsageError instead of an exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see: {self.prog} --help")


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
        verb, parser = _verb(words[0])
        args = parser.parse_args(words[1:])
        outcome = verb.run(args, say)
    except TernacError as error:
        return _fail(type(error).__name__, str(error), error.hint, as_json)
    except ModuleNotFoundError as error:
        hint = "ternac doctor says what is missing and how to get it"
        message = f"ternac {words[0]} needs the Python package {error.name}, which is not installed"
        return _fail(ToolMissing.__name__, message, hint, as_json)
    except KeyboardInterrupt:
        return _fail("Interrupted", "interrupted", "", as_json, 130)
    except BrokenPipeError:  # the reader of our output went away; that is its business
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)
    if as_json:
        _print_json(outcome.data)
    return 0 if outcome.ok else 1


def _verb(name: str) -> tuple[Verb, _Parser]:
    """The verb and its parser; UsageError for an unknown one."""
    if name not in VERBS:
        raise UsageError(f"unknown verb {name!r}", f"verbs: {', '.join(VERBS)}")
    module = VERBS[name]
    verb: Verb = importlib.import_module(module).VERBS[name]
    parser = _Parser(
        prog=f"ternac {name}",
        description=verb.help,
        epilog=f"example:\n  {verb.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    verb.add_arguments(parser)
    return verb, parser


def _overview() -> str:
    lines = ["usage: ternac VERB [arguments] [--json]", "", "verbs:"]
    lines += [f"  {name:<9} {SUMMARIES[name]}" for name in VERBS]
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


if __name__ == "__main__":
    sys.exit(main())
