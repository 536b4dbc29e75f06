"""The command lines of openFPGALoader, and what is said without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.errors import DeviceError, ToolMissing
from ternac.hdl.boards.boards import board
from ternac.hdl.build import bitstream, flash


def test_commands() -> None:
    file = Path("x.bit")
    ulx3s, icebreaker = board("ulx3s-85f"), board("icebreaker")
    assert flash.command(ulx3s, file, permanent=False) == ["openFPGALoader", "--board", "ulx3s", "x.bit"]
    assert flash.command(ulx3s, file, permanent=True)[3] == "--write-flash"
    assert flash.command(icebreaker, file, permanent=False)[3] == "--write-flash"


def test_without_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="openFPGALoader is not on the PATH") as caught:
        flash.flash(board("ulx3s-85f"), Path("x.bit"), permanent=False)
    assert "apt-get install openfpgaloader" in caught.value.hint


def test_the_tool_is_looked_for_before_anything_slow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(bitstream, "bitstream_for", None)
    assert main(["flash", "shakespeare-small", "--board", "icebreaker"]) == 2
    assert "openFPGALoader is not on the PATH" in capsys.readouterr().err


def test_failing_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "openFPGALoader"
    tool.write_text("#!/bin/sh\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(DeviceError, match="ended with status 3"):
        flash.flash(board("icebreaker"), Path("x.bin"), permanent=False)
