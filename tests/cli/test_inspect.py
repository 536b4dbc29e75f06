"""``ternac inspect`` of programs with memories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.model.memory.system import SHIPPED
from ternac.program.file import save
from tests.program.memory_toy import loop_program, memory_program


def test_memories_and_their_bytes_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(memory_program(), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--ops"]) == 0
    shown = capsys.readouterr().out
    assert "memory M: 16 rows x 6 i8, 96 bytes a session\n    read by o.acc\n    updated by write\n" in shown
    assert "session state 58 words" in shown
    assert " 11  write          -          = MEM_UPDATE(w.prev, e) bits=2 keep=0 memory=M" in shown
    assert " 12  o.acc          acc[6]     = MEM_READ(w) bits=2 rows=M shared=0" in shown
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    sizes = {"rows": 16, "width": 6, "dtype": "i8", "bytes": 96}
    assert data["memories"] == {"M": {**sizes, "read_by": ["o.acc"], "updated_by": ["write"]}}
    assert data["loops"] == []


def test_constant_rows_and_their_bytes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(SHIPPED / "kan" / "digits.safetensors")
    assert main(["inspect", model]) == 0
    shown = capsys.readouterr().out
    assert "constant rows first: 1024 rows x 16 i8, 16,384 bytes, read by first.acc\n" in shown
    assert main(["inspect", model, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    second = {"rows": 256, "width": 16, "bytes": 4096, "read_by": ["second.acc"]}
    assert data["constant_rows"]["second"] == second and data["memories"] == {}


def test_a_loop_is_shown_behind_its_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(loop_program(), tmp_path / "l.safetensors")
    assert main(["inspect", str(tmp_path / "l.safetensors"), "--ops"]) == 0
    shown = capsys.readouterr().out
    assert "10  again          -          = LOOP(r, next) first=1 length=9 levels=0" in shown
    runs = "loop again: ops 1 to 9 run 2 times, or as often as --loops asks, 1 to 4"
    assert f"{runs}; uses memory M, state h\n" in shown
    save(loop_program(levels=1), tmp_path / "l.safetensors")
    assert main(["inspect", str(tmp_path / "l.safetensors"), "--json"]) == 0
    (loop,) = json.loads(capsys.readouterr().out)["loops"]
    assert loop == {
        "name": "again",
        "times": 2,
        "most": 2,
        "levels": True,
        "ops": [1, 9],
        "carry": [["r", "next"]],
        "memories": ["M"],
        "states": ["h"],
    }
    assert main(["inspect", str(tmp_path / "l.safetensors")]) == 0
    assert "run 2 times, each run with rows and states of its own; uses" in capsys.readouterr().out
