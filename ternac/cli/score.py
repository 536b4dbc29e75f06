"""``ternac score``: bits of surprise of each line of a file or a pipe, and a threshold for them."""

from __future__ import annotations

import argparse
import heapq
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_picture, make_folder, number, path_of
from ternac.cli.streams import add_coder, opened_coder, pieces, reading, report, size_of, speed, writing
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.program.program import Program
    from ternac.run.surprise import Line, Threshold

MODEL = "prose"
WORST = 5
"""Lines that are shown."""
SHOWN = 160
"""Bytes of a line that are shown."""


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Add ``--threshold`` and ``--measure``, which `threshold_of` reads."""
    from ternac.run.surprise import MEASURES

    parser.add_argument(
        "--threshold", metavar="BITS", help="report lines above so many bits; or a FILE of --calibrate"
    )
    words = "; ".join(f"{name}: {words}" for name, words in MEASURES.items())
    parser.add_argument("--measure", choices=MEASURES, default="bits", help=f"bits {words} (default: bits)")


def threshold_of(args: argparse.Namespace, program: Program) -> Threshold | None:
    """Return what ``--threshold`` says. Raises UsageError if it is neither a number nor such a file."""
    from ternac.run.coding import UNIT
    from ternac.run.surprise import Threshold

    if args.threshold is None:
        return None
    try:
        bits = float(args.threshold)
    except ValueError:
        found = Threshold.load(args.threshold, program.hash)
        if "--measure" in args.given and args.measure != found.measure:
            raise UsageError(
                f"{args.threshold} is for --measure {found.measure}, not {args.measure}",
                "leave --measure out",
            ) from None
        return found
    if not 0 <= bits < 1e9:
        raise UsageError(f"--threshold is {args.threshold}, needs 0 to 1e9 bits", "see: ternac score --help")
    return Threshold(args.measure, int(bits * UNIT))


def entry(number_: int, text: bytes, line: Line, anomaly: bool) -> dict[str, Any]:
    """Return the JSON object of a line."""
    from ternac.run.coding import UNIT

    return {
        "line": number_,
        "bytes": line.bytes,
        "tokens": line.tokens,
        "bits": line.cost / UNIT,
        "rate": line.measure("rate") / UNIT,
        "peak": line.peak / UNIT,
        "readable": line.readable,
        "anomaly": anomaly,
        "text": text[:SHOWN].decode(errors="replace").rstrip("\n"),
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a text or log, - for standard input")
    add_coder(parser, MODEL)
    add_threshold(parser)
    parser.add_argument(
        "--calibrate",
        type=path_of,
        metavar="FILE",
        help="write the threshold that --quantile of the lines keep",
    )
    number(
        parser,
        "--quantile",
        "part of the lines that --calibrate keeps below (default: 0.999)",
        least=1e-6,
        most=1,
        kind=float,
        metavar="Q",
    )
    parser.add_argument(
        "--lines", type=path_of, metavar="FILE", help="write a JSON object a line, - for standard output"
    )
    add_picture(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.program.zoo import open_program, resolve
    from ternac.progress import Progress

    if args.quantile is not None and args.calibrate is None:
        raise UsageError("--quantile has no effect without --calibrate", "name the file: --calibrate FILE")
    if args.calibrate is not None and args.threshold is not None:
        raise UsageError("--calibrate makes a threshold, and --threshold is one", "leave one of them out")
    if str(args.lines) == "-":
        if args.json:
            raise UsageError("--json and --lines - both want standard output", "name a file: --lines FILE")
        say = Say(json=True)
    make_folder(args.out)
    path = resolve(args.model or MODEL)
    program = open_program(path)
    threshold = threshold_of(args, program)
    scan = _Scan(args.measure if threshold is None else threshold.measure, threshold)
    keep = args.calibrate is not None or args.out is not None
    began = time.monotonic()
    with reading(args.file) as source, opened_coder(args, program, path) as coder:
        with Progress(size_of(args.file), f"score by {program.name}", "bytes") as bar:
            if args.lines is None:
                scan.run(pieces(source), coder, lambda one: None, bar, keep)
            else:
                with writing(args.lines) as sink:
                    scan.run(
                        pieces(source),
                        coder,
                        lambda one: sink.write(json.dumps(one).encode() + b"\n"),
                        bar,
                        keep,
                    )
        found = report(coder, program)
    seconds = time.monotonic() - began
    found |= scan.data | {"seconds": round(seconds, 3), "kb_per_second": round(speed(scan.bytes, seconds), 1)}
    if args.calibrate is not None:
        found["threshold"] = _calibrate(args, scan, program)
    if args.out is not None:
        _draw(args.out, scan, program.name, args.file)
    _show(found, args, say)
    return Outcome(found)


class _Scan:
    """Sums over the lines of a text."""

    def __init__(self, measure: str, threshold: Threshold | None) -> None:
        self.measure, self.threshold = measure, threshold
        self.lines = self.bytes = self.tokens = self.cost = self.anomalies = self.unreadable = 0
        self.values: list[int] = []
        self._worst: list[tuple[int, int, dict[str, Any]]] = []

    def run(
        self, source: Any, coder: Any, put: Callable[[dict[str, Any]], Any], bar: Any, keep: bool
    ) -> None:
        """Read a stream; ``keep`` the measure of every line."""
        from ternac.host.follow import lines_of
        from ternac.run.surprise import Surprise

        surprise = Surprise(coder)
        for text in lines_of(source):
            line = surprise.read(text)
            value = line.measure(self.measure)
            anomaly = self.threshold is not None and self.threshold.exceeded(line)
            self.lines += 1
            self.bytes += line.bytes
            self.tokens += line.tokens
            self.cost += line.cost
            self.anomalies += anomaly
            self.unreadable += not line.readable
            if keep:
                self.values.append(value)
            one = entry(self.lines, text, line, anomaly)
            put(one)
            add = heapq.heappush if len(self._worst) < WORST else heapq.heappushpop
            add(self._worst, (value, -self.lines, one))
            bar.update(self.bytes)

    @property
    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        from ternac.run.coding import UNIT

        bits = self.cost / UNIT
        return {
            "lines": self.lines,
            "text_bytes": self.bytes,
            "tokens": self.tokens,
            "cost": self.cost,
            "bits": bits,
            "bits_per_byte": bits / self.bytes if self.bytes else None,
            "bits_per_token": bits / self.tokens if self.tokens else None,
            "bits_per_line": bits / self.lines if self.lines else None,
            "unreadable_lines": self.unreadable,
            "measure": self.measure,
            "threshold": None if self.threshold is None else self.threshold.cost / UNIT,
            "anomalies": None if self.threshold is None else self.anomalies,
            "worst": [one for _, _, one in sorted(self._worst, key=lambda worst: (-worst[0], -worst[1]))],
        }


def _calibrate(args: argparse.Namespace, scan: _Scan, program: Program) -> float:
    """Write the threshold; returns it in bits."""
    from ternac.run.coding import UNIT
    from ternac.run.surprise import Threshold, quantile

    part = 0.999 if args.quantile is None else float(args.quantile)
    cost = quantile(scan.values, part)
    Threshold(scan.measure, cost, program.hash, part, scan.lines).save(args.calibrate)
    return cost / UNIT


def _draw(out: Path, scan: _Scan, model: str, name: str) -> None:
    """Draw the measure of every line, and the threshold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from ternac.files import write_figure
    from ternac.run.coding import UNIT
    from ternac.run.surprise import MEASURES

    figure = Figure(figsize=(9, 3.6))
    axes = figure.add_subplot()
    values = [value / UNIT for value in scan.values]
    axes.plot(range(1, len(values) + 1), values, ".", markersize=3, color="#2563b8")
    if scan.threshold is not None:
        limit = scan.threshold.cost / UNIT
        above = [(at, value) for at, value in enumerate(values, 1) if value > limit]
        axes.plot(*zip(*above, strict=True), ".", markersize=6, color="#b8590f") if above else None
        axes.axhline(limit, color="#b8590f", linewidth=1)
    axes.set(
        xlabel="line",
        ylabel=f"bits {MEASURES[scan.measure]}",
        title=f"surprise of {Path(name).name} by {model}",
    )
    axes.set_ylim(bottom=0)
    figure.tight_layout()
    write_figure(out, figure)


def _show(found: dict[str, Any], args: argparse.Namespace, say: Say) -> None:
    if not found["lines"]:
        say(f"{args.file}: no lines")
        return
    say(
        f"{args.file}: {found['lines']:,} lines, {found['bits_per_byte']:.4f} bits per byte, "
        f"{found['bits_per_line']:.1f} per line by {found['model']}, {found['kb_per_second']:,.0f} KB/s"
    )
    if found["unreadable_lines"]:
        say(f"{found['unreadable_lines']:,} lines have bytes in no token of the model, 8 bits each")
    if found["anomalies"] is not None:
        say(f"{found['anomalies']:,} lines above {found['threshold']:.2f} bits ({found['measure']})")
    if args.calibrate is not None:
        say(f"{args.calibrate}: {found['threshold']:.2f} bits ({found['measure']})")
    for one in found["worst"]:
        say(f"  {one[found['measure']]:8.1f}  line {one['line']}: {one['text'][:90]}")
    say(found["origin"])


VERB = Verb(
    help="Score each line of a text or log by a model's surprise, in bits.",
    example="ternac score access.log --model prose --threshold 200",
    add_arguments=_arguments,
    run=_run,
)
