"""``--loops`` of run, chat and eval."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.host.device import Device
from ternac.program.file import save
from ternac.run.evaluate import evaluate
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.boards import small_program
from tests.host.native.native_here import needs_native
from tests.program.memory_toy import loop_program, text_loop_program

PROGRAM = replace(text_loop_program(), meta={"tokenizer": "bytes"})


@pytest.fixture
def model(tmp_path: Path) -> str:
    save(PROGRAM, tmp_path / "loop.safetensors")
    return str(tmp_path / "loop.safetensors")


def run_json(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main([*argv, "--json"])
    return status, json.loads(capsys.readouterr().out)


def numpy_text(prompt: bytes, count: int, loops: int | None) -> list[int]:
    with Device.open("numpy", PROGRAM) as device, device.session() as session:
        return list(session.tokens(prompt, count, loops=loops))


@needs_native
def test_run_asks_for_loops(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--check feeds NumPy with the same loops."""
    texts = []
    for loops in (None, 3, 4):
        more = [] if loops is None else ["--loops", str(loops)]
        words = ["run", model, "--device", "native", "--greedy", "--prompt", "Hello", "--tokens", "9"]
        status, data = run_json(capsys, *words, "--check", *more)
        assert (status, data["loops"], data["check"]["equal"]) == (0, loops, True)
        assert data["tokens"] == numpy_text(b"Hello", 9, loops)
        texts.append(tuple(data["tokens"]))
    assert len(set(texts)) == 3


def test_chat_asks_for_loops(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []
    for loops in ("1", "4"):
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
        words = ["chat", model, "--device", "numpy", "--greedy", "--tokens", "8", "--loops", loops]
        status, data = run_json(capsys, *words)
        assert (status, data["loops"]) == (0, int(loops))
        answers.append(data["turns"][0]["answer"])
    assert answers[0] != answers[1]


def test_eval_measures_with_loops(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = np.random.default_rng(1).integers(32, 127, 300).astype(np.uint8)
    (tmp_path / "text").write_bytes(data.tobytes())
    found = []
    for loops in (1, 4):
        words = ["eval", model, "--text", str(tmp_path / "text"), "--loops", str(loops)]
        status, got = run_json(capsys, *words)
        assert (status, got["loops"]) == (0, loops)
        want = evaluate(NumpyExecutor(PROGRAM), data.astype(np.int64), loops=loops)
        assert got["nats_per_token"] == want.nats_per_token
        found.append(got["nats_per_token"])
    assert found[0] != found[1]


@pytest.mark.parametrize("verb", ["run", "chat", "eval"])
def test_loops_that_a_model_has_not_are_refused(
    verb: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(replace(small_program(), meta={"tokenizer": "bytes"}), tmp_path / "plain.safetensors")
    for path, loops, words in (
        (str(tmp_path / "plain.safetensors"), "2", "has no LOOP whose runs can be chosen"),
        (model, "5", "loops is 5, text-loop runs 1..4"),
        (model, "0", "--loops is 0, needs at least 1"),
    ):
        status, data = run_json(capsys, verb, path, "--loops", loops)
        assert (status, data["error"]["type"]) == (2, "UsageError")
        assert words in data["error"]["message"]


def test_an_engine_refuses_a_program_with_a_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So no board is ever asked for loops."""
    save(loop_program(), tmp_path / "loop.safetensors")
    words = ["run", str(tmp_path / "loop.safetensors"), "--device", "isa", "--geometry", "tiny"]
    status, data = run_json(capsys, *words, "--loops", "2")
    assert (status, data["error"]["type"]) == (2, "UnsupportedOp")
