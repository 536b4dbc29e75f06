"""Read a log as it grows: line by line, behind a rotation, too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ternac.errors import UsageError

__all__ = ["MOST_LINE", "follow", "lines_of"]

MOST_LINE = 1 << 16
"""Bytes after which a line without an end counts as one."""
READ = 1 << 16


def lines_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream, with their ends; the last one may have none."""
    held = b""
    for piece in pieces:
        held += piece
        *whole, held = held.split(b"\n")
        for line in whole:
            yield from _cut(line + b"\n")
        while len(held) > MOST_LINE:
            yield held[:MOST_LINE]
            held = held[MOST_LINE:]
    if held:
        yield from _cut(held)


def _cut(line: bytes) -> Iterator[bytes]:
    for at in range(0, len(line), MOST_LINE):
        yield line[at : at + MOST_LINE]


def follow(
    path: Path,
    at: int,
    *,
    poll: float,
    stop: Callable[[], bool] = lambda: False,
    idle: Callable[[], None] = lambda: None,
    rotated: Callable[[str], None] = lambda how: None,
) -> Iterator[bytes]:
    """Yield the whole lines of a file from byte ``at`` on, and wait for more until ``stop``.

    A file of the same name that takes its place is read from its beginning, when the old one has been read to
    its end; so is one that was cut short. ``rotated`` is told ("replaced", "cut short"), ``idle`` is called
    whenever there is nothing to read. A line without an end is yielded when its file ends for good.

    Raises UsageError if the file cannot be read.
    """
    source = _open(path)
    held = b""
    source.seek(at)
    try:
        while True:
            piece = source.read(READ)
            held += piece
            *whole, held = held.split(b"\n")
            for line in whole:
                yield line + b"\n"
            if len(held) > MOST_LINE:
                yield held
                held = b""
            if piece:
                continue
            if stop():
                break
            idle()
            how = _changed(source, path)
            if how == "cut short":
                source.seek(0)
                held = b""
            elif how == "replaced":
                rest = source.read()  # what came between the last look and the change
                if rest:
                    held += rest
                    *whole, held = held.split(b"\n")
                    for line in whole:
                        yield line + b"\n"
                if held:
                    yield held
                source.close()
                source, held = _open(path), b""
            else:
                time.sleep(poll)
                continue
            rotated(how)
    finally:
        source.close()
    if held:
        yield held


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}", "name a log that you may read"
        ) from None


def _changed(source: BinaryIO, path: Path) -> str:
    """Tell what has happened to a file that was read to its end: nothing, "cut short", or "replaced"."""
    here = os.fstat(source.fileno())
    try:
        there = path.stat()
    except OSError:  # between the old name's end and the new file
        return ""
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        return "replaced"
    return "cut short" if there.st_size < source.tell() else ""
