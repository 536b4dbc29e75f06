"""``ternac compress``: a file or a pipe, by a model's predictions."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ternac.cli.arguments import add_out, number
from ternac.cli.streams import (
    add_coder,
    check_out,
    opened_coder,
    pieces,
    reading,
    report,
    size_of,
    speed,
    writing,
)
from ternac.cli.verb import Outcome, Say, Verb

SUFFIX = ".tnc"
MODEL = "prose"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what is compressed, - for standard input")
    add_coder(parser, MODEL)
    add_out(parser, f"the archive, - for standard output (default: FILE{SUFFIX}, of - standard output)")
    number(
        parser,
        "--block",
        "KiB of text in a block: what is read for one byte of --range",
        default=128,
        least=1,
        most=16384,
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.compress import compress
    from ternac.program.zoo import open_program, resolve
    from ternac.progress import Progress
    from ternac.run.coding import UNIT

    out = args.out or Path("-" if args.file == "-" else args.file + SUFFIX)
    args.binary = True
    check_out(args, out)
    path = resolve(args.model or MODEL)
    program = open_program(path)
    began = time.monotonic()
    with reading(args.file) as source, opened_coder(args, program, path) as coder:
        size = size_of(args.file)
        with writing(out) as sink, Progress(size, f"compress by {program.name}", "bytes") as bar:
            totals = compress(pieces(source), sink, coder, block=args.block << 10, tell=bar.update)
        found = report(coder, program)
    seconds = time.monotonic() - began
    text = max(totals.text, 1)
    found |= {
        "out": str(out),
        "text_bytes": totals.text,
        "archive_bytes": totals.stored,
        "bits_per_byte": 8 * totals.stored / text,
        "model_bits_per_byte": totals.cost / UNIT / text,
        "blocks": totals.blocks,
        "tokens": totals.tokens,
        "bytes_not_in_tokens": totals.rest,
        "seconds": round(seconds, 3),
        "kb_per_second": round(speed(totals.text, seconds), 1),
    }
    if str(out) != "-":
        say(
            f"{out}: {totals.text:,} bytes in {totals.stored:,}, {found['bits_per_byte']:.4f} bits per byte "
            f"({found['model_bits_per_byte']:.4f} by {program.name}), {found['kb_per_second']:,.0f} KB/s"
        )
        if totals.rest:
            say(f"{totals.rest:,} bytes are no text for the model's tokenizer and were compressed without it")
        say(found["origin"])
    return Outcome(found)


VERB = Verb(
    help="Compress a file or a pipe by a model's predictions; any machine reads it.",
    example="ternac compress notes.txt --model prose",
    add_arguments=_arguments,
    run=_run,
)
