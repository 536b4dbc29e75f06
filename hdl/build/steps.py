"""Named, resumable build steps: each has a time, a log and artefacts that appear only when it succeeded."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old contents or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(data)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(directory: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the build directory: a second process with the same plan waits, and then finds the work done."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is building {directory.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_done(directory: Path, step: Step) -> bool:
    """Whether ``step`` succeeded here before and its artefacts are still what it wrote."""
    receipt = directory / f"{step.name}.done.json"
    try:
        artefacts = json.loads(receipt.read_text())["artefacts"]
        return set(artefacts) == set(step.artefacts) and all(
            sha256_of(directory / name) == digest for name, digest in artefacts.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def seconds_of(directory: Path, step: Step) -> float:
    """How long a finished step took."""
    return float(json.loads((directory / f"{step.name}.done.json").read_text())["seconds"])


def run_step(directory: Path, step: Step, say: Callable[[str], None]) -> bool:
    """Run ``step`` unless it is done; True when it ran. BuildFailed, with the log's path, when a tool
    fails.
    """
    if is_done(directory, step):
        return False
    receipt = directory / f"{step.name}.done.json"
    receipt.unlink(missing_ok=True)
    log = directory / f"{step.name}.log"
    log.unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=directory, prefix=f".{step.name}."))
    started = time.monotonic()
    try:

        def run(tool: str, *args: str) -> None:
            run_tool(tool, list(args), cwd=scratch, log=log, step=step.name)

        say(f"{step.name}: running, log in {log}")
        step.work(run, scratch)
        for name in step.artefacts:
            os.replace(scratch / name, directory / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    seconds = round(time.monotonic() - started, 1)
    record = {
        "step": step.name,
        "seconds": seconds,
        "artefacts": {name: sha256_of(directory / name) for name in step.artefacts},
    }
    write_atomically(receipt, json.dumps(record, indent=1).encode())
    say(f"{step.name}: {seconds} s")
    return True
