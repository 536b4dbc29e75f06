"""Flip bits of a simulated board, or reset it, and see what its host makes of it (`python -m tests.upsets`).

Each trial is one fault at a random cycle of two conversations; outcomes go to ``build/upsets``, where a later
run continues. The trial with number n of a seed is always the same.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.mutants.runner import ROOT
from tests.results import merge
from tests.upsets.campaign import GEOMETRY, Board, trial, virtual_time
from tests.upsets.design import board_with_faults
from tests.upsets.model_board import ModelBoard, model_trial

OUT = ROOT / "build" / "upsets"
SEED = 17
COLUMNS = ("no effect", "repaired", "refused", "wrong")
BOARDS = {"rtl": "RTL", "python": "Python"}


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(rows: list[dict[str, object]]) -> list[str]:
    """Return the table of outcomes by class of fault."""
    kinds = sorted({str(row["kind"]) for row in rows})
    count = Counter((str(row["kind"]), str(row["outcome"])) for row in rows)
    after = Counter((str(row["kind"]), str(row.get("after"))) for row in rows)
    names = ("fault in", "trials", *COLUMNS[:3], "wrong tokens", "then right: next host", "configured again")
    lines = [f"| {' | '.join(names)} |", "|---|" + "---|" * (len(names) - 1)]
    for kind in [*kinds, "all"]:
        chosen = kinds if kind == "all" else [kind]
        cells = [sum(count[k, column] for k in chosen) for column in COLUMNS]
        healed = [sum(after[k, what] for k in chosen) for what in ("next host", "configured again")]
        lines.append(f"| {kind} | {sum(cells)} | {' | '.join(map(str, [*cells, *healed]))} |")
    return lines


def counts(board: str, seed: int, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return the counts of a board and seed by class of fault."""
    found: list[dict[str, object]] = []
    for kind in sorted({str(row["kind"]) for row in rows}):
        some = [row for row in rows if row["kind"] == kind]
        count = Counter(str(row["outcome"]) for row in some) + Counter(str(row.get("after")) for row in some)
        names = (*COLUMNS, "next host", "configured again", "never")
        found.append(
            {"board": BOARDS[board], "seed": seed, "kind": kind, "trials": len(some)}
            | {name: count[name] for name in names}
        )
    return found


def main() -> int:
    """Run trials; returns 1 if a board was not right after a reset, or something was not told."""
    parser = argparse.ArgumentParser(prog="python -m tests.upsets", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="in all, those of earlier runs included")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--board", choices=tuple(BOARDS), default="rtl", help="python: its memories only")
    text = "put the counts into a file, in place of those of the same board and seed; pages sum the seeds"
    parser.add_argument("--json", type=Path, metavar="FILE", help=text)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{args.board}-{args.seed}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        board: Board | ModelBoard | None = None
        for number in range(len(rows), args.trials):
            if board is None:
                board = ModelBoard() if args.board == "python" else _start(Path(folder))
            rng = random.Random(f"{args.seed} {number}")
            with virtual_time(board.clock):
                rows.append(model_trial(board, rng) if isinstance(board, ModelBoard) else trial(board, rng))
            with file.open("a") as out:
                out.write(json.dumps(rows[-1]) + "\n")
        if board is not None:
            board.close()
    for line in table(rows):
        say(line)
    if args.json:
        merge(args.json, counts(args.board, args.seed, rows), ("board", "seed", "kind"))
    stuck = sum(bool(row.get("stuck")) for row in rows)
    say(
        f"{len(rows)} trials; the board made no progress, so that the host's time-out ended the wait: {stuck}"
    )
    return int(any(row.get("after") == "never" for row in rows))


def _start(folder: Path) -> Board:
    clock_board = Board(board_with_faults(GEOMETRY), folder)
    say(f"{len(clock_board.items)} registers and memories, {clock_board.cycles} cycles a trial")
    return clock_board


if __name__ == "__main__":
    sys.exit(main())
