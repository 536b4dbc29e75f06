"""The tutorial's commands run in their order, on a model of few steps; what needs a board is left out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"^(ternac .*?)(?:\s{2,}#.*)?$", TUTORIAL, re.M)


def test_the_tutorial_goes_from_text_to_board() -> None:
    verbs = [shlex.split(command)[1] for command in COMMANDS]
    for verb in ("train", "export", "verify", "estimate", "run", "build", "flash"):
        assert verb in verbs
    assert verbs.index("train") < verbs.index("export") < verbs.index("build") < verbs.index("flash")


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    """Ends where a board is needed."""
    shutil.copy(ROOT / "model" / "data" / "tinyshakespeare.txt", tmp_path / "my.txt")
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if words[0] == "flash" or any(word.startswith("/dev/") for word in words):
            continue
        words = ["5" if word == "600" else word for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "ternac.cli", *words],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
