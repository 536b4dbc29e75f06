"""Every ``ternac`` command that a page or the demo shows is one that the command line accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ternac.cli import demo
from ternac.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
JOURNAL = ROOT / "docs" / "journal"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent != JOURNAL),  # kept as written
    *sorted((ROOT / "model" / "zoo").glob("*/*.md")),
]


def shown_commands() -> list[str]:
    """Commands in the fenced blocks of the pages, the steps of the demo and its last words."""
    found = [f"ternac {step.command}" for step in demo.STEPS]
    texts = [
        block for page in PAGES for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S)
    ]
    for text in [*texts, demo.NEXT]:
        found += re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?(ternac [a-z].*)$", text, re.M)
    for page in PAGES:  # in a sentence: a whole command, not a synopsis with brackets
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        found += re.findall(r"`(ternac [a-z][\w-]* [^`\[|>]*?)(?: >[^`]*)?`", " ".join(prose.split()))
    return sorted({re.split(r"\s{2,}|\s#", command)[0] for command in found})  # without the words beside it


@pytest.mark.parametrize("command", shown_commands())
def test_command_is_accepted(command: str) -> None:
    """Placeholders in capitals (FILE) pass as values; an unknown verb or option does not."""
    words = shlex.split(command)
    _, parser = cli.verb_and_parser(words[1])
    parser.parse_args(words[2:])


@pytest.mark.parametrize("name", cli.VERBS)
def test_help_shows_a_working_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` ends in an example of that verb, which its parser accepts."""
    assert cli.main([name, "--help"]) == 0
    example = capsys.readouterr().out.split("example:\n")[1].strip()
    words = shlex.split(example.splitlines()[0])
    assert words[:2] == ["ternac", name]
    verb, parser = cli.verb_and_parser(name)
    parser.parse_args(words[2:])
    assert verb.example == example


def test_demo_stops_at_the_first_failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    good = demo.Step("fine", "--version")
    bad = demo.Step("broken", "no-such-verb")
    assert demo.main((good,)) == 0
    assert "All 1 steps passed" in capfd.readouterr().out
    assert demo.main((good, bad, good)) == 2
    text = capfd.readouterr().out
    assert "[2/3] broken\n$ ternac no-such-verb" in text
    assert "step 2 failed (exit code 2)" in text
    assert "[3/3]" not in text


def test_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """As printed, but on the NumPy executor, which gives the same tokens in less time."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block.replace('"sim"', '"numpy"'), "README.md", "exec"), names)  # the page is ours
    assert len(capsys.readouterr().out) == 200
    assert [len(text) for text in names["texts"]] == [200] * 3
