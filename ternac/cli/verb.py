"""Building blocks of a CLI command: `Verb`, its parser, what it prints and what it returns."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TextIO

from ternac.errors import UsageError


@dataclass
class Outcome:
    """Result of a verb: ``data`` is the object of ``--json``; the exit status is ``status`` unless ``ok``."""

    data: dict[str, Any] = field(default_factory=dict)
    ok: bool = True
    status: int = 1


class Say:
    """Writes for people: to standard output, or to standard error where ``--json`` owns standard output."""

    def __init__(self, json: bool = False, out: TextIO | None = None) -> None:
        self.json = json
        self._out = out

    def __call__(self, text: str = "", end: str = "\n") -> None:
        """Print ``text`` at once (``end=""`` streams token by token)."""
        write(self._out or (sys.stderr if self.json else sys.stdout), text + end)


def write(stream: TextIO, text: str) -> None:
    """Write text at once. Raises UsageError if the stream's disk is full; BrokenPipeError."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        name = stream.name.strip("<>")
        raise UsageError(
            f"cannot write {name}: {error.strerror}", "free some space, or write elsewhere"
        ) from None


@dataclass(frozen=True)
class Verb:
    """One command, exported as ``VERB`` by the module of its name.

    Importing the module is cheap, so that ``--help`` and completion are: ``run`` imports what it needs.
    """

    help: str
    """One line in the imperative: the overview, the head of ``--help`` and the completion show it."""
    example: str
    """One command that works as it is written."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Say], Outcome]
    """Gets the parsed arguments; raises TernacError for whatever the user can cause or cure."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Former spelling of an option to what is written instead."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, and knows former spellings. Options are not abbreviated.

    ``given`` of what it parses are the options that were written, not those with a default.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})
        self.renamed: Mapping[str, str] = {}

    def equip(self, verb: Verb, **json: Any) -> None:
        """Add the help, the arguments and the former spellings of ``verb``; ``json`` are options of
        ``--json``.
        """
        self.description = verb.help
        self.epilog = f"example:\n  {verb.example}"
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.renamed = verb.renamed
        self.add_argument(
            "--json", action="store_true", help="print one JSON object and nothing else", **json
        )
        verb.add_arguments(self)

    @property
    def arguments(self) -> list[argparse.Action]:
        """Every argument, in order; argparse has no public list of them."""
        return self._actions

    @property
    def benches(self) -> dict[str, Parser]:
        """The parsers of a verb that has further verbs, by name."""
        choices = (action.choices for action in self.arguments if isinstance(action.choices, dict))
        return {name: each for some in choices for name, each in some.items() if isinstance(each, Parser)}

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        for word in itertools.takewhile("--".__ne__, args or ()):
            option = word.partition("=")[0]
            if option in self.renamed:
                raise UsageError(f"{option} is now {self.renamed[option]}", f"see: {self.prog} --help")
        found, rest = super().parse_known_args(args, namespace)
        words = itertools.takewhile("--".__ne__, args or ())
        found.given = {word.partition("=")[0] for word in words if word.startswith("--")}
        return found, rest

    def print_help(self, file: Any = None) -> None:
        write(file or sys.stdout, self.format_help())  # argparse hides that it cannot be written

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see: {self.prog} --help")


def counted(number: int, noun: str) -> str:
    """Return ``1 session``, ``2 sessions``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
