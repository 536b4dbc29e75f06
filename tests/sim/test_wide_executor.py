"""``verify`` of imported models: the RTL of the whole engine as an executor, equal to NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.compile import wide_memory
from ternac.compile.wide import lower
from ternac.compile.wide_code import encode
from ternac.errors import NoAnswer, UsageError
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from ternac.sim import wide
from ternac.sim.wide_executor import WideExecutor

LANES, PORT_BITS = 4, 32
BOARD = "axi-wide-32x4"
"""All programs here run on one engine, which is compiled in seconds."""


@pytest.fixture
def program() -> Program:
    return random_mmfree(np.random.default_rng(3), d=24, m=40, layers=1, vocab=20, per_token=True)


@pytest.fixture
def rtl(program: Program) -> Iterator[WideExecutor]:
    executor = WideExecutor(program, LANES, PORT_BITS)
    yield executor
    executor.close()
    executor.close()


def test_sessions_in_turn_are_those_of_numpy(program: Program, rtl: WideExecutor) -> None:
    """Three at a time, a fork of one, one that stands still while others run, and a state of any words."""
    numpy, rng = NumpyExecutor(program), np.random.default_rng(5)
    expected, states = numpy.open(3), rtl.open(3)
    expected[2] = states[2] = rng.integers(-32768, 32768, program.state_words)
    for rows in ([0, 1, 2], [1], [1], [2, 0], [0, 1, 2]):
        tokens = rng.integers(0, program.vocab, len(rows)).tolist()
        ours, theirs = expected[rows], states[rows]
        assert np.array_equal(numpy.step(ours, tokens), rtl.step(theirs, tokens))
        assert np.array_equal(ours, theirs)
        expected[rows], states[rows] = ours, theirs
    assert rtl.cycles > rtl.beats > 0


@pytest.mark.parametrize("part", ["weights", "constants", "embedding"])
def test_a_wrong_word_of_memory_is_found(program: Program, part: str) -> None:
    code = encode(lower(program, word=PORT_BITS // 8), LANES, port_bytes=PORT_BITS // 8)
    words = getattr(code, part).copy()
    # A trit of the head, a gain of the norm before it, an element of a row.
    at, bit = {"weights": (code.matrices[-1].address, 1), "constants": (-1, 4096), "embedding": (0, 4096)}[
        part
    ]
    words.reshape(-1)[at] ^= bit
    executor = WideExecutor(program, code=replace(code, **{part: words}))
    numpy = NumpyExecutor(program)
    expected, state = numpy.open(), executor.open()
    same = [
        np.array_equal(numpy.step(expected, [token]), executor.step(state, [token]))
        for token in range(program.vocab)
    ]
    executor.close()
    assert not all(same)


def test_a_simulation_that_ended_and_a_bad_token_are_told(program: Program, rtl: WideExecutor) -> None:
    state = rtl.open()
    with pytest.raises(UsageError, match="a token is not an integer in 0..19"):
        rtl.step(state, [20])
    rtl.close()
    with pytest.raises(UsageError, match="closed"):
        rtl.step(state, [3])
    short = WideExecutor(program, LANES, PORT_BITS, limit=100)
    with pytest.raises(NoAnswer, match="ended with status 3: stopped after 100 cycles"):
        short.step(state, [3])
    short.close()


def verify(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    status = cli.main(["verify", *words, "--json"])
    found = capsys.readouterr()
    return status, json.loads(found.out or "{}"), found.err


def test_the_verb_compares_logits_and_states(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds one bit of the embedding of the token that is run third."""
    path = tmp_path / "wide.safetensors"
    save(program, path)
    words = [str(path), "--executors", "numpy,native,rtl", "--tokens", "5", "--board", BOARD]
    status, found, err = verify(words, capsys)
    assert (status, found["mismatches"], found["executors"]) == (0, 0, ["numpy", "native", "rtl"])
    assert found["cycles"]["rtl"] > 0 and found["geometry"] == BOARD
    assert "s of simulation" in err
    third = np.random.default_rng(0).integers(0, program.vocab, 5)[2]
    honest = wide_memory.lay_out

    def planted(*args: Any) -> Any:
        memory = honest(*args)
        memory.image[memory.rows + third * memory.row_bytes + 1] ^= 16
        return memory

    monkeypatch.setattr(wide, "lay_out", planted)
    status, found, err = verify(words, capsys)
    assert (status, found["mismatches"]) == (1, 1)
    (divergence,) = found["divergences"]
    assert divergence["token"] == 2 and divergence["executors"] == ["numpy", "rtl"]


def test_options_of_another_engine_are_refused(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.safetensors"
    save(program, path)
    for option in ("--geometry", "tiny"), ("--board", "icebreaker"):
        status, _, err = verify([str(path), "--executors", "numpy,rtl", *option], capsys)
        assert status == 2 and f"{option[0]} has no effect" in err
    status, _, err = verify([str(path), "--executors", "numpy,rtl", "--board", "axi-wide-32x3"], capsys)
    assert status == 2 and "lanes are a power of two" in err
    status, _, err = verify(["shakespeare", "--executors", "numpy,rtl", "--board", BOARD], capsys)
    assert status == 2 and "has no wide ops" in err
    status, _, err = verify([str(path), "--executors", "numpy,isa"], capsys)
    assert status != 0 and "does not have the ops of imported models" in err


def test_a_checkpoint_is_told_from_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from tests.model.imports.mmfreelm_files import checkpoint

    folder = checkpoint(tmp_path / "published")
    for given in (folder, folder / "model.safetensors"):
        status, _, err = verify([str(given), "--executors", "numpy,rtl"], capsys)
        assert status != 0 and "ternac import" in err
