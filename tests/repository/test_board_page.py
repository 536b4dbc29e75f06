"""The page of a board's first hour: the messages that it explains are those of the checks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "board_in_an_hour.md").read_text()


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
    assert len(re.findall(r"^ternac board \w+ sim ", PAGE, re.M)) == 2
    assert "simulated board: not measured on hardware" in PAGE
