"""Fuzz every reader for some minutes: ``python -m tests.fuzz --seconds 600`` (``make fuzz``).

Each target runs in a process of its own: first its seeds and the inputs in ``corpus/NAME``, then mutations of
them. An exception that is not of `ternac.errors`, a crash, or more than `SECONDS` is a finding: the input is
written to ``build/fuzz/NAME-DIGEST`` and named, with how to run it alone; it goes into the corpus with its
fix. The seed is printed; the same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import sys
import time
import traceback
from pathlib import Path

from ternac import limits
from ternac.errors import TernacError
from ternac.limits import Budget
from tests.fuzz.targets import SECONDS, TARGETS, Target

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
OUT = HERE.parents[1] / "build" / "fuzz"
MOST_INPUTS = 400
"""Inputs that mutations start from: the seeds, the corpus, and some that came far (are accepted)."""


def corpus(name: str) -> list[bytes]:
    """Return the committed inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def attempt(target: Target, data: bytes) -> str:
    """Run one input; returns "" , "refused", or a finding as a traceback."""
    try:
        target.run(data)
    except TernacError:
        return "refused"
    except Exception:
        return traceback.format_exc(limit=-6)
    return ""


def _work(name: str, seconds: float, seed: int, current: Path, result: Path) -> None:
    limits.PARSER_SECONDS = Budget("seconds in a library", 5)
    target, rng = TARGETS[name], random.Random(f"{seed} {name}")
    inputs = [*target.seeds(), *corpus(name)]
    kept, runs, refused = list(inputs), 0, 0
    until = time.monotonic() + seconds
    todo = list(inputs)
    while todo or time.monotonic() < until:
        data = todo.pop() if todo else target.mutate(rng, rng.choice(kept), inputs)
        current.write_bytes(data)
        found = attempt(target, data)
        runs += 1
        if found == "refused":
            refused += 1
        elif found:
            result.write_text(found)
            sys.exit(1)
        elif len(kept) < MOST_INPUTS and len(data) < 20_000:
            kept.append(data)
    result.write_text(f"{runs} inputs, {refused} refused")


def fuzz(name: str, seconds: float, seed: int, patience: float = SECONDS) -> tuple[str, Path | None]:
    """Fuzz a target; returns what was done and None, or a finding and the file that shows it."""
    OUT.mkdir(parents=True, exist_ok=True)
    current, result = OUT / f"{name}.current", OUT / f"{name}.result"
    for path in (current, result):
        path.unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(name, seconds, seed, current, result)
    )
    process.start()
    finding = ""
    while process.is_alive():
        process.join(0.2)
        if current.exists() and process.is_alive():
            age = time.time() - current.stat().st_mtime
            if age > patience:
                process.kill()
                process.join()
                finding = f"it ran for more than {patience:g} s"
    said = result.read_text() if result.exists() else ""
    if not finding and process.exitcode == 0:
        return said, None
    finding = finding or said or f"its process ended with status {process.exitcode}"
    data = current.read_bytes() if current.exists() else b""
    file = OUT / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    file.write_bytes(data)
    return finding, file


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Fuzz targets one after the other; returns 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", choices=[*TARGETS], help="only these (default: all)")
    parser.add_argument("--seconds", type=float, default=600, help="of all targets together (default: 600)")
    parser.add_argument("--seed", type=int, default=None, help="of the mutations (default: a new one)")
    parser.add_argument(
        "--run", type=Path, metavar="FILE", help="run one input of --target, and say what it does"
    )
    args = parser.parse_args()
    names = args.target or [*TARGETS]
    if args.run:
        found = attempt(TARGETS[names[0]], args.run.read_bytes())
        say(found or "accepted")
        return int(found not in ("", "refused"))
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    say(f"seed {seed}")
    failed = 0
    for name in names:
        said, file = fuzz(name, args.seconds / len(names), seed)
        failed += file is not None
        say(f"{name}: {said}")
        if file is not None:
            say(f"  input {file}; alone: python -m tests.fuzz --target {name} --run {file}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
