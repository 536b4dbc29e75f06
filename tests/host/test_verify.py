"""The verify verb: agreement, a planted difference found and named, bad arguments."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import random_program


def small(tmp_path: Path) -> tuple[Program, Path]:
    program = random_program(np.random.default_rng(1), 12, 20, 2, 256)
    program = replace(program, meta={"tokenizer": "bytes"})
    path = tmp_path / "small.safetensors"
    save(program, path)
    return program, path


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = cli.main(["verify", *args, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_numpy_and_the_compiled_image_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, path = small(tmp_path)
    args = [str(path), "--executors", "numpy,isa", "--tokens", "25", "--geometry", "tiny"]
    status, data = run(args, capsys)
    assert status == 0
    assert data["tokens"] == 25
    assert data["mismatches"] == 0
    assert data["executors"] == ["numpy", "isa"]


def test_a_planted_difference_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong bit in a bank word: the op that wrote it is named, not the logits where it ends up."""
    _, path = small(tmp_path)
    from ternac.compile.machine import Machine

    honest = Machine.execute

    def planted(self: Machine, inst: Any, token: int, base: int) -> None:
        honest(self, inst, token, base)
        symbol = self.image.symbols["1.a"]
        if inst.to_bank and inst.d == symbol.address:
            self.bank[2, symbol.address + 1] ^= 1  # element 1 * 4 + 2

    monkeypatch.setattr(Machine, "execute", planted)
    args = [str(path), "--executors", "numpy,isa", "--tokens", "25", "--geometry", "tiny"]
    status, data = run(args, capsys)
    assert status == 1
    assert data["mismatches"] == 1
    (found,) = data["divergences"]
    assert (found["name"], found["layer"], found["element"]) == ("1.a", "1", 6)
    assert found["expected"] ^ found["got"] == 1


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--executors", "numpy"], "at least two different ones"),
        (["--executors", "numpy,numpy"], "at least two different ones"),
        (["--executors", "numpy,abacus"], "unknown executor 'abacus'"),
        (["--tokens", "0"], "needs at least 1"),
    ],
)
def test_bad_arguments(args: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(args, capsys)
    assert status == 2
    assert text in data["error"]["message"]


def test_every_executor_is_closed_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Failing:
        name = "failing"

        cycles = 0

        def step(self, token: int, sampling: Any, rng: int) -> Any:
            raise RuntimeError("broken")

        def values(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            closed.append(self.name)

    program, path = small(tmp_path)
    monkeypatch.setattr("ternac.host.verify.open_runners", lambda *a: [Failing(), Failing()])
    with pytest.raises(RuntimeError, match="broken"):
        cli.main(["verify", str(path), "--tokens", "3"])
    assert closed == ["failing", "failing"]
