"""What the pages tell a reader to type is typed: in an empty folder, with Ternac installed from its wheel.

The commands of a page run in their order, in one shell, as they stand on the page but for what its comments say
(`tests.repository.pages`); what the page shows of their output is compared.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ternac import cache
from tests.repository import installed
from tests.repository.pages import PAGES, ROOT, MarkError, Step, steps, steps_of

SLOW = pytest.mark.slow
README = ROOT / "README.md"
INTERPRETERS = installed.interpreters()
SECONDS = 3000
"""For one page."""

PORTS = (8000, 8001)
"""What the pages serve on; here others, which are free."""


@pytest.fixture(scope="session", params=INTERPRETERS, ids=lambda one: one.version)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of each Python, at a path with blanks, as people have."""
    return installed.environment(request.param, tmp_path_factory.mktemp("a reader's") / "own folder")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(todo: list[Step], folder: Path, ports: dict[int, int]) -> str:
    """The shell script of the steps: each begins with a line that tells its output from that of the one before."""
    lines = ["set -e", "exec 2>&1 </dev/null"]
    for number, step in enumerate(todo):
        lines.append(f"printf '\\n@@{number} %d@@\\n' $SECONDS")
        text = step.run
        for at, port in ports.items():
            text = re.sub(rf"\b{at}\b", str(port), text)
        if step.python:
            (folder / f"snippet {number}.py").write_text(text)
            lines.append(f"python '{folder}/snippet {number}.py'")
        elif step.background:
            log = f"'{folder}/served {number}'"
            lines.append(f"{text.split(' #')[0]} > {log} 2>&1 &")
            alive = f"kill -0 $! 2>/dev/null || {{ cat {log}; exit 1; }}"
            lines.append(f"until grep -q 'http://127.0.0.1:' {log}; do {alive}; sleep 0.1; done; cat {log}")
        else:
            lines.append(text)
    return "\n".join(lines)


def joined(todo: list[Step]) -> list[Step]:
    """One script of the Python blocks that follow each other: the later ones use the names of the first."""
    found: list[Step] = []
    for step in todo:
        if found and step.python and found[-1].python:
            text = f"{found[-1].run}\n{step.run}"
            found[-1] = replace(found[-1], run=text, prints=(*found[-1].prints, *step.prints))
        else:
            found.append(step)
    return found


def missing(shown: tuple[str, ...], output: str) -> list[str]:
    """The lines of a page that are not in the output; ``...`` on the page stands for anything."""
    plain = " ".join(output.split())

    def pattern(line: str) -> str:
        return ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))

    return [line for line in shown if not re.search(pattern(line), plain)]


def run(todo: list[Step], at: Path, python: Path) -> None:
    """Run the steps in an empty folder.

    Raises AssertionError, with the command's place on the page and its output, if one fails, warns about code of
    Ternac, or does not print what the page shows.
    """
    folder, hidden, home = at / "an empty folder", at / "hidden", at / "home"
    for path in (folder, hidden, home):
        path.mkdir()
    (folder / ".venv").symlink_to(python)
    package = next(python.glob("lib/python*/site-packages/ternac"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{python / 'bin'}:{environment['PATH']}",
        "TEXT": str(package / "model" / "data" / "tinyshakespeare.txt"),
        cache.VARIABLE: str(cache.root()),
        "XDG_CACHE_HOME": environment.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "PYTHONWARNINGS": "default",
    }
    todo, start = joined(todo), time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", script(todo, hidden, {port: free_port() for port in PORTS})],
        cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=SECONDS)
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    outputs = re.split(r"\n@@\d+ \d+@@\n", out)[1:]
    began = [int(seconds) for seconds in re.findall(r"\n@@\d+ (\d+)@@\n", out)]
    for step, begin, end in zip(todo, began, [*began[1:], int(time.monotonic() - start)], strict=False):
        sys.stdout.write(f"{end - begin:5} s  {step.run.splitlines()[0]}\n")  # pytest -rA shows it
    last = todo[len(outputs) - 1]
    where = f"line {last.line}: {last.text}\n{outputs[-1][-3000:]}"
    assert process.returncode == 0, where
    for step, output in zip(todo, outputs, strict=True):
        warned = re.findall(r"^.*/ternac/\S+\.py:\d+: \w*Warning.*$", output, re.M)
        assert warned == [], f"line {step.line}: {step.text}"
        assert missing(step.prints, output) == [], f"line {step.line}: {step.text}\n{output[-3000:]}"


def trial(page: Path, at: Path, python: Path, quick: bool) -> None:
    run([step for step in steps(page) if not step.why_not and not (quick and step.slow)], at, python)


def test_the_readme_runs(tmp_path: Path) -> None:
    """All but its slow commands, on the Python of the tests."""
    trial(README, tmp_path, installed.environment(INTERPRETERS[0], tmp_path / "own folder"), quick=True)


@SLOW
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs(page: Path, python: Path, tmp_path: Path) -> None:
    if not any(not step.why_not for step in steps(page)):
        pytest.skip("nothing on this page is run")
    trial(page, tmp_path, python, quick=False)
