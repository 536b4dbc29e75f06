"""The scripts in docs/examples/ run, each in at most thirty lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def run(name: str, *arguments: str) -> str:
    """Run a script as a user does; returns what it printed."""
    command = [sys.executable, str(FOLDER / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_short_and_listed(script: Path) -> None:
    """Without blank lines and docstring; one sentence at the top; a row in the folder's page."""
    text = script.read_text()
    _, docstring, code = text.split('"""', 2)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    assert re.match(r"[A-Z].*\.\n", docstring)
    assert f"[{script.name}]({script.name})" in (FOLDER / "README.md").read_text()


def test_text_everywhere() -> None:
    numpy, isa = run("text_everywhere.py", "numpy", "isa").splitlines()
    assert numpy.removeprefix("numpy: ") == isa.removeprefix("isa: ")


def test_train_and_export(tmp_path: Path) -> None:
    assert "25,600 trits, validation loss" in run("train_and_export.py", str(tmp_path), "3")
    assert (tmp_path / "mine.safetensors").exists()


def test_verify_board_on_compiled_instructions() -> None:
    assert "19 tokens equal, 256 logits and 288 state words each" in run("verify_board.py", "isa")


def test_server_client() -> None:
    assert len(run("server_client.py")) > 20


def test_second_reading() -> None:
    """The gain is seen, a session that opens later has none of it, and two executors agree."""
    lines = [run("second_reading.py", name).splitlines() for name in ("numpy", "native")]
    assert lines[0][0].removeprefix("numpy") == lines[1][0].removeprefix("native")
    first, second = map(float, re.findall(r"\d\.\d+", lines[0][0]))
    (fresh,) = map(float, re.findall(r"\d\.\d+", lines[0][1]))
    assert second < first - 0.3 and fresh == first


@pytest.mark.icarus
def test_own_bench_on_icarus() -> None:
    assert "passed" in run("own_bench.py", "icarus")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text_everywhere.py", "verify_board.py", "own_bench.py", "axi_system.py"])
def test_on_verilator(name: str) -> None:
    run(name, *(["numpy", "sim"] if name == "text_everywhere.py" else []))
