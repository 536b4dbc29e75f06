"""The page of a board's first hour: its commands run on simulated boards, its messages are the checks'."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ternac.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "board_in_an_hour.md").read_text()
SIMULATED = re.findall(r"^ternac (board \w+ sim .*)$", PAGE, re.M)


def test_every_message_that_the_page_explains_is_one_of_the_checks() -> None:
    table = PAGE.split("## What a failure means")[1].split("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", table, re.M)
    sources = [path.read_text() for path in (ROOT / "host" / "board" / "check").glob("*.py")]
    sources.append((ROOT / "ternac" / "run" / "compare.py").read_text())
    text = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    assert len(messages) > 8
    assert [message for message in messages if message not in text] == []


def test_the_page_says_what_has_not_been_measured() -> None:
    assert "No bitstream of Ternac has run on a physical board yet." in PAGE
    assert len(SIMULATED) == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", SIMULATED)
def test_the_commands_of_the_page_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    assert main([*words, "--json"]) == 0
    data = json.loads(Path(words[-1]).read_text())
    assert data["ok"] and data["simulated"]
    assert "a simulated board: nothing above was measured on hardware" in capsys.readouterr().err
