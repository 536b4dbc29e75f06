"""The verify verb: agreement, a planted difference found and named, bad arguments."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, preset
from ternac.host import device as device_module
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import random_program
from tests.host.boards import Line, make_board


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


@pytest.mark.parametrize(
    ("options", "board"),
    [
        (["--geometry", "{own}"], "ulx3s-85f"),
        (["--geometry", "{own}", "--board", "icebreaker"], "icebreaker"),
        (["--board", "icebreaker"], "icebreaker"),
        (["--geometry", "icebreaker"], "icebreaker"),
        (["--geometry", "icebreaker", "--board", "ulx3s-85f"], "ulx3s-85f"),
    ],
)
def test_a_port_belongs_to_a_board_whatever_its_engine(
    options: list[str],
    board: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line is opened as that of --board, also where the engine is one of a file."""
    program, path = small(tmp_path)
    own = replace(preset("tiny"), name="own")
    (tmp_path / "own.json").write_text(json.dumps(asdict(own)))
    options = [option.format(own=tmp_path / "own.json") for option in options]
    named = options[options.index("--geometry") + 1] if "--geometry" in options else board
    geometry = own if named.endswith(".json") else preset(named)
    opened = []

    def line(name: Any, board: str, engine: Geometry, waves: Any) -> Line:
        opened.append((name.kind, board, engine))
        return Line(make_board(compile_program(program, engine)))

    monkeypatch.setattr(device_module, "open_line", line)
    status, data = run([str(path), "--executors", "numpy,serial:X", "--tokens", "4", *options], capsys)
    # The board in Python counts 1000 cycles a token, whatever the engine; nothing else differs.
    assert status == 1
    assert [found["name"] for found in data["divergences"]] == ["cycles"]
    assert opened == [("serial", board, geometry)]


def test_a_board_without_effect_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, hint in (
        (["--executors", "numpy,native"], "isa, rtl, netlist or serial:PORT"),
        (["--all-geometries"], "leave MODEL, --board and --geometry out"),
    ):
        status, data = run(["--board", "icebreaker", *more], capsys)
        assert status == 2 and hint in data["error"]["hint"]


def test_every_executor_is_closed_when_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Failing:
        name = "failing"

        cycles = 0

        def step(self, token: int, sampling: Any, rng: int, *, rows: bool = True) -> Any:
            raise RuntimeError("broken")

        def values(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            closed.append(self.name)

    program, path = small(tmp_path)
    monkeypatch.setattr("ternac.host.verify.open_runners", lambda *a, **k: [Failing(), Failing()])
    with pytest.raises(RuntimeError, match="broken"):
        cli.main(["verify", str(path), "--tokens", "3"])
    assert closed == ["failing", "failing"]
