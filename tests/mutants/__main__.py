"""Mutate modules and see which mutants their tests kill: ``python -m tests.mutants`` (``make mutants``).

Each mutant runs the tests of its module (`modules.py`) in a process of its own, which ends at the first
failure (`runner.py`). No file is touched, so that several can run side by side. What was found is kept in
``build/mutants``, and a second run does only what is new: a killed mutant is run again after a change of its
module, a survivor also after one of its tests. The sample of a seed is always the same.

A mutant that means the same as the original is no fault: `equivalent.json` lists those, each with its reason.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import amaranth.sim  # noqa: F401  (before the forks: what many tests need, and nothing of ternac)
import numpy  # noqa: F401

from tests.mutants import runner
from tests.mutants.modules import MODULES, Module
from tests.mutants.mutate import Mutant, digest, mutants
from tests.mutants.runner import ROOT

OUT = ROOT / "build" / "mutants"
EQUIVALENT = Path(__file__).with_name("equivalent.json")
SEED = 17


def equivalent() -> dict[str, dict[str, str]]:
    """Return the reason of each mutant that is no fault, by module and key."""
    found: dict[str, dict[str, str]] = json.loads(EQUIVALENT.read_text())
    return found


def sample(module: Module, share: float, seed: int = SEED) -> list[Mutant]:
    """Return the mutants of a module that a run takes: the same for the same source and seed."""
    every = mutants((ROOT / module.file).read_text())
    count = min(len(every), round(module.count * share))
    return sorted(random.Random(f"{seed} {module.name}").sample(every, count), key=lambda m: (m.line, m.key))


class Results:
    """What is known of the mutants of a module, in a file that each result is added to."""

    def __init__(self, module: Module, out: Path = OUT) -> None:
        self.path = out / f"{module.name}.jsonl"
        source = (ROOT / module.file).read_bytes()
        self.source = digest(source)
        self.tests = digest(source, *((ROOT / test).read_bytes() for test in module.tests))
        self.known: dict[str, str] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                one = json.loads(line)
                survived = one["result"] == "survived"
                if one["source"] == self.source and (not survived or one["tests"] == self.tests):
                    self.known[one["key"]] = one["result"]
                elif survived:
                    self.known.pop(one["key"], None)

    def add(self, key: str, result: str) -> None:
        """Keep a result."""
        self.known[key] = result
        row = {"key": key, "result": result, "source": self.source, "tests": self.tests}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def check(
    module: Module, chosen: Sequence[Mutant], out: Path = OUT, part: tuple[int, int] = (0, 1)
) -> Results:
    """Run what is not known yet of the chosen mutants, of ``part`` (k, n) each n-th from the k-th."""
    results = Results(module, out)
    same = equivalent().get(module.name, {})
    todo = [one for one in chosen if one.key not in results.known and one.key not in same][part[0] :: part[1]]
    if not todo:
        return results
    out.mkdir(parents=True, exist_ok=True)
    done = 0

    def found(one: Mutant, result: str) -> None:
        nonlocal done
        done += 1
        results.add(one.key, result)
        say(f"{module.name} {done}/{len(todo)} line {one.line} {result}: {one.change}")

    runner.run(module, todo, found, out / f"{module.name}.{part[0]}.log")
    return results


def write_results(rows: list[dict[str, object]], path: Path) -> None:
    """Put the counts of modules into the file of all, in the order of `MODULES`."""
    from ternac.files import (
        write_text,
    )  # here: the forks that import a mutant import all of ternac themselves

    known = {row["module"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    known |= {row["module"]: row for row in rows}
    write_text(path, json.dumps([known[m.name] for m in MODULES if m.name in known], indent=1) + "\n")


def main() -> int:
    """Check modules one after the other; returns 1 if one survived that is not known to be equivalent."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--module", action="append", choices=[m.name for m in MODULES], help="only these")
    parser.add_argument("--share", type=float, default=1.0, help="times as many mutants (default: 1)")
    parser.add_argument(
        "--part", default="1/1", metavar="K/N", help="of N that run side by side, this is the K-th"
    )
    text = "put the counts into a file, in place of those of the same modules"
    parser.add_argument("--json", type=Path, metavar="FILE", help=text)
    args = parser.parse_args()
    k, n = (int(word) for word in args.part.split("/"))
    same, rows, survivors = equivalent(), [], []
    for module in (m for m in MODULES if not args.module or m.name in args.module):
        chosen = sample(module, args.share)
        results = check(module, chosen, part=(k - 1, n))
        equal = [one for one in chosen if one.key in same.get(module.name, {})]
        found = {
            one.key: results.known[one.key] for one in chosen if one.key in results.known and one not in equal
        }
        alive = [one for one in chosen if found.get(one.key) == "survived"]
        survivors += [(module, one) for one in alive]
        rows.append(
            {
                "module": module.name, "mutants": len(chosen), "killed": len(found) - len(alive),
                "equivalent": len(equal), "survived": len(alive),
            }
        )  # fmt: skip
    for module, one in survivors:
        say(f"{module.file}:{one.line}: survived: {one.key}")
    say(f"{'module':32} mutants  killed  equivalent  survived")
    total = {
        name: sum(int(row[name]) for row in rows) for name in ("mutants", "killed", "equivalent", "survived")
    }
    for row in [*rows, {"module": "all", **total}]:
        say("{module:32} {mutants:7} {killed:7} {equivalent:11} {survived:9}".format(**row))
    if args.json:
        write_results(rows, args.json)
    done = total["killed"] + total["survived"]
    if done:
        say(f"{100 * total['killed'] / done:.1f}% of those that differ are killed")
    return int(total["survived"] > 0)


if __name__ == "__main__":
    sys.exit(main())
