"""A disk that is full, and a place that nobody may write: each verb that writes says so, nothing is half.

The full disk is a limit of the process on the size of a file, which fails as a quota does, in the middle of a
write; and a file system of some kilobytes where the system lets a test have one. The place is one of /proc.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ternac.cli import main as cli
from tests.model.imports import mmfreelm_files

LIMIT = 700
"""Bytes that a file may have: less than anything that is written here."""
NOWHERE = Path("/proc/self/nowhere")
TRAIN = (
    "--preset smoke --width 8 --inner 8 --layers 1 --steps 2 --batch 2 --window 8 --eval-every 2 "
    "--checkpoint-every 1 --threads 1"
).split()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the verbs read: a text, a run, token numbers, a checkpoint to import."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "text.txt").write_bytes(b"To be, or not to be, that is the question. " * 60)
    threads = torch.get_num_threads()
    assert cli.main(["train", str(folder / "text.txt"), *TRAIN, "--out", str(folder / "run")]) == 0
    torch.set_num_threads(threads)
    np.save(folder / "ids.npy", np.random.default_rng(0).integers(0, 43, 100))
    mmfreelm_files.checkpoint(folder / "model")
    return folder


def words(verb: str, given: Path, out: Path) -> list[str]:
    text = str(given / "text.txt")
    return {
        "train": ["train", text, *TRAIN, "--out", str(out / "run")],
        "export": ["export", str(given / "run"), "--out", str(out / "p.safetensors"), "--check", "8"],
        "export, a folder": ["export", str(given / "run"), "--out", str(out / "model"), "--check", "8"],
        "export, GGUF": ["export", str(given / "run"), "--format", "gguf", "--out", str(out / "p.gguf")],
        "import": ["import", "mmfreelm", str(given / "model"), "--text", str(given / "ids.npy"),
                   "--calibration", "32", "--tokens", "0", "--out", str(out / "p.safetensors")],
        "tokenizer": ["tokenizer", "train", text, "--vocab", "50", "--out", str(out / "tokenizer.json")],
        "emit": ["emit", str(given / "run"), "--geometry", "tiny", "--top", "core", "--out",
                 str(out / "emit")],
        "build": ["build", str(given / "run"), "--board", "icebreaker", "--out", str(out / "board.bin")],
        "profile": ["profile", str(given / "run"), "--text", text, "--limit", "200", "--out",
                    str(out / "p.svg")],
    }[verb]  # fmt: skip


VERBS = (
    "train",
    "export",
    "export, a folder",
    "export, GGUF",
    "import",
    "tokenizer",
    "emit",
    "build",
    "profile",
)


def ended(work: Callable[[], int]) -> tuple[int | None, str]:
    """Run in a process of its own; returns its status and what it said, through a pipe: that has no limit."""
    came, told = os.pipe()

    def apart() -> None:
        os.dup2(told, 1)
        os.dup2(told, 2)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        torch.set_num_threads(1)
        status = work()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=apart)
    process.start()
    os.close(told)
    with os.fdopen(came, encoding="utf-8") as pipe:
        said = pipe.read()
    process.join(300)
    return process.exitcode, said


def everything(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_is_said_and_leaves_nothing(verb: str, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
        return cli.main(words(verb, given, out))

    status, said = ended(work)
    assert status == 2, said
    assert "Traceback" not in said
    assert "ternac: cannot write" in said or "File too large" in said, said
    assert all(path.stat().st_size <= LIMIT for path in everything(out))
    assert not [path for path in everything(out) if path.name.startswith(".")], "half a file is left"


@pytest.mark.parametrize("verb", VERBS)
def test_a_place_that_nobody_may_write_is_said(verb: str, given: Path) -> None:
    status, said = ended(lambda: cli.main(words(verb, given, NOWHERE)))
    assert status == 2, said
    assert "Traceback" not in said
    assert str(NOWHERE) in said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_run_whose_disk_is_full_keeps_its_last_checkpoint(given: Path, small_disk: Path) -> None:
    """The disk has room for one checkpoint and not for the next beside it."""
    run = small_disk / "run"
    status, said = ended(lambda: cli.main(words("train", given, small_disk)))
    if status == 0:  # both fit: something else takes the room
        (small_disk / "more").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
        before = {path.name: path.read_bytes() for path in everything(run)}
        status, said = ended(
            lambda: cli.main(["export", str(run), "--out", str(small_disk / "p.safetensors"), "--check", "8"])
        )
        assert {path.name: path.read_bytes() for path in everything(run)} == before
    assert status == 2, said
    assert "No space left on device" in said and "make room on that disk" in said
    assert not [path for path in everything(small_disk) if path.name.startswith(".")]
