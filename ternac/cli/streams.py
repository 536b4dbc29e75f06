"""Files, pipes and the coder of ``compress``, ``decompress``, ``score`` and ``watch``."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ternac.cli.arguments import (
    add_board,
    add_budget,
    add_device,
    add_executor,
    add_geometry,
    number,
    refuse_unused,
)
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.program.program import Program
    from ternac.run.texts import Coder

READ = 1 << 20
"""Bytes that are asked of a pipe at a time."""


def add_coder(parser: argparse.ArgumentParser, model: str) -> None:
    """Add the options that `open_coder` reads; ``model`` is the default in words."""
    parser.add_argument(
        "--model", metavar="NAME", help=f"program file, or name of a shipped model (default: {model})"
    )
    add_executor(parser, "auto")
    number(parser, "--threads", "processors of the native executor (default: all)", least=1, most=1024)
    add_device(parser, "none: the executor computes")
    add_board(parser)
    add_geometry(parser)
    parser.add_argument(
        "--spans", action="store_true", help="refuse a board whose engine does not report spans of tokens"
    )
    add_budget(parser)


@contextmanager
def opened_coder(args: argparse.Namespace, program: Program, path: Path | None) -> Iterator[Coder]:
    """Open what the options name, for a ``with`` block."""
    from ternac.host.coder import BackendSessions, open_coder
    from ternac.host.executors import BOARDS, parse_executor
    from ternac.run.texts import StepCoder

    if args.device is None:
        refuse_unused(args, "--executor", dict.fromkeys(("--board", "--geometry", "--spans"), "--device"))
        name = parse_executor(args.executor)
        if args.threads is not None and name.kind not in ("auto", "native"):
            refuse_unused(args, f"--executor {args.executor}", {"--threads": "--executor native"})
        coder: Coder = open_coder(name, program, path=path, threads=args.threads)
    else:
        from ternac.host.device import Device

        refuse_unused(args, "--device", dict.fromkeys(("--executor", "--threads"), "no --device"))
        parse_executor(args.device, BOARDS)
        device = Device.open(args.device, program, board=args.board, geometry=args.geometry)
        try:
            coder = StepCoder(BackendSessions(device.backend, spans=args.spans))
        except BaseException:
            device.close()
            raise
    try:
        yield coder
    finally:
        coder.close()


def size_of(file: str) -> int | None:
    """Return the bytes of a file; None of a pipe, or what else has no end that is known."""
    try:
        about = os.fstat(sys.stdin.fileno()) if file == "-" else Path(file).stat()
    except (OSError, ValueError):
        return None
    return about.st_size if stat.S_ISREG(about.st_mode) else None


@contextmanager
def reading(file: str) -> Iterator[BufferedReader]:
    """Open a file, or standard input for ``-``."""
    if file == "-":
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    if not file:
        raise UsageError("the name of the file is empty", "name a file, or - for standard input")
    with Path(file).open("rb") as source:
        yield source


def pieces(source: BufferedReader) -> Iterator[bytes]:
    """Read a stream to its end."""
    while piece := source.read1(READ):
        yield piece


def check_out(args: argparse.Namespace, out: Path) -> None:
    """Raise UsageError if ``out`` may not be written: it is the input, or standard output that is taken."""
    if str(out) != "-":
        if args.file != "-" and out.exists() and Path(args.file).exists() and out.samefile(args.file):
            raise UsageError(f"{out} is the file that is read", "name another one: --out")
    elif args.json:
        raise UsageError("--json and --out - both want standard output", "name a file: --out FILE")
    elif sys.stdout.isatty() and args.binary:
        raise UsageError("an archive is not for a terminal", "name a file: --out FILE, or use a pipe")


@contextmanager
def writing(out: Path) -> Iterator[BinaryIO]:
    """Write a file whole or not at all; standard output for ``-``."""
    from ternac.files import replacing

    if str(out) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replacing(out) as scratch, scratch.open("wb") as sink:
        yield sink


def speed(count: int, seconds: float) -> float:
    """Return KB/s."""
    return count / 1000 / seconds if seconds else 0.0


def report(coder: Coder, program: Program) -> dict[str, Any]:
    """Return what a report says of the model and of what computed it."""
    about = {"model": program.name, "program_hash": program.hash, "executor": coder.name}
    return {**about, "origin": coder.origin}
