"""``ternac compress`` and ``decompress``: files and pipes, what is refused, what a kill leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ternac.cli.main import main

MODEL = str(Path(__file__).parents[1] / "vectors" / "lm-bytes.safetensors")
TEXT = b"a text of several lines\n" * 300
PLAIN = ["--model", MODEL, "--executor", "numpy"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def error(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    status, found = answer(capsys, *words)
    assert status == 2 and found["error"]["hint"]
    return dict(found["error"])


def piped(data: bytes, *words: str) -> bytes:
    command = [sys.executable, "-m", "ternac.cli", *words]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def test_a_file_there_and_back(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, made = answer(capsys, "compress", str(text), *PLAIN)
    archive = Path(f"{text}.tnc")
    assert status == 0 and made["archive_bytes"] == archive.stat().st_size
    assert made["text_bytes"] == len(TEXT) and made["executor"] == "numpy"
    assert made["model_bits_per_byte"] < made["bits_per_byte"]
    text.unlink()
    status, back = answer(capsys, "decompress", str(archive), *PLAIN)
    assert status == 0 and back["text_bytes"] == len(TEXT)
    assert text.read_bytes() == TEXT
    part = text.with_name("part")
    words = ["decompress", str(archive), *PLAIN, "--range", "5:99", "--out", str(part)]
    assert answer(capsys, *words)[0] == 0
    assert part.read_bytes() == TEXT[5:99]


def test_pipes(text: Path) -> None:
    archive = piped(TEXT, "compress", "-", *PLAIN)
    assert piped(archive, "decompress", "-", *PLAIN) == TEXT
    assert piped(piped(b"", "compress", "-", *PLAIN), "decompress", "-", *PLAIN) == b""


def test_what_is_refused(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive, same = Path(f"{text}.tnc"), str(text)
    assert main(["compress", same, *PLAIN]) == 0
    held = archive.read_bytes()
    assert "both want" in error(capsys, "compress", same, *PLAIN, "--out", "-")["message"]
    assert "is the file that is read" in error(capsys, "compress", same, *PLAIN, "--out", same)["message"]
    assert "--out FILE" in error(capsys, "decompress", same, *PLAIN)["hint"]
    for given in ("5", "7:3", "a:b", "-1:2"):
        assert error(capsys, "decompress", str(archive), *PLAIN, f"--range={given}")["type"] == "UsageError"
    beyond = error(capsys, "decompress", str(archive), *PLAIN, "--range", "0:99999", "--out", f"{same}.part")
    assert beyond["type"] == "ArchiveError" and not Path(f"{same}.part").exists()
    other = error(capsys, "decompress", str(archive), "--model", "prose", "--out", f"{same}.out")
    assert other["type"] == "WrongProgram"
    assert "--model FILE" in error(capsys, "decompress", str(archive), "--out", f"{same}.out")["hint"]
    assert "no archive" in error(capsys, "decompress", same, *PLAIN, "--out", f"{same}.out")["message"]
    words = ["compress", same, "--model", MODEL, "--device", "numpy"]
    assert error(capsys, *words)["type"] == "UnknownExecutor"
    assert "--executor" in error(capsys, *words[:-1], "sim", "--executor", "numpy")["message"]
    assert "--threads" in error(capsys, "compress", same, *PLAIN, "--threads", "2")["message"]
    assert error(capsys, "compress", f"{same}.none", *PLAIN)["hint"]
    assert archive.read_bytes() == held and names(text.parent) == ["text.txt", "text.txt.tnc"]


def test_a_damaged_archive_leaves_no_text(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = Path(f"{text}.tnc")
    assert main(["compress", str(text), *PLAIN, "--block", "1"]) == 0
    text.unlink()
    data = bytearray(archive.read_bytes())
    data[-60] ^= 1  # the blocks before it are fine
    archive.write_bytes(data)
    assert error(capsys, "decompress", str(archive), *PLAIN)["type"] == "ArchiveError"
    assert names(text.parent) == [archive.name]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_is_stopped_leaves_the_old_archive(how: signal.Signals, tmp_path: Path) -> None:
    """Stopped while blocks are being written; the next run takes away what a kill left."""
    out = tmp_path / "out.tnc"
    out.write_bytes(b"old")
    command = [sys.executable, "-m", "ternac.cli", "compress", "-", *PLAIN, "--block", "1", "--out", str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(bytes(1 << 18))  # several groups: the first is written while the second is coded
    process.stdin.flush()
    for _ in range(1200):
        if any(path.name != "out.tnc" and path.stat().st_size > 48 for path in tmp_path.iterdir()):
            break
        time.sleep(0.05)
    else:
        pytest.fail("nothing was written in a minute")
    process.send_signal(how)
    process.stdin.close()
    assert process.wait(60) != 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert out.read_bytes() == b"old"
    if how == signal.SIGINT:
        assert names(tmp_path) == ["out.tnc"]
    (tmp_path / "in").write_bytes(b"new")
    assert main(["compress", str(tmp_path / "in"), *PLAIN, "--out", str(out)]) == 0
    assert names(tmp_path) == ["in", "out.tnc"]
