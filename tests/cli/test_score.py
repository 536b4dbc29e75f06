"""``ternac score`` and ``ternac watch``: a log, its threshold, what is above it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ternac.cli.main import main

MODEL = str(Path(__file__).parents[1] / "vectors" / "lm-bytes.safetensors")
PLAIN = ["--model", MODEL, "--executor", "numpy"]
LOG = b"".join(b"line %d of a log\n" % at for at in range(40))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "a.log"
    path.write_bytes(LOG)
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    status = main([*words, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (2 if "error" in found else 0)
    return found


def test_a_log_is_scored_calibrated_and_compared(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limit, lines = log.with_name("limit.json"), log.with_name("lines.jsonl")
    words = ["score", str(log), *PLAIN, "--calibrate", str(limit), "--quantile", "0.9", "--lines", str(lines)]
    made = answer(capsys, *words)
    assert made["lines"] == 40 and made["text_bytes"] == len(LOG)
    each = [json.loads(line) for line in lines.read_text().splitlines()]
    assert sum(one["bits"] for one in each) == pytest.approx(made["bits"])
    assert sorted(one["bits"] for one in each)[35] == made["threshold"]
    assert json.loads(limit.read_text())["cost"] == made["threshold"] * 65536
    assert [one["bits"] for one in made["worst"]] == sorted((one["bits"] for one in each), reverse=True)[:5]
    found = answer(capsys, "score", str(log), *PLAIN, "--threshold", str(limit), "--out", f"{log}.png")
    assert found["anomalies"] == 4
    assert Path(f"{log}.png").read_bytes()[:4] == b"\x89PNG"
    assert answer(capsys, "score", str(log), *PLAIN, "--threshold", "0")["anomalies"] == 40


def test_the_ends_of_a_log(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(b"")
    assert answer(capsys, "score", str(log), *PLAIN)["lines"] == 0
    assert "no quantile" in answer(capsys, "score", str(log), *PLAIN, "--calibrate", "x")["error"]["message"]
    log.write_bytes(b"x")
    assert answer(capsys, "score", str(log), *PLAIN)["bits"] == 8


def test_what_score_refuses(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--quantile", "0.5"], "--calibrate"),
        (["--calibrate", "a", "--threshold", "5"], "--calibrate makes"),
        (["--lines", "-"], "both want standard output"),
        (["--threshold", "-1"], "needs 0 to 1e9"),
        (["--threshold", "nan"], "needs 0 to 1e9"),
        (["--threshold", f"{log}.none"], "cannot read"),
        (["--threshold", str(log)], "is not JSON"),
        (["--out", "a.txt"], "must end in"),
    ):
        error = answer(capsys, "score", str(log), *PLAIN, *words)["error"]
        assert said in error["message"] and error["hint" if "must end" not in said else "message"]


def test_lines_of_a_pipe() -> None:
    command = [sys.executable, "-m", "ternac.cli", "score", "-", *PLAIN, "--lines", "-"]
    done = subprocess.run(command, input=LOG, capture_output=True, check=True)
    assert [json.loads(line)["line"] for line in done.stdout.splitlines()] == list(range(1, 41))
    assert b"40 lines" in done.stderr


def test_a_log_is_watched_from_its_next_line_on(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model has read the lines before; those that come are the ones of a file scored whole."""
    whole = log.with_name("whole.log")
    whole.write_bytes(LOG + b"odd\nanother\n")
    lines = log.with_name("lines.jsonl")
    answer(capsys, "score", str(whole), *PLAIN, "--lines", str(lines))
    want = [json.loads(line) for line in lines.read_text().splitlines()][-2:]

    def write() -> None:
        with log.open("ab") as sink:
            sink.write(b"odd\nanother\n")

    later = threading.Timer(0.7, write)
    later.start()
    metrics = log.with_name("m.prom")
    words = ["watch", str(log), *PLAIN, "--poll", "0.05", "--idle", "3", "--metrics", str(metrics), "--all"]
    capsys.readouterr()
    assert main(words) == 0
    later.join()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for one, other in zip(found, want, strict=True):
        assert {**one, "line": 0} == {**other, "line": 0}
    assert "ternac_watch_line_bits_count" in metrics.read_text()


def test_only_what_is_above_the_threshold_is_printed(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["watch", str(log), *PLAIN, "--from-start", "--idle", "0.05", "--poll", "0.02"]
    data = answer(capsys, *words, "--threshold", "100000")
    assert (data["lines"], data["anomalies"]) == (40, 0)
    assert main([*words, "--threshold", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 40


def test_what_watch_refuses(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "pipe" in answer(capsys, "watch", "-", *PLAIN, "--from-start")["error"]["message"]
    error = answer(capsys, "watch", str(log), *PLAIN, "--metrics", "x")["error"]
    assert "no place for metrics" in error["message"]
    assert answer(capsys, "watch", f"{log}.none", *PLAIN)["error"]["hint"]
