"""Named, resumable build steps: each has a time, a log and artefacts that appear only when it succeeded."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ternac.files import scratch_beside, write_json
from ternac.hdl.build.toolchain import run_tool


@dataclass(frozen=True)
class Step:
    """``work(run, scratch)`` makes the files ``artefacts`` in the directory ``scratch``, which lies one
    level below the build directory: inputs are ``../name``. ``run(tool, *args)`` runs a tool there.
    """

    name: str
    artefacts: tuple[str, ...]
    work: Callable[[Callable[..., None], Path], None]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_done(directory: Path, step: Step) -> bool:
    """Return whether ``step`` succeeded here before and its artefacts are still what it wrote."""
    receipt = directory / f"{step.name}.done.json"
    try:
        artefacts = json.loads(receipt.read_text())["artefacts"]
        return set(artefacts) == set(step.artefacts) and all(
            sha256_of(directory / name) == digest for name, digest in artefacts.items()
        )
    except (OSError, ValueError, TypeError, LookupError):
        return False


def seconds_of(directory: Path, step: Step) -> float:
    """Return the seconds that a finished step took."""
    return float(json.loads((directory / f"{step.name}.done.json").read_text())["seconds"])


def run_step(directory: Path, step: Step, say: Callable[[str], None]) -> bool:
    """Run ``step`` unless it is done; return whether it ran.

    Raises BuildFailed, which names the log, if a tool fails.
    """
    if is_done(directory, step):
        return False
    receipt = directory / f"{step.name}.done.json"
    receipt.unlink(missing_ok=True)
    log = directory / f"{step.name}.log"
    log.unlink(missing_ok=True)
    scratch = scratch_beside(directory.resolve() / step.name)
    scratch.mkdir()
    started = time.monotonic()
    try:

        def run(tool: str, *args: str) -> None:
            run_tool(tool, list(args), cwd=scratch, log=log, step=step.name)

        say(f"{step.name}: running, log in {log}")
        step.work(run, scratch)
        for name in step.artefacts:
            (scratch / name).replace(directory / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    seconds = round(time.monotonic() - started, 1)
    record = {
        "step": step.name,
        "seconds": seconds,
        "artefacts": {name: sha256_of(directory / name) for name in step.artefacts},
    }
    write_json(receipt, record, indent=1)
    say(f"{step.name}: {seconds} s")
    return True
