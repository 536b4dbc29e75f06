"""Tokens of random imported models in Icarus Verilog, and after synthesis: equal to NumPy's."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.compile import wide_board
from ternac.compile.wide import lower
from ternac.compile.wide_code import WideCode, encode
from ternac.compile.wide_memory import lay_out
from ternac.errors import BuildFailed
from ternac.hdl.wide.engine import WideEngine
from ternac.host.device import Device
from ternac.host.verify import BoardRunner
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from ternac.sim.stream import IDEAL
from ternac.sim.verify import ExecutorRunner, Runner, verify
from ternac.sim.wide import WideRun, build_wide, engine_for, run_wide
from ternac.sim.wide_verilog import build_icarus, run_icarus

LANES, PORT_BYTES = 4, 4
needs_icarus = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")


def draw(seed: int, **sizes: Any) -> Program:
    return random_mmfree(np.random.default_rng(seed), **sizes)


def coded(program: Program) -> WideCode:
    return encode(lower(program, word=PORT_BYTES), LANES, port_bytes=PORT_BYTES)


@dataclass
class Built:
    """An engine with room for all programs here, in Icarus."""

    engine: WideEngine
    program: Path


@pytest.fixture(scope="module")
def icarus(tmp_path_factory: pytest.TempPathFactory) -> Built:
    engine = engine_for(coded(draw(3, d=24, m=40, layers=1, vocab=20, per_token=True)), spare=True)
    return Built(engine, build_icarus(engine, tmp_path_factory.mktemp("icarus")))


def wrong_tokens(program: Program, tokens: list[int], run: WideRun) -> list[int]:
    """The tokens behind which logits or state are not NumPy's."""
    numpy, found = NumpyExecutor(program), []
    state = numpy.open(1)
    for i, token in enumerate(tokens):
        logits = numpy.step(state, [token])[0]
        if not np.array_equal(run.logits[i], logits) or not np.array_equal(run.states[i], state[0]):
            found.append(i)
    return found


@needs_icarus
@pytest.mark.parametrize(
    ("seed", "d", "m", "vocab", "per_token"),
    [(1, 11, 14, 9, True), (2, 7, 22, 20, False), (6, 16, 8, 5, True)],
)
def test_icarus_gives_the_tokens_of_numpy(
    icarus: Built, seed: int, d: int, m: int, vocab: int, per_token: bool
) -> None:
    """On a memory that pauses in a quarter of the cycles."""
    program = draw(seed, d=d, m=m, layers=1, vocab=vocab, per_token=per_token)
    tokens = np.random.default_rng(seed).integers(0, vocab, 2).tolist()
    run = run_icarus(icarus.program, icarus.engine, coded(program), tokens, gap=256, seed=seed)
    assert wrong_tokens(program, tokens, run) == []


@needs_icarus
def test_both_simulators_take_the_same_cycles(icarus: Built) -> None:
    """On a memory without pauses, for tokens before which all FIFOs are full."""
    program, tokens = draw(6, d=9, m=8, layers=1, vocab=5, per_token=True), [3, 0, 4]
    code = coded(program)
    ours = run_icarus(icarus.program, icarus.engine, code, tokens)
    theirs = run_wide(build_wide(icarus.engine), icarus.engine, code, tokens, **IDEAL)
    assert np.array_equal(ours.logits, theirs.logits) and np.array_equal(ours.states, theirs.states)
    assert list(ours.ended)[1:] == theirs.token_cycles[1:]


@needs_icarus
def test_icarus_finds_a_wrong_word_and_ends_where_none_comes(icarus: Built) -> None:
    program, tokens = draw(6, d=9, m=8, layers=1, vocab=5, per_token=True), [3]
    code = coded(program)
    rows = code.embedding.copy()
    rows[3, 0, 0] ^= 1 << 12
    run = run_icarus(icarus.program, icarus.engine, replace(code, embedding=rows), tokens)
    assert wrong_tokens(program, tokens, run) == [0]
    with pytest.raises(BuildFailed, match="stopped after 501 cycles"):
        run_icarus(icarus.program, icarus.engine, code, tokens, limit=500)


@pytest.mark.slow
def test_the_netlist_gives_tokens_states_and_choices_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an engine with two lanes, its sampler and link, for ECP5; a wrong word of its memory is found."""
    program, tokens = draw(3, d=14, m=19, layers=1, vocab=20, per_token=True), [4, 19, 0, 7, 7, 1]

    def differences() -> list[Any]:
        with Device.open("netlist", program, board="axi-wide-32x2") as device:
            runners: list[Runner] = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "netlist")]
            return verify(program, runners, tokens, lambda done: None)

    assert differences() == []

    def planted(*args: Any) -> Any:
        memory = lay_out(*args)
        memory.image[memory.rows + 7 * memory.row_bytes + 1] ^= 16
        return memory

    monkeypatch.setattr(wide_board, "lay_out", planted)
    (found,) = differences()
    assert found.token == 3
