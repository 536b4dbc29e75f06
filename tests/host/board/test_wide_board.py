"""A whole engine for imported models as a board: driver, sessions, snapshots and sampling, equal to NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.compile import wide_board
from ternac.compile.geometry import Mem
from ternac.compile.wide_memory import lay_out
from ternac.errors import NoAnswer, UsageError
from ternac.host.device import Device
from ternac.host.verify import BoardRunner, several
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling
from ternac.sim import wide_board as simulated
from ternac.sim.verify import ExecutorRunner, Runner, verify

BOARD = "axi-wide-32x4"


@pytest.fixture(scope="module")
def program() -> Program:
    found = random_mmfree(np.random.default_rng(3), d=24, m=40, layers=1, vocab=256, per_token=True)
    return replace(found, meta={"tokenizer": "bytes"})


@pytest.fixture(scope="module")
def device(program: Program) -> Iterator[Device]:
    with Device.open("sim", program, board=BOARD) as found:
        yield found


def ids(program: Program, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(9).integers(0, program.vocab, count)]


def test_logits_states_and_choices_equal_numpy(program: Program, device: Device) -> None:
    """Argmax and draw in turn, with the generator behind each."""
    runner = BoardRunner(device, "rtl")
    assert not verify(
        program, [ExecutorRunner(NumpyExecutor(program)), runner], ids(program, 6), lambda n: None
    )
    assert runner.cycles > 0
    runner.release()


def test_more_sessions_than_the_bank_holds_take_turns(program: Program, device: Device) -> None:
    slots = len(device.board.slots.users)
    runner = BoardRunner(device, "rtl")
    runner.release()
    assert not several(program, runner, slots + 2, ids(program, 6))


def test_a_snapshot_is_that_of_numpy(program: Program, device: Device) -> None:
    """And the board goes on from NumPy's; tokens drawn among the likeliest."""
    rule = Sampling.from_temperature(0.9, program.logit_scale_bits, 5)
    with Device.open("numpy", program) as numpy:
        ours, theirs = device.session(seed=4), numpy.session(seed=4)
        assert list(ours.tokens([3, 1, 4, 1, 5], 8, rule)) == list(theirs.tokens([3, 1, 4, 1, 5], 8, rule))
        assert ours.snapshot() == theirs.snapshot()
        taken = theirs.snapshot()
        first = list(ours.tokens([2], 5, rule))
        assert first == list(theirs.tokens([2], 5, rule))
        ours.restore(taken)
        assert list(ours.tokens([2], 5, rule)) == first
        ours.close()


def test_a_wrong_word_of_memory_is_found(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lay_out

    def planted(*args: Any) -> Any:
        memory = honest(*args)
        memory.image[memory.rows + 7 * memory.row_bytes + 1] ^= 16
        return memory

    monkeypatch.setattr(wide_board, "lay_out", planted)
    with Device.open("sim", program, board=BOARD) as wrong:
        runners: list[Runner] = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(wrong, "rtl")]
        (found,) = verify(program, runners, [1, 2, 7], lambda n: None)
    assert found.token == 2


def test_a_fault_of_the_port_ends_the_board(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor whose beats do not fit its rows."""
    honest = wide_board._memories

    def planted(*args: Any) -> Any:
        memories = honest(*args)
        memories[Mem.WEIGHT][0, 2] += 1
        return memories

    monkeypatch.setattr(wide_board, "_memories", planted)
    with (
        pytest.raises(NoAnswer, match="the port's fault bits are"),
        Device.open("sim", program, board=BOARD) as d,
    ):
        list(d.session().tokens([1, 2], 2))


def test_run_prints_the_text_of_numpy(
    program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.safetensors"
    save(program, path)
    words = ["run", str(path), "--device", "sim", "--board", BOARD, "--tokens", "6", "--seed", "3", "--check"]
    assert cli.main([*words, "--prompt", "To be", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["check"] == {"tokens": 6, "equal": True, "first_difference": None}
    assert cli.main(["build", "--board", BOARD, "--json"]) == 2
    assert "axi-wide" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_odd_sizes_runs_on_the_default_engine(tmp_path: Path) -> None:
    """Hidden 320, inner 896, vocabulary 1,003, imported: eight lanes, 128 bits; drawn tokens, too."""
    pytest.importorskip("torch")
    from tests.model.imports.mmfreelm_files import checkpoint
    from tests.model.imports.test_mmfreelm import convert, open_model

    sizes = {"vocab_size": 1003, "hidden_size": 320, "num_hidden_layers": 2, "intermediate_size": 896}
    odd = convert(open_model(checkpoint(tmp_path / "odd", **sizes)))
    with Device.open("sim", odd) as board:
        assert board.board_name == "axi-wide-128x8"
        runners: list[Runner] = [ExecutorRunner(NumpyExecutor(odd)), BoardRunner(board, "rtl")]
        assert not verify(odd, runners, [5, 1002, 0, 17, 17, 600], lambda n: None)


def test_boards_and_programs_that_do_not_fit_are_refused(program: Program) -> None:
    for board, why in (
        ("axi-wide-32", "is no engine for imported models"),
        ("axi-wide-48x4", "the port has 48 bits and there are 4 lanes"),
        ("axi-wide-32x8", "at most its bytes"),
    ):
        with pytest.raises(UsageError) as caught:
            Device.open("sim", program, board=board)
        assert why in f"{caught.value} {caught.value.hint}"
    with pytest.raises(UsageError, match="needs a program"):
        Device.open("sim", board=BOARD)
    small = random_program(np.random.default_rng(1), 12, 20, 2, 256)
    with pytest.raises(Exception, match="the wide unit"):
        Device.open("sim", small, board=BOARD)
    assert simulated.MAIN.is_file()
