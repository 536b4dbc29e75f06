"""``ternac bench compress``: every compressor that is here, on a small text."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.errors import Mismatch
from ternac.host import compress_bench
from ternac.host.compress_bench import PEERS, Peer, bench_peer
from ternac.link import (
    ANSWER,
    SPAN_WORDS,
    Choice,
    Command,
    Frame,
    ReadRequest,
    RunAnswer,
    RunRequest,
    encode_words,
)
from ternac.program.random import random_program

MODEL = str(Path(__file__).parents[2] / "vectors" / "lm-bytes.safetensors")


def test_each_is_measured_or_its_absence_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [tmp_path / "one", tmp_path / "two"]
    for text in texts:
        text.write_bytes(b"a line of text, and another one\n" * 40)
    words = ["bench", "compress", *map(str, texts), "--model", MODEL, "--train", str(texts[0])]
    capsys.readouterr()
    assert main([*words, "--executor", "numpy", "--limit", "900", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    here = {name for name, peer in PEERS.items() if not peer.package or find_spec(peer.package)}
    first = {row["compressor"] for row in found["rows"] if row["text"] == "one"}
    assert first == {"random-8x8x1-256", *here} and set(found["why_null"]) == {*PEERS} - here
    second = {row["compressor"] for row in found["rows"] if row["text"] == "two"}
    assert second == {"random-8x8x1-256", *(name for name in here if not PEERS[name].trained)}
    model = found["rows"][0]
    assert model["text_bytes"] == 900 and 0 < model["overhead"] < 0.5
    assert model["share_of_feeding"] is None
    assert all(row["bits_per_byte"] > 0 and row["kb_per_cpu_second"] > 0 for row in found["rows"])
    board = found["on_board"]
    cycles = board["cycles_per_token"] + board["cycles_of_span"]
    assert board["cycles_of_span"] == 255 + 15 and board["origin"].startswith("estimate")
    assert board["tokens_per_second"] == board["clock_hz"] / cycles
    assert {one["compressor"].split()[0] for one in found["published"]} == {"ts_zip", "cmix", "Nacrith"}


def test_the_text_read_before_helps() -> None:
    data = bytes(range(256)) * 8
    for name, peer in PEERS.items():
        if peer.trained and find_spec(peer.package):
            given = bench_peer(peer, data, data * 2)["bits_per_byte"]
            assert given < bench_peer(PEERS[name.partition(", given")[0]], data, b"")["bits_per_byte"]


def test_a_compressor_that_gives_another_text_back_is_found() -> None:
    with pytest.raises(Mismatch):
        bench_peer(Peer(lambda data, before: data, lambda data, before: data + b"x"), b"text", b"")


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress_bench, "find_spec", lambda name: None)
    reason = compress_bench.why_missing(PEERS["zstd -19"])
    assert reason == "zstandard is not installed: pip install ternac[compare]"
    assert compress_bench.why_missing(PEERS["xz -9"]) == ""


def test_the_line_takes_as_many_bytes_for_a_span_as_are_counted() -> None:
    """Stuffing aside; a word less would be seen."""
    run = RunRequest(1, [1], 0, Choice(True, 1, 1, 0))

    def line(words: int) -> int:
        frames = [
            Frame(Command.RUN, 1, run.encode()),
            Frame(Command.RUN | ANSWER, 1, bytes(1) + RunAnswer([], 1, 1).encode()),
            Frame(Command.READ, 1, ReadRequest(words, 1, 1).encode()),
            Frame(Command.READ | ANSWER, 1, bytes(1) + encode_words([1] * words)),
        ]
        return sum(len(frame.encode()) + 2 for frame in frames)  # between two END

    assert line(SPAN_WORDS) == compress_bench.SPAN_LINE_BYTES != line(SPAN_WORDS - 1)


def test_a_program_that_no_board_holds_has_no_rate() -> None:
    program = random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=512)
    found = compress_bench.board_rate(program, "icebreaker", 1.0)
    assert "why_null" in found and "tokens_per_second" not in found
