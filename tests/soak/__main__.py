"""Let hosts and boards talk over bad lines for a long time (`python -m tests.soak`).

Rounds go to ``build/soak``, where a later run of the same board and seed continues, after the rounds that
found something. The round with number n of a seed is always the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from ternac.files import write_text
from tests.host.adversary import Clock
from tests.mutants.runner import ROOT
from tests.results import merge
from tests.soak.boards import PythonBoard, RtlBoard, SoakBoard
from tests.soak.campaign import round_of

OUT = ROOT / "build" / "soak"
NAMES = {"python": "Python", "rtl": "RTL"}
WARM, LATE = 0.1, 0.9
"""Shares of the rounds of a process after which its memory is looked at."""


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def summary(board: str, seed: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums of all rounds of a board and seed."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({key: value for key, value in row.items() if isinstance(value, int) and key not in
                       ("round", "process")})  # fmt: skip
    first, last = memory(rows)
    minutes = sum(row["seconds"] for row in rows) / 60
    return {
        "board": NAMES[board], "seed": seed, "rounds": len(rows), "minutes": round(minutes, 1),
        **dict(sorted(counts.items())), "wrong": counts["wrong"], "untyped": counts["untyped"],
        "hangs": counts["hangs"], "mb at first": first, "mb at last": last,
    }  # fmt: skip


def memory(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the memory of the process with most rounds, after its first tenth and in its last, in MB."""
    process = Counter(row["process"] for row in rows).most_common(1)[0][0]
    held = [row["mb"] for row in rows if row["process"] == process]
    warm, late = int(WARM * len(held)), int(LATE * len(held))
    return statistics.median(held[warm : 2 * warm + 1]), statistics.median(held[late:])


def run(
    board: SoakBoard, name: str, seed: int, seconds: float, most: int, folder: Path
) -> list[dict[str, Any]]:
    """Run rounds until the time is over, or there are ``most``, first those again that found something;
    returns those of earlier runs, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{seed}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    clock, until = Clock(), time.monotonic() + seconds
    again = [row["round"] for row in rows if failed(row)]
    for number in again:
        rows[number] = {**round_of(board, seed, number, clock), "process": os.getpid()}
    if again:
        write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
    while time.monotonic() < until and len(rows) < most:
        rows.append({**round_of(board, seed, len(rows), clock), "process": os.getpid()})
        with file.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
    return rows


def failed(row: dict[str, Any]) -> bool:
    """Return whether a round found something."""
    return bool(row["wrong"] or row.get("untyped") or row.get("hangs"))


def main(arguments: list[str] | None = None) -> int:
    """Run rounds; returns 1 if a token or state was wrong, an error was not typed, or something hung."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="of this run (default: an hour)")
    parser.add_argument("--rounds", type=int, default=1 << 30, help="in all, those of earlier runs included")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--board", choices=tuple(NAMES), default="python")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="where the rounds are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="put the sums into a file, beside others")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        board = PythonBoard() if args.board == "python" else RtlBoard(Path(folder))
        try:
            rows = run(board, args.board, args.seed, args.seconds, args.rounds, args.out)
        finally:
            board.close()
    if not rows:
        say("no round was run")
        return 1
    found = summary(args.board, args.seed, rows)
    say(json.dumps(found))
    for row in rows:
        if failed(row):
            say(f"round {row['round']}: {row.get('what') or row.get('traceback') or 'a hang'}")
    if args.json:
        merge(args.json, [found], ("board", "seed"))
    return int(bool(found["wrong"] or found["untyped"] or found["hangs"]))


if __name__ == "__main__":
    sys.exit(main())
