"""Files: texts, plain or ``.xz``, never more of them than a limit; and writing one whole or not at all."""

from __future__ import annotations

import lzma
import os
from pathlib import Path
from typing import IO

from ternac.errors import UsageError

MAX_TEXT = 1 << 30
"""Bytes of text that are read at once; a longer one needs a limit."""


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """The bytes of a file, unpacked if its name ends in ``.xz``; with ``limit`` only the first of them.

    UsageError if the file cannot be read, is no .xz file, is empty, or holds more than `MAX_TEXT` bytes.
    """
    path = Path(path)
    most = MAX_TEXT if limit is None else min(limit, MAX_TEXT)
    try:
        with _open(path) as file:
            data = file.read(most)
            more = limit is None and bool(file.read(1))
    except lzma.LZMAError as error:
        raise UsageError(f"{path} is not a whole .xz file: {error}", "get it again, or unpack it") from None
    except EOFError:
        raise UsageError(f"{path} is not a whole .xz file: it ends early", "get it again") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if more:
        raise UsageError(
            f"{path} holds more than {MAX_TEXT} bytes of text", "give --limit, or a part of the text"
        )
    if not data:
        raise UsageError(f"{path} is empty", "name a file with text in it")
    return data


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all; UsageError."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _open(path: Path) -> IO[bytes]:
    return lzma.open(path) if path.suffix == ".xz" else path.open("rb")
