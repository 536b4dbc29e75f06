"""Texts of closed sessions as tokens: what `ternac sleep` replays. A snapshot has none of them.

A file is plain text, encoded by the program's tokenizer; or JSON: a list of tokens, a list of such lists (one
session each), or what ``ternac run --json`` printed, whose prompt and text are one session.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.files import read_bytes
from ternac.program.program import Program
from ternac.run.snapshot import is_snapshot
from ternac.text.tokenizer import tokenizer_of

Tokens = npt.NDArray[Any]


def read_texts(path: Path, program: Program) -> list[Tokens]:
    """Read the texts in a file, each as tokens of the program.

    Raises UsageError if it cannot be read, is a snapshot, or is no text and no JSON of these forms; if it is
    text and the program reads none.
    """
    data = read_bytes(path)
    if is_snapshot(data):
        raise UsageError(
            f"{path} is a snapshot of a session: it has the state and not the tokens",
            "name the session's text, or what ternac run --json printed",
        )

    def encode(text: bytes) -> Tokens:
        try:
            return tokenizer_of(program).encode(text).ids
        except UsageError as error:
            raise UsageError(f"{path}: {error}", error.hint) from None

    if path.suffix != ".json":
        return [encode(data)]
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", "name a text file, or a list of tokens") from None
    return _texts(found, path, encode)


def _texts(found: Any, path: Path, encode: Callable[[bytes], Tokens]) -> list[Tokens]:
    if isinstance(found, dict) and all(isinstance(found.get(key), str) for key in ("prompt", "text")):
        return [encode((found["prompt"] + found["text"]).encode())]
    lists = found if isinstance(found, list) and found and isinstance(found[0], list) else [found]
    for each in lists:
        if not isinstance(each, list) or not all(
            type(token) is int and 0 <= token < 1 << 16 for token in each
        ):
            raise UsageError(
                f"{path} is no list of tokens, each 0..65535, and no list of such lists",
                "write [1, 2, 3] or [[1, 2], [3]], or take what ternac run --json printed",
            )
    return [np.array(each, np.int64) for each in lists]
