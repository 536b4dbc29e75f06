"""What a verb of the command line is made of; each part brings its own, ``ternac.cli`` runs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO


@dataclass
class Outcome:
    """What a verb found: ``data`` is what ``--json`` prints; not ``ok`` makes the exit status 1."""

    data: dict[str, Any] = field(default_factory=dict)
    ok: bool = True


class Say:
    """Speaks to the human: on standard output, or on standard error when ``--json`` owns standard output."""

    def __init__(self, json: bool = False, out: TextIO | None = None) -> None:
        self.json = json
        self._out = out

    def __call__(self, text: str = "", end: str = "\n") -> None:
        """Print ``text`` at once (streams token by token with ``end=""``)."""
        out = self._out or (sys.stderr if self.json else sys.stdout)
        out.write(text + end)
        out.flush()


@dataclass(frozen=True)
class Verb:
    """A verb: one line of help, an example command, its arguments and what it does.

    ``add_arguments`` gets the verb's parser (``--json`` is already there); ``run`` gets the parsed arguments
    and a :class:`Say`, and raises TernacError for whatever the user can cause or cure.
    """

    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Say], Outcome]


def add_model_argument(parser: argparse.ArgumentParser, *, fitting: bool = False) -> None:
    """The optional MODEL argument (``args.model``): a path or a zoo name, default the shipped model; with
    ``fitting`` the default is None, for the largest one that fits (`ternac.compile.fitting`)."""
    from ternac.program.zoo import DEFAULT

    default = "the largest shipped one that fits" if fitting else DEFAULT
    parser.add_argument(
        "model", nargs="?", default=None if fitting else DEFAULT, metavar="MODEL",
        help=f"program file, or name of a shipped model (default: {default})",
    )  # fmt: skip
