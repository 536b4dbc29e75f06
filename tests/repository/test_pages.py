"""What the pages tell a reader to type is typed: in an empty folder, with Ternac installed from its wheel.

The commands of a page run in their order, in one shell, as they stand on the page but for what its comments
say (`tests.repository.pages`); what the page shows of their output is compared.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
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
"""What the pages serve on."""


@pytest.fixture(scope="session", params=INTERPRETERS, ids=lambda one: one.version)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of each Python, at a path with blanks, as people have."""
    return installed.environment(request.param, tmp_path_factory.mktemp("a reader's") / "own folder")


def refuse_a_taken_port() -> None:
    """Skip where another program serves on a port of the pages."""
    for port in PORTS:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"another program listens on port {port}")


def script(todo: list[Step], folder: Path) -> str:
    """The shell script of the steps; before each it prints a line, which tells their outputs apart."""
    lines = ["set -e", "exec 2>&1 </dev/null"]
    for number, step in enumerate(todo):
        lines.append(f"printf '\\n@@{number} %d@@\\n' $SECONDS")
        text = step.run
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


def run(todo: list[Step], at: Path, python: Path, seconds: float = SECONDS) -> None:
    """Run the steps in an empty folder.

    Raises AssertionError, with the command's place on the page and its output, if one fails, warns about code
    of Ternac, does not print what the page shows, or is not done after ``seconds``.
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
        ["bash", "-c", script(todo, hidden)],
        cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    timer = threading.Timer(seconds, lambda: os.killpg(process.pid, signal.SIGTERM))
    timer.start()
    try:
        out, _ = process.communicate()
    finally:
        timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # what serves
    outputs = re.split(r"\n@@\d+ \d+@@\n", out)[1:]
    began = [int(seconds) for seconds in re.findall(r"\n@@\d+ (\d+)@@\n", out)]
    for step, begin, end in zip(todo, began, [*began[1:], int(time.monotonic() - start)], strict=False):
        sys.stdout.write(f"{end - begin:5} s  {step.run.splitlines()[0]}\n")  # pytest -rA shows it
    last = todo[len(outputs) - 1]
    late = f" after {seconds:.0f} s" if time.monotonic() - start > seconds else ""
    where = f"line {last.line}: {last.text}{late}\n{outputs[-1][-3000:]}"
    assert process.returncode == 0, where
    for step, output in zip(todo, outputs, strict=True):
        warned = re.findall(r"^.*/ternac/\S+\.py:\d+: \w*Warning.*$", output, re.M)
        assert warned == [], f"line {step.line}: {step.text}"
        assert missing(step.prints, output) == [], f"line {step.line}: {step.text}\n{output[-3000:]}"


def trial(page: Path, at: Path, python: Path, quick: bool) -> None:
    (packages,) = python.glob("lib/python*/site-packages/packages.pth")
    here = Path(packages.read_text().strip())
    todo = [step for step in steps(page) if not step.why_not and not (quick and step.slow)]
    lacking = [step for step in todo if step.needs and not (here / step.needs).is_dir()]
    for step in lacking:
        sys.stdout.write(f"not run, as {step.needs} is not installed: {step.run}\n")
    if any(step.background for step in todo):
        refuse_a_taken_port()
    run([step for step in todo if step not in lacking], at, python)


def test_the_readme_runs(tmp_path: Path) -> None:
    """All but its slow commands, on the Python of the tests."""
    trial(README, tmp_path, installed.environment(INTERPRETERS[0], tmp_path / "own folder"), quick=True)


def test_every_page_is_understood() -> None:
    """Each block is commands, or names its language; each mark fits what follows it."""
    found = {page: steps(page) for page in PAGES}
    assert sum(not step.why_not for steps in found.values() for step in steps) > 100
    tutorial = [
        step.text.split()[1] for step in found[ROOT / "docs" / "tutorial.md"] if "ternac" in step.text
    ]
    verbs = ("train", "export", "run", "verify", "estimate", "build", "flash")
    assert [verb for verb in dict.fromkeys(tutorial) if verb in verbs] == list(verbs)


@pytest.mark.parametrize(
    "page, fault",
    [
        ("<!-- run\nskip\n-->\n```\nternac list\n```", "lacks its words or its reason"),
        ("<!-- run\nleave: why\n-->\n```\nternac list\n```", "not a mark"),
        ("<!-- run\nskip `doctor`: why\n-->\n```\nternac list\n```", "has the mark's words 'doctor'"),
        ("<!-- run\nprints `7`\n-->\n`ternac estimate --ops` says 8", "has the mark's words '7'"),
        ("<!-- run\nskip: why\n-->\nno command", "no command at line 4"),
        ("```\nternac list\n```\n<!-- run\nslow: why\n-->\n", "a mark at the end"),
        ("```\nternac list\n{}\n```", "line 3 is no command"),
        ("x\n\n    import os\n", "line 3 is Python"),
        ("```\nternac flash\n```\n```text\nok\n```", "none before it is run"),
    ],
)
def test_a_mark_that_fits_nothing_is_found(page: str, fault: str) -> None:
    with pytest.raises(MarkError, match=fault):
        steps_of(page)


def test_commands_are_found_where_they_stand() -> None:
    page = """Say `ternac list --json` or `ternac verify`.

    ternac doctor

