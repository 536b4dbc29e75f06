"""``ternac decompress``: the text of an archive of ``ternac compress``, or a part of it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ternac.cli.arguments import add_out
from ternac.cli.compress import SUFFIX
from ternac.cli.streams import add_coder, check_out, opened_coder, reading, report, size_of, speed, writing
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="archive of ternac compress, - for standard input")
    add_coder(parser, "the shipped one that the archive names")
    add_out(parser, f"the text, - for standard output (default: FILE without {SUFFIX}, of - standard output)")
    parser.add_argument(
        "--range",
        type=_range,
        metavar="A:B",
        help="only bytes A to B of the text, B not included; either may be left out",
    )


def _range(given: str) -> tuple[int, int | None]:
    """Parse A:B. Raises UsageError if it is none."""
    first, colon, last = given.partition(":")
    fine = colon and all(part.isdecimal() or not part for part in (first, last))
    if fine:
        start, end = int(first or 0), int(last) if last else None
        if end is None or start <= end:
            return start, end
    raise UsageError(f"--range is {given!r}, needs two places, A not behind B", "for example --range 0:1000")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.compress import decompress, find_program, read_range
    from ternac.program.zoo import open_program, resolve
    from ternac.progress import Progress
    from ternac.run.archive import Reader

    out = args.out
    if out is None:
        if args.file != "-" and not args.file.endswith(SUFFIX):
            raise UsageError(f"{args.file} does not end in {SUFFIX}", "name the text's file: --out FILE")
        out = Path("-" if args.file == "-" else args.file.removesuffix(SUFFIX))
    args.binary = False
    check_out(args, out)
    size = size_of(args.file)
    if args.range is not None and size is None:
        raise UsageError("--range needs a file, and this is a pipe", "write it to a file first")
    began = time.monotonic()
    with reading(args.file) as source:
        reader = Reader(source)
        path = resolve(args.model) if args.model else find_program(reader.header)
        program = open_program(path)
        with opened_coder(args, program, path) as coder, writing(out) as sink:
            if args.range is not None:
                totals = read_range(reader, sink, coder, *args.range)
            else:
                with Progress(size, f"decompress by {program.name}", "bytes") as bar:
                    totals = decompress(reader, sink, coder, tell=bar.update)
            found = report(coder, program)
    seconds = time.monotonic() - began
    found |= {
        "out": str(out),
        "text_bytes": totals.text,
        "archive_bytes": totals.stored if args.range is None else size,
        "blocks": totals.blocks,
        "seconds": round(seconds, 3),
        "kb_per_second": round(speed(totals.text, seconds), 1),
    }
    if str(out) != "-":
        say(f"{out}: {totals.text:,} bytes, {found['kb_per_second']:,.0f} KB/s")
        say(found["origin"])
    return Outcome(found)


VERB = Verb(
    help="Decompress an archive of ternac compress, or a range of its text.",
    example="ternac decompress notes.txt.tnc --out notes.txt",
    add_arguments=_arguments,
    run=_run,
)
