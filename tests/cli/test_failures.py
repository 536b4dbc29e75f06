"""What files, streams and the locale do to a command: a typed error, exit status 2, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ternac.cli import main as cli
from ternac.cli.arguments import add_model
from ternac.cli.verb import Outcome, Verb

VECTOR = Path(__file__).parents[1] / "vectors" / "lm-small.safetensors"


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a verb "try" that raises ``error``."""

    def run(args: Any, say: Any) -> Outcome:
        raise error

    module = types.ModuleType("ternac_try")
    module.VERB = Verb("Try it.", "ternac try", add_model, run)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ternac_try", module)
    monkeypatch.setitem(cli.VERBS, "try", "ternac_try")


def decoding_error() -> UnicodeDecodeError:
    try:
        b"ab\xe9c".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/x/y"),
            "/x/y: Permission denied",
            "permissions",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "z"),
            "z: No space left on device",
            "free some space",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", "free some space"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a", None, "b"),
            "a to b: No such",
            "name",
        ),
        (OSError(errno.EIO, "Input/output error", b"\xff"), "\\udcff: Input/output error", "ternac doctor"),
        (OSError("odd"), "odd", "ternac doctor"),
        (decoding_error(), f"{VECTOR} is not utf-8 text: byte 2 (e9 63 ...)", "iconv"),
        (json.JSONDecodeError("Expecting value", "", 0), f"{VECTOR} is damaged: JSONDecodeError", "again"),
    ],
)
def test_an_error_of_the_system_is_typed(
    error: Exception,
    message: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fail_with(error, monkeypatch)
    assert cli.main(["try", str(VECTOR), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)["error"]
    assert found["type"] == "UsageError"
    assert message in found["message"] and hint in found["hint"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError("x"), RuntimeError("x")])
def test_a_fault_of_ours_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(type(error)):
        cli.main(["try"])


def ternac(*words: str | bytes, out: Any = subprocess.PIPE, **environment: str) -> tuple[int, bytes, str]:
    """Run a command in a process of its own; returns status, standard output and errors."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "ternac.cli", *words],
        stdout=out,
        stderr=subprocess.PIPE,
        env=found,
        timeout=120,
    )
    return done.returncode, done.stdout or b"", done.stderr.decode()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "words", [["inspect", str(VECTOR)], ["inspect", str(VECTOR), "--json"], ["eval", "--help"]]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output(words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        status, _, errors = ternac(*words, out=full, PYTHONUNBUFFERED=unbuffered)
    assert status == 2
    assert "ternac: cannot write stdout: No space left on device\n" in errors
    assert "Traceback" not in errors and "Exception ignored" not in errors


def test_words_that_are_not_utf_8() -> None:
    for words in (["--prompt", b"a\xe9"], [b"--prompt=a\xe9"]):
        status, _, errors = ternac("run", str(VECTOR), "--tokens", "1", *words)
        assert status == 2
        assert errors.startswith("ternac: --prompt is not UTF-8: ") and "a\\udce9" in errors
    status, _, errors = ternac("inspect", b"\xe9")
    assert status == 2 and "no program file or shipped model" in errors


def test_a_terminal_without_the_characters_shows_their_numbers() -> None:
    words = ("run", "shakespeare-small", "--prompt", "\u00e9", "--tokens", "1")
    status, out, errors = ternac(*words, PYTHONIOENCODING="ascii")
    assert (status, errors) == (0, "")
    assert out.startswith(b"\\xe9")