<!-- run
before `touch here`
replace `600` with `6`: less
skip `flash`: no board
slow `x.csv`: long
-->

```
ternac run \\
  --tokens 600   # many
ternac flash x
python -c pass > x.csv
ternac eval MODEL
```

```text
loss 1.5
```

```json
{"ternac": 1}
```
"""
    found = [(step.line, step.run, bool(step.why_not), step.slow, step.prints) for step in steps_of(page)]
    assert found == [
        (1, "ternac list --json", False, False, ()),
        (3, "ternac doctor", False, False, ()),
        (13, "touch here", False, False, ()),
        (13, "ternac run --tokens 6   # many", False, False, ()),
        (15, "ternac flash x", True, False, ()),
        (16, "python -c pass > x.csv", False, True, ("loss 1.5",)),
        (17, "ternac eval MODEL", True, False, ()),
    ]


@pytest.mark.parametrize(
    "page, fault",
    [
        ("```\npython -c pass\npython -c 'raise SystemExit(3)'\npython -c pass\n```", "line 3"),
        ("```\npython -c 'print(1.4)'\n```\n```text\n1.5\n```", "line 2.*1.4"),
        ("```\npython -c \"print('/x/ternac/a.py:3: ResourceWarning: left open')\"\n```", "ResourceWarning"),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```", "line 2"),
        ("<!-- run\nbackground\n-->\n```\npython -c 'print(5 / 0)'\n```", "ZeroDivisionError"),
    ],
)
def test_a_page_that_is_wrong_is_found(page: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as found:
        run(steps_of(page), tmp_path, nothing_installed(tmp_path))
    assert re.search(fault, str(found.value), re.S)


def test_a_page_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    page = "```\npython -c pass\npython -c 'import time; time.sleep(60)'\n```"
    with pytest.raises(AssertionError, match="line 3: .* after 5 s"):
        run(steps_of(page), tmp_path, nothing_installed(tmp_path), seconds=5)


def test_a_page_that_is_right_passes(tmp_path: Path) -> None:
    page = """```
mkdir a && cd a
```
```python
x = 1
```
```python
print(f"loss {x + 0.5} nats of", 7)
```
```text
loss 1.5 ... 7
```
"""
    run(steps_of(page), tmp_path, nothing_installed(tmp_path))
    assert (tmp_path / "an empty folder" / "a").is_dir()


def nothing_installed(at: Path) -> Path:
    """What looks like an environment, without Ternac."""
    (at / "bin").mkdir()
    (at / "bin" / "python").symlink_to(sys.executable)
    (at / "lib" / "python3" / "site-packages" / "ternac").mkdir(parents=True)
    return at


@SLOW
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs(page: Path, python: Path, tmp_path: Path) -> None:
    if not any(not step.why_not for step in steps(page)):
        pytest.skip("nothing on this page is run")
    trial(page, tmp_path, python, quick=False)
