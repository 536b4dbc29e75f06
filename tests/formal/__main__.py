"""Prove every block with every solver, and plant every bug: ``python -m tests.formal`` (``make prove``).

A proof is shown from reset and by induction, its covers are reached, and for each claim a planted bug must
make that claim fail. Files and traces (VCD) stay in ``build/formal/NAME``. ``--write`` puts method, depth and
seconds into the table of docs/formal.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ternac.errors import ToolMissing
from tests.formal.proofs import PROOFS
from tests.formal.prove import SOLVERS, check_fault, failures, find_solver, prove
from tests.formal.table import read_seconds, write_table

OUT = Path(__file__).resolve().parents[2] / "build" / "formal"
JOBS = 2


def work(name: str, solver: str, claim: str) -> tuple[list[str], float]:
    """Do one piece: a proof, or with ``claim`` its planted bug; returns what is wrong, and CPU seconds."""
    proof = PROOFS[name]
    if not claim:
        result = prove(proof, solver, OUT / name / solver)
        return [*result.failed, *(f"{cover} (not reached)" for cover in result.missed)], result.seconds
    found = failures(check_fault(proof, claim, solver, OUT / name / "planted" / claim))
    return ([] if found == [claim] else [f"the bug planted for {claim} is not found"]), 0.0


def pieces(names: list[str], solvers: list[str]) -> Iterator[tuple[str, str, str]]:
    """List what is to be done: proofs by each solver first, then planted bugs by the first one."""
    for name in names:
        yield from ((name, solver, "") for solver in PROOFS[name].solvers if solver in solvers)
    for name in names:
        first = next((solver for solver in PROOFS[name].solvers if solver in solvers), None)
        if first:
            yield from ((name, first, claim) for claim in PROOFS[name].faults)


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Prove; returns 1 if a proof failed or a planted bug was not found, 2 if a solver is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.formal", description=__doc__)
    parser.add_argument("--proof", action="append", choices=[*PROOFS], help="only these (default: all)")
    parser.add_argument("--solver", action="append", choices=[*SOLVERS], help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"processes (default: {JOBS})")
    parser.add_argument("--no-planted", action="store_true", help="leave the planted bugs out")
    parser.add_argument("--write", action="store_true", help="put the results into docs/formal.md")
    args = parser.parse_args()
    names, solvers = args.proof or [*PROOFS], args.solver or [*SOLVERS]
    try:
        for solver in solvers:
            find_solver(solver)
    except ToolMissing as error:
        say(f"{error}: {error.hint}")
        return 2
    began, wrong = time.monotonic(), 0
    todo, seconds = list(pieces(names, solvers)), read_seconds()
    if args.no_planted:
        todo = [piece for piece in todo if not piece[2]]
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(max(1, args.jobs), mp_context=fork) as pool:
        results = zip(todo, pool.map(work, *zip(*todo, strict=True)), strict=True)
        for (name, solver, claim), (failed, took) in results:
            wrong += bool(failed)
            if not claim:
                say(f"{name} {solver}: {', '.join(failed) or 'proven'}, {took:.1f} s of CPU")
                seconds[name, solver] = took
            elif failed:
                say(f"{name}: {failed[0]}")
    bugs = sum(bool(claim) for _, _, claim in todo)
    say(f"{len(todo) - bugs} proofs, {bugs} planted bugs, {wrong} wrong, {time.monotonic() - began:.0f} s")
    if args.write and not wrong:
        write_table(seconds)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
