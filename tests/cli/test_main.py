"""The command line: one JSON object or none, exit statuses, typed errors, the verbs eval and inspect."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.cli.arguments import add_model
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import TernacError, UsageError
from ternac.program import zoo
from ternac.program.file import save
from ternac.program.random import random_program


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random program that reads bytes."""
    path = tmp_path_factory.mktemp("model") / "program.safetensors"
    program = random_program(np.random.default_rng(1), d=8, m=12, layers=1, vocab=256)
    save(dataclasses.replace(program, meta={"tokenizer": "bytes"}), path)
    return path


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a verb "try" that runs the given function."""

    def install(run: Any) -> None:
        module = types.ModuleType("ternac_try")
        module.VERB = Verb("Try it.", "ternac try", add_model, run, {"--old": "--new"})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ternac_try", module)
        monkeypatch.setitem(cli.VERBS, "try", "ternac_try")

    return install


def test_json_is_one_object_and_nothing_else(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace, say: Say) -> Outcome:
        say("for people")
        say("a", end="")
        return Outcome({"model": args.model}, ok=args.model != "bad")

    verb(run)
    assert cli.main(["try", "x"]) == 0
    assert capsys.readouterr() == ("for people\na", "")
    assert cli.main(["try", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"model": None}
    assert err == "for people\na"
    assert cli.main(["try", "bad", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"model": "bad"}


def test_errors_are_typed_with_a_hint(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace, say: Say) -> Outcome:
        raise TernacError("it broke", "mend it")

    verb(run)
    assert cli.main(["try"]) == 2
    assert capsys.readouterr() == ("", "ternac: it broke\n  hint: mend it\n")
    assert cli.main(["try", "--json"]) == 2
    want = {"error": {"type": "TernacError", "message": "it broke", "hint": "mend it"}}
    assert json.loads(capsys.readouterr().out) == want


def test_interrupts_end_quietly(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace, say: Say) -> Outcome:
        raise KeyboardInterrupt

    verb(run)
    assert cli.main(["try"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_ends_what_the_verb_started(tmp_path: Path) -> None:
    """A build that is stopped leaves no place and route at work."""
    script = tmp_path / "started.py"
    script.write_text(
        "import subprocess, sys\n"
        "from ternac.cli import list as verb, main\n"
        "child = 'import time; print(\"begun\", flush=True); time.sleep(600)'\n"
        "run = lambda *_: subprocess.run([sys.executable, '-c', child])\n"
        "verb.VERB = verb.VERB.__class__(**{**vars(verb.VERB), 'run': run})\n"
        "sys.exit(main.main(['list']))\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)  # which waits for the child too: it has the same output
    assert process.returncode == 130
    assert "interrupted" in said and "Traceback" not in said


def test_wrong_arguments(capsys: pytest.CaptureFixture[str], verb: Any) -> None:
    verb(lambda args, say: Outcome())
    for words in (
        ["nonsense"],
        ["try", "--nonsense"],
        ["try", "a", "b"],
        ["try", "--js"],
        ["try", "--old=3"],
    ):
        assert cli.main([*words, "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "UsageError"
    assert error["message"] == "--old is now --new"


def test_a_missing_package_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.VERBS, "try", "package_that_is_not_there")
    assert cli.main(["try", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "ToolMissing"
    assert "package_that_is_not_there" in error["message"]
    assert "doctor" in error["hint"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert cli.main(words) == 0
        out = capsys.readouterr().out
        assert all(f"  {name} " in out for name in cli.VERBS)
    assert cli.main(["eval", "--help"]) == 0
    assert "example:\n  ternac eval" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0


def test_eval(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"To be, or not to be: that is the question." * 20)
    assert cli.main(["eval", str(model), "--text", str(text), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["tokens"] == 42 * 20 - 1
    assert data["executor"] == "numpy"
    assert data["bits_per_byte"] == pytest.approx(data["nats_per_token"] / np.log(2))
    assert cli.main(["eval", str(model), "--split", "val", "--limit", "700"]) == 0
    assert "699 tokens" in capsys.readouterr().out
    text.write_bytes(b"")
    for bad in (["--text", str(text)], ["--text", "nowhere"], ["--limit", "1"], ["--streams", "0"]):
        assert cli.main(["eval", str(model), *bad, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


def test_inspect(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(model), "--ops", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["trits"] == 4 * 64 + 3 * 96 + 256 * 8
    assert len(data["op_list"]) == sum(data["ops"].values())
    assert cli.main(["inspect", str(model.parent)]) == 0
    assert data["hash"] in capsys.readouterr().out


def test_a_damaged_file_is_a_typed_error(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(model.read_bytes()[:-3])
    for name in ("inspect", "eval"):
        assert cli.main([name, str(bad), "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"]["type"] == "BadProgramFile"


def test_zoo(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    assert zoo.names() == []
    with pytest.raises(UsageError, match="no program file or shipped model 'shakespeare'"):
        zoo.resolve()
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "shakespeare" / zoo.PROGRAM).write_bytes(model.read_bytes())
    assert zoo.resolve() == zoo.resolve("shakespeare") == tmp_path / "shakespeare" / zoo.PROGRAM
    assert zoo.resolve(model) == zoo.resolve(model.parent) == model
    assert zoo.open_program(model).vocab == 256
