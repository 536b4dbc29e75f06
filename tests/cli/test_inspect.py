"""``ternac inspect`` of programs with memories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.program.file import save
from tests.program.memory_toy import loop_program, memory_program


def test_memories_and_their_bytes_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(memory_program(), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--ops"]) == 0
    shown = capsys.readouterr().out
    assert "memory M: 16 rows x 6 i8, 96 bytes a session" in shown
    assert "session state 58 words" in shown
    assert " 11  write          -          = MEM_UPDATE(w.prev, e) bits=2 keep=0 memory=M" in shown
    assert " 12  o.acc          acc[6]     = MEM_READ(w) bits=2 rows=M shared=0" in shown
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["memories"] == {"M": {"rows": 16, "width": 6, "dtype": "i8", "bytes": 96}}


def test_a_loop_is_shown_behind_its_body(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(loop_program(), tmp_path / "l.safetensors")
    assert main(["inspect", str(tmp_path / "l.safetensors"), "--ops"]) == 0
    assert (
        "10  again          -          = LOOP(r, next) first=1 length=9 levels=0" in capsys.readouterr().out
    )
