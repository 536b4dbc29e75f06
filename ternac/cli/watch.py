"""``ternac watch``: the lines of a log as it grows, and those that a model did not expect."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import number
from ternac.cli.score import MODEL, add_threshold, entry, threshold_of
from ternac.cli.streams import add_coder, opened_coder, pieces, reading, report
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.run.surprise import Surprise

TAIL = 1 << 16
"""Bytes at the end of a log that the model reads before it counts."""
EVERY_SECONDS = 1.0
"""How old metrics may be."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a log that grows and may be rotated, - for standard input"
    )
    add_coder(parser, MODEL)
    add_threshold(parser)
    parser.add_argument(
        "--all", action="store_true", help="print every line, not only those above --threshold"
    )
    parser.add_argument(
        "--from-start", action="store_true", help="begin with the first line (default: with the next one)"
    )
    parser.add_argument(
        "--metrics", metavar="PLACE", help="for Prometheus: a FILE.prom, or an address HOST:PORT to serve on"
    )
    number(
        parser,
        "--poll",
        "seconds between looks at the log",
        default=0.5,
        least=0.01,
        most=3600,
        kind=float,
        metavar="S",
    )
    number(parser, "--idle", "end after S seconds without a new line", least=0.01, kind=float, metavar="S")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.surprise_metrics import Counts, Page, metrics_place
    from ternac.program.zoo import open_program, resolve
    from ternac.run.coding import UNIT
    from ternac.run.surprise import Surprise

    if args.file == "-" and {"--from-start", "--poll", "--idle"} & args.given:
        raise UsageError("--from-start, --poll and --idle are for files, and - is a pipe", "leave them out")
    place = None if args.metrics is None else metrics_place(args.metrics)
    path = resolve(args.model or MODEL)
    program = open_program(path)
    threshold = threshold_of(args, program)
    counts = Counts(program.name)
    with opened_coder(args, program, path) as coder:
        surprise, page = Surprise(coder), None if place is None else Page(place, counts)
        try:
            if page is not None and page.port is not None:
                say(f"http://{place[0]}:{page.port}/metrics" if isinstance(place, tuple) else "")
            shown = time.monotonic()
            for text in _lines(args, surprise, counts, page, say):
                line = surprise.read(text)
                anomaly = threshold is not None and threshold.exceeded(line)
                counts.add(line, anomaly)
                if anomaly or args.all or threshold is None:
                    say(json.dumps(entry(counts.lines, text, line, anomaly)))
                if page is not None and time.monotonic() - shown > EVERY_SECONDS:
                    page.update()
                    shown = time.monotonic()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{counts.lines} lines, {counts.anomalies} above the threshold") from None
        finally:
            if page is not None:
                page.close()
        found: dict[str, Any] = report(coder, program) | asdict(counts)
    found["bits"] = counts.cost / UNIT
    del found["last"]
    return Outcome(found)


def _lines(args: argparse.Namespace, surprise: Surprise, counts: Any, page: Any, say: Say) -> Iterator[bytes]:
    """The lines of the pipe, or of the log from where the options say."""
    from ternac.host.follow import follow, lines_of

    if args.file == "-":
        with reading("-") as source:
            yield from lines_of(pieces(source))
        return
    path = Path(args.file)
    at = 0 if args.from_start else _read_tail(path, surprise)
    last = time.monotonic()

    def idle() -> None:
        if page is not None:
            page.update()

    def rotated(how: str) -> None:
        counts.rotations += 1
        say(json.dumps({"log": str(path), "was": how}))

    def stop() -> bool:
        return args.idle is not None and time.monotonic() - last > args.idle

    for line in follow(path, at, poll=args.poll, stop=stop, idle=idle, rotated=rotated):
        yield line
        last = time.monotonic()


def _read_tail(path: Path, surprise: Surprise) -> int:
    """Let the model read the last whole lines of a log; returns where the next one begins."""
    from ternac.host.follow import lines_of

    with path.open("rb") as source:
        size = source.seek(0, 2)
        source.seek(max(0, size - TAIL))
        data = source.read()
    first = data.find(b"\n") + 1 if size > TAIL else 0
    end = data.rfind(b"\n") + 1
    if first < end:
        for line in lines_of(iter([data[first:end]])):
            surprise.read(line)
    return size - len(data) + end if end else size if size > TAIL else 0


VERB = Verb(
    help="Watch a log or a pipe for lines that a model did not expect, as JSON lines.",
    example="ternac watch access.log --model prose --threshold 200 --metrics watch.prom",
    add_arguments=_arguments,
    run=_run,
)
