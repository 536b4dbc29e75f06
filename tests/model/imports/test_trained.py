"""The shipped import of a trained checkpoint is what its manifest says; NumPy and native run it alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.program.file import load

PROGRAM = Path(__file__).parents[2] / "trained" / "mmfree-novels.safetensors"


def test_it_is_the_program_of_the_manifest() -> None:
    manifest = json.loads(PROGRAM.with_suffix(".json").read_text())
    assert hashlib.sha256(PROGRAM.read_bytes()).hexdigest() == manifest["sha256"]
    program = load(PROGRAM)
    assert (program.name, program.hash) == (manifest["name"], manifest["hash"])
    assert program.trits == manifest["trits"] >= 5_000_000
    loss = manifest["loss"]
    assert abs(loss["integer"]["nats"] - loss["float32"]["nats"]) < 0.01


def test_numpy_and_native_agree(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", str(PROGRAM), "--executors", "numpy,native", "--tokens", "16", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["mismatches"] == 0
