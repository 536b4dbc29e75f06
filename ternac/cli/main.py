"""The command line, ``ternac VERB``: imports the module of the verb that is asked for, and runs it.

Exit status: 0 done, 1 the verb's check failed, 2 an error that the message explains, 130 interrupted (by
SIGINT or SIGTERM).
With ``--json`` standard output carries one JSON object and nothing else.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import logging
import lzma
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ternac
from ternac.cli.verb import Parser, Say, Verb, write
from ternac.errors import TernacError, ToolMissing, UsageError
from ternac.limits import raised

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
    "board": "ternac.cli.board.main",
    "emit": "ternac.cli.emit",
    "list": "ternac.cli.list",
    "run": "ternac.cli.run",
    "chat": "ternac.cli.chat",
    "serve": "ternac.cli.serve",
    "compress": "ternac.cli.compress",
    "decompress": "ternac.cli.decompress",
    "score": "ternac.cli.score",
    "watch": "ternac.cli.watch",
    "bench": "ternac.cli.bench.main",
    "memory": "ternac.cli.memory",
    "task": "ternac.cli.task",
    "sleep": "ternac.cli.sleep",
    "doctor": "ternac.cli.doctor",
    "completion": "ternac.cli.completion",
}
"""Verb to the module that has it as ``VERB``, in the order of the overview."""
RENAMED = {"integrate": "emit --top axi"}
"""Former verb to what is written instead."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Products here are too small for BLAS threads to pay, and on a busy machine they cost a lot.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What these say of their own folders and of a CUDA that is not used is no word to the user of a verb.
    for talker in ("matplotlib", "torch.utils.cpp_extension"):
        logging.getLogger(talker).setLevel(logging.ERROR)
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    _prepare_streams()
    say = Say(as_json)
    try:
        if not words or words[0] in ("-h", "--help"):
            say(_overview())
            return 0
        if words[0] == "--version":
            say(f"ternac {ternac.__version__}")
            return 0
        verb, parser = verb_and_parser(words[0])
        args = parser.parse_args(words[1:], Namespace(every_verb=every_verb))
        with raised(getattr(args, "budget", 1)), _terminated_as_interrupted():
            outcome = verb.run(args, say)
        if as_json:
            _print_json(outcome.data)
    except TernacError as error:
        return _fail(type(error).__name__, str(error), error.hint, as_json)
    except ModuleNotFoundError as error:
        hint = "ternac doctor says what is missing and how to get it"
        message = f"ternac {words[0]} needs the Python package {error.name}, which is not installed"
        return _fail(ToolMissing.__name__, message, hint, as_json)
    except KeyboardInterrupt as stop:  # a verb may say what it has kept
        return _fail("Interrupted", str(stop) or "interrupted", "", as_json, 130)
    except BrokenPipeError:  # the reader of our output went away; that is its business
        _drop_output()
        return 1
    except FAILURES as error:
        typed = as_typed(error, words)
        return _fail(type(typed).__name__, str(typed), typed.hint, as_json)
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)
    return 0 if outcome.ok else outcome.status


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """While entered, SIGTERM is what Ctrl-C is, so that what a verb has begun is ended as well: tools that it
    started (place and route works on for minutes), files that it writes. Verbs with their own way keep it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


FAILURES = (OSError, UnicodeError, json.JSONDecodeError, lzma.LZMAError)
"""What files, streams and the locale can raise anywhere below; any other exception is a fault of ours."""

REMEDIES = {
    errno.ENOENT: "check the name",
    errno.EACCES: "name a place that you may use, or change its permissions",
    errno.EPERM: "name a place that you may use, or change its permissions",
    errno.EROFS: "name a place that you may write",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of the path is a file: name a folder",
    errno.EEXIST: "name another place",
    errno.ENOSPC: "free some space, or name another disk; TERNAC_CACHE moves the cache",
    errno.EDQUOT: "free some space, or name another disk; TERNAC_CACHE moves the cache",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ELOOP: "the path has links in a circle",
    errno.ENOMEM: "free some memory",
}


def as_typed(error: Exception, words: Sequence[str]) -> TernacError:
    """Return what one of `FAILURES` means: the path or argument, the reason, the remedy.

    ``words`` are the command's.
    """
    if isinstance(error, OSError):
        paths = [_shown(os.fsdecode(path)) for path in (error.filename, error.filename2) if path is not None]
        reason = error.strerror or str(error) or type(error).__name__
        hint = REMEDIES.get(error.errno or 0, "ternac doctor shows what is wrong with this machine")
        return UsageError(": ".join([*([" to ".join(paths)] if paths else []), reason]), hint)
    if isinstance(error, UnicodeEncodeError):
        for number, word in enumerate(words):
            if error.object and error.object in word:
                before = words[number - 1] if number else ""
                name = next((w.partition("=")[0] for w in (word, before) if w.startswith("-")), "an argument")
                return UsageError(f"{name} is not UTF-8: {_shown(word)}", "give it in UTF-8; see: locale")
        return UsageError(
            f"{_shown(error.object[:60])} cannot be written as {error.encoding}", "set LC_ALL=C.UTF-8"
        )
    if isinstance(error, UnicodeDecodeError):
        found = error.object[error.start : error.start + 8].hex(" ")
        place = f"byte {error.start} ({found} ...)"
        return UsageError(
            f"{_files(words)} is not {error.encoding} text: {place}, {error.reason}",
            "convert it to UTF-8: iconv",
        )
    return UsageError(f"{_files(words)} is damaged: {type(error).__name__}: {error}", "get or make it again")


def _files(words: Sequence[str]) -> str:
    """Name the files of a command, of which one was being read."""
    found = [_shown(word) for word in words[1:] if not word.startswith("-") and _is_file(word)]
    return " or ".join(found) or "a file that was read"


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _prepare_streams() -> None:
    """Let no character of a text fail for the terminal's encoding, and no closed stream."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Send what standard output does not take nowhere: Python's own flush at the end would fail too."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_verb(name: str) -> Verb:
    """Import a verb. Raises UsageError if there is none of that name."""
    if name in RENAMED:
        raise UsageError(f"ternac {name} is now ternac {RENAMED[name]}", "see: ternac emit --help")
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


def _fail(kind: str, message: str, hint: str, as_json: bool, status: int = 2) -> int:
    with suppress(OSError):
        sys.stderr.write(f"ternac: {message}\n" + (f"  hint: {hint}\n" if hint else ""))
    with suppress(UsageError, OSError):  # it cannot be said then
        if as_json:
            _print_json({"error": {"type": kind, "message": message, "hint": hint}})
    _drop_output()
    return status


def _print_json(data: dict[str, Any]) -> None:
    write(sys.stdout, json.dumps(data, allow_nan=False) + "\n")
