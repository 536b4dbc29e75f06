"""Every ``ternac`` command that a page or the demo shows is one that the command line accepts."""

from __future__ import annotations

import re
import shlex

import pytest

from ternac.cli import demo
from ternac.cli import main as cli
from tests.repository.pages import PAGES, steps


def shown_commands() -> list[str]:
    """Commands of Ternac on the pages, the steps of the demo and its last words."""
    found = [f"ternac {step.command}" for step in demo.STEPS]
    found += re.findall(r"^ *\.venv/bin/(ternac [a-z].*?)(?:  .*)?$", demo.NEXT, re.M)
    for page in PAGES:
        for step in steps(page):
            command = step.text.removeprefix(".venv/bin/")
            if command.startswith("ternac "):
                found.append(re.split(r"\s#|\s[|>]", command)[0])
    return sorted(set(found))


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
