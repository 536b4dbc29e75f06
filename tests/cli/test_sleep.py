"""``ternac sleep`` from the command line: of a run's model, and of a memory system's program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ternac.cli.main import main
from ternac.model.memory.sleep import base_texts, session_texts
from ternac.model.memory.system import SHIPPED
from ternac.model.net.executor import TorchExecutor
from ternac.model.training.data import SHAKESPEARE
from ternac.program.file import load

CACHE = str(SHIPPED / "cache" / "cache.safetensors")
FEW = ["--steps", "2", "--batch", "4", "--window", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny run, and a session's text beside it."""
    folder = tmp_path_factory.mktemp("sleep")
    (folder / "text.txt").write_bytes(SHAKESPEARE.read_bytes()[:4000])
    (folder / "monday.txt").write_text("All that was said on Monday.\n" * 9)
    flags = "--preset smoke --width 16 --inner 16 --layers 1 --steps 2 --batch 4 --window 32 --temper 0.9"
    assert main(["train", str(folder / "text.txt"), "--out", str(folder / "run"), *flags.split()]) == 0
    return folder


def sleep(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["sleep", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_run_sleeps_and_leaves_a_program_with_its_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice: what slept can sleep again. Its temper is that of the run."""
    first, second = tmp_path / "deep" / "one.safetensors", tmp_path / "two.safetensors"
    status, data = sleep(capsys, run / "run", run / "monday.txt", "--out", first, *FEW, "--lr", "0.5")
    assert status == 0
    before, after = load(run / "run" / "program.safetensors"), load(first)
    assert (data["from_hash"], data["hash"]) == (before.hash, after.hash) and before.hash != after.hash
    assert data["sessions"] == 1 and data["session_tokens"] == 261 and data["settings"]["heard"] == 1.0
    assert 0 < data["trits_changed"] < data["ternary_weights"] == after.trits
    assert data["base_nats"]["before"] > 0 and data["base"] == "text.txt"
    assert after.meta["slept"]["from"] == before.hash
    opened = TorchExecutor.for_program(after, first)
    assert str(opened.checkpoint) == data["checkpoint"] and opened.model.config.temper == 0.9
    status, again = sleep(
        capsys, first, run / "monday.txt", "--base", run / "text.txt", "--out", second, *FEW
    )
    assert status == 0 and again["from_hash"] == after.hash


def test_a_memory_system_sleeps_from_its_trits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sessions.json").write_text(json.dumps([each[:40] for each in session_texts()[:2]]))
    (tmp_path / "base.json").write_text(json.dumps(base_texts()[:20]))
    words = [CACHE, tmp_path / "sessions.json", "--base", tmp_path / "base.json"]
    status, data = sleep(capsys, *words, "--out", tmp_path / "new.safetensors", *FEW, "--lr", "1")
    assert status == 0 and data["sessions"] == 2 and data["session_tokens"] == 80
    assert data["weights_from"] == "trits" and data["checkpoint"] is None
    assert data["settings"]["heard"] == 0.0 and data["checked_tokens"] == 40
    assert load(tmp_path / "new.safetensors").hash == data["hash"] != data["from_hash"]


def test_what_cannot_sleep_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.safetensors"
    (tmp_path / "s.json").write_text("[1, 2, 300]")
    model, text, tokens = str(run / "run"), run / "monday.txt", tmp_path / "s.json"
    for words, message in (
        ([model, text, "--out", tmp_path / "new"], "the name must end in .safetensors"),
        ([model, text, "--out", run / "run" / "program.safetensors"], "is the program that sleeps"),
        ([model, tmp_path / "none.txt", "--out", out], "cannot read"),
        ([model, tokens, "--out", out], "session 1 has token 300, the model has 0..255"),
        ([model, text, "--out", out, "--share", "0"], "share = 0.0 is outside (0, 1]"),
        ([CACHE, tokens, "--out", out], "records the text of its training"),
        ([CACHE, text, "--out", out], "no tokenizer to read text with"),
        ([CACHE, tokens, "--base", tokens, "--out", out], "a text of 3 tokens is too short to split"),
        ([model, "--out", out], "required: SESSION"),
    ):
        status, data = sleep(capsys, *words)
        assert status == 2 and message in data["error"]["message"], data
    assert not out.exists() and not list(tmp_path.glob(".*"))
