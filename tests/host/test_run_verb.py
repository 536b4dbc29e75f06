"""``ternac run``: text, JSON, the check against NumPy, errors."""

from __future__ import annotations

import json

import pytest

from ternac.cli import main
from ternac.host import device as device_module
from ternac.host.verbs import VERBS
from ternac.program import save
from tests.host.boards import Line, image_of, make_board, small_program

PROGRAM = small_program()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.safetensors"
    save(PROGRAM, path)
    return str(path)


@pytest.fixture
def board(monkeypatch):
    """A board in Python on every line that a device opens."""
    board = make_board(image_of(PROGRAM))
    monkeypatch.setattr(device_module, "_line", lambda *arguments: Line(board))
    return board


def run_json(capsys, *argv):
    status = main(["run", *argv, "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out), err


def test_numpy(capsys, model):
    status, data, err = run_json(capsys, model, "--prompt", "abc", "--tokens", "12")
    assert status == 0
    assert len(data["tokens"]) == 12
    assert data["text"] == bytes(data["tokens"]).decode(errors="replace")
    assert data["origin"] == "NumPy on this host, measured"
    assert data["program_hash"] == PROGRAM.hash
    assert "abc" in err


def test_text_on_standard_output(capsys, model):
    assert main(["run", model, "--prompt", "abc", "--tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("abc")
    assert "tokens/s: NumPy on this host" in out


@pytest.mark.parametrize("sampling", [[], ["--temperature", "0.9", "--top-k", "20", "--seed", "7"]])
def test_board_with_check(capsys, model, board, sampling):
    options = ["--device", "serial:fake", "--board", "tiny", "--tokens", "40", "--check"]
    status, data, _ = run_json(capsys, model, *options, *sampling)
    assert status == 0
    assert data["check"] == {"tokens": 40, "equal": True, "first_difference": None}
    assert data["cycles_per_token"] == 1000
    assert data["bitstream_id"] == board.identity.bitstream_id.hex()
    assert data["origin"].startswith("measured on board")


def test_simulated_board_says_simulation(capsys, model, board):
    status, data, _ = run_json(capsys, model, "--device", "sim", "--board", "tiny", "--tokens", "4")
    assert status == 0
    assert data["origin"].startswith("cycle-exact simulation: 1,000 cycles/token, no routed clock for tiny")
    assert data["tokens_per_second"] is None


def test_check_finds_a_wrong_bit(capsys, model, board):
    """One flipped trit in the board's weights: the check fails, and says where."""
    assert run_json(capsys, model, "--device", "sim", "--board", "tiny", "--tokens", "1")[0] == 0
    weights = board.engine._image.memories[1]
    weights[:, :] ^= 1
    board.engine._machine = None
    options = ["--device", "sim", "--board", "tiny", "--tokens", "30", "--check"]
    status, data, err = run_json(capsys, model, *options)
    assert status == 1
    assert data["check"]["equal"] is False
    assert f"token {data['check']['first_difference']} is" in err


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["--prompt", ""], "UsageError"),
        (["--tokens", "-1"], "UsageError"),
        (["--temperature", "-1"], "UsageError"),
        (["--device", "abacus"], "UsageError"),
        (["--device", "/dev/null/nothing"], "NoAnswer"),
        (["--device", "sim", "--board", "atari"], "UsageError"),
        (["--device", "sim", "--board", "tiny", "--bitstream", "22" * 16], "WrongBitstream"),
        (["--device", "sim", "--board", "icebreaker"], "WrongGeometry"),
    ],
)
def test_errors_are_typed(capsys, model, monkeypatch, arguments, kind):
    line = device_module._line
    board = make_board(image_of(PROGRAM))
    monkeypatch.setattr(
        device_module, "_line", lambda k, *rest: Line(board) if k == "sim" else line(k, *rest)
    )
    status, data, _ = run_json(capsys, model, *arguments)
    assert status == 2
    assert data["error"]["type"] == kind


def test_help_shows_an_example(capsys):
    assert main(["run", "--help"]) == 0
    assert VERBS["run"].example in capsys.readouterr().out
