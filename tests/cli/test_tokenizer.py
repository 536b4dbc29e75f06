"""``ternac tokenizer``, and ``eval`` with what it made: numbers per byte and character, bad texts by name."""

from __future__ import annotations

import json
import lzma
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac import files as texts
from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.program.file import load, save
from ternac.program.random import random_program
from ternac.program.zoo import TEXT
from ternac.text.tokenizer import tokenizer_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text.txt, text.txt.xz, tok.json with 96 tokens, model.safetensors that carries it."""
    folder = tmp_path_factory.mktemp("tok")
    data = TEXT.read_bytes()[:20_000]
    (folder / "text.txt").write_bytes(data)
    with lzma.open(folder / "text.txt.xz", "wb") as file:
        file.write(data)
    words = ["train", str(folder / "text.txt.xz"), "--vocab", "96", "--out", str(folder / "tok.json")]
    assert main(["tokenizer", *words]) == 0
    program = random_program(np.random.default_rng(1), d=12, m=16, layers=1, vocab=96)
    carried = replace(
        program, meta={"tokenizer": "huggingface"}, tokenizer=(folder / "tok.json").read_bytes()
    )
    save(carried, folder / "model.safetensors")
    return folder


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_train_and_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(folder / "text.txt")
    status, shown = run(capsys, "tokenizer", "show", text, "--tokenizer", str(folder / "tok.json"))
    assert (status, shown["vocab"], shown["lossless"]) == (0, 96, True)
    assert 1.2 < float(str(shown["bytes_per_token"])) < 3
    assert (
        shown == run(capsys, "tokenizer", "show", text, "--tokenizer", str(folder / "model.safetensors"))[1]
    )
    assert run(capsys, "tokenizer", "show", text)[1]["bytes_per_token"] == 1
    _, trained = run(capsys, "tokenizer", "train", text, "--vocab", "96", "--out", str(folder / "again.json"))
    assert (folder / "again.json").read_bytes() == (folder / "tok.json").read_bytes()
    assert trained["widest_model"] == shown["widest_model"]


def test_eval_counts_bytes_and_characters(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "unseen.txt"
    text = "Caf\u00e9s of K\u00f6ln \u2014 never seen before.\n" * 30
    path.write_text(text)
    status, data = run(capsys, "eval", str(folder / "model.safetensors"), "--text", str(path))
    ids = tokenizer_of(load(folder / "model.safetensors")).encode(text.encode()).ids
    assert (status, data["tokens"], data["tokenizer"]) == (0, len(ids) - 1, "huggingface")
    nats = float(str(data["nats_per_token"])) * (len(ids) - 1)
    assert data["bits_per_byte"] == pytest.approx(nats / math.log(2) / (len(text.encode()) - 1))
    assert data["nats_per_char"] == pytest.approx(nats / (len(text) - 1))
    assert data["executor"] == "numpy"
    cut = len("Caf\u00e9".encode()) - 1  # the limit falls inside a character
    assert (
        run(capsys, "eval", str(folder / "model.safetensors"), "--text", str(path), "--limit", str(cut))[0]
        == 0
    )


@pytest.mark.parametrize("verb", ["eval", "tokenizer"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"abc \xff\xfe def" * 9, "not UTF-8: byte 4 is 0xff"),
        (b"\x00\x01", "outside|at least 2|has 1 token"),
    ],
)
def test_bad_texts(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    if verb == "eval":
        words = ["eval", str(folder / "model.safetensors"), "--text", str(path)]
        if content == b"\x00\x01":
            words += ["--limit", "2"]
            path.write_bytes(b"t")
    else:
        words = ["tokenizer", "train", str(path), "--vocab", "5", "--out", str(tmp_path / "t.json")]
    status, data = run(capsys, *words)
    error = data["error"]
    assert isinstance(error, dict)
    assert (status, error["type"]) == (2, "UsageError")
    assert re.search(message, error["message"])
    assert not (tmp_path / "t.json").exists()


def test_a_byte_model_reads_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = random_program(np.random.default_rng(1), d=8, m=8, layers=1, vocab=256)
    save(replace(program, meta={"tokenizer": "bytes"}), tmp_path / "m.safetensors")
    (tmp_path / "t").write_bytes(b"\xff\xfe\x00" * 50)
    status, data = run(capsys, "eval", str(tmp_path / "m.safetensors"), "--text", str(tmp_path / "t"))
    assert (status, data["tokens"], data["nats_per_char"]) == (0, 149, None)
    assert data["bits_per_byte"] == pytest.approx(float(str(data["nats_per_token"])) / math.log(2))


def test_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / "text.txt").read_bytes()
    assert texts.read_bytes(folder / "text.txt.xz") == whole
    assert texts.read_bytes(folder / "text.txt.xz", 7) == whole[:7]
    broken = tmp_path / "b.xz"
    for data in (b"no xz", (folder / "text.txt.xz").read_bytes()[:-40]):
        broken.write_bytes(data)
        with pytest.raises(UsageError, match=r"not a whole \.xz file"):
            texts.read_bytes(broken)
    monkeypatch.setattr(texts, "MAX_TEXT", 1000)
    for name in ("text.txt", "text.txt.xz"):
        with pytest.raises(UsageError, match="more than 1000 bytes"):
            texts.read_bytes(folder / name)
        assert len(texts.read_bytes(folder / name, 900)) == 900
