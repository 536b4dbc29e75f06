"""Whole tokens of imported models on the RTL of the engine, weights and all from a behavioural memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli.bench import stream
from ternac.cli.main import main
from ternac.compile.wide import lower
from ternac.compile.wide_code import WideCode, encode
from ternac.errors import BuildFailed, DoesNotFit
from ternac.hdl.wide.engine import WideEngine
from ternac.hdl.wide.machine import WideMachine
from ternac.program.mmfree import Shape
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from ternac.sim.stream import IDEAL
from ternac.sim.wide import WideRun, build_wide, engine_for, run_wide

LANES, PORT_BYTES = 4, 4
WARM = 2000
"""Cycles in which FIFOs fill before the first token."""


@dataclass
class Built:
    """An engine with room for all programs here, and the program that simulates it."""

    engine: WideEngine
    program: Path

    def run(self, code: WideCode, tokens: list[int], **options: int) -> WideRun:
        return run_wide(self.program, self.engine, code, tokens, **options)


def coded(program: Program, strip: int = 16, word: int = 4) -> WideCode:
    return encode(lower(program, strip, word), LANES, port_bytes=PORT_BYTES)


@pytest.fixture(scope="module")
def built() -> Built:
    """An engine that just holds the largest program of the fast tests."""
    engine = engine_for(coded(draw(3, d=24, m=40, layers=1, vocab=20, per_token=True)))
    return Built(engine, build_wide(engine))


@pytest.fixture(scope="module")
def larger() -> Built:
    engine = WideEngine(
        port_bits=8 * PORT_BYTES, lanes=LANES, depth=4096, x_depth=1024, code_depth=256, matrices=32
    )
    return Built(engine, build_wide(engine))


def test_a_run_that_takes_too_long_is_stopped(built: Built) -> None:
    code = coded(draw(3, d=24, m=40, layers=1, vocab=20, per_token=True))
    with pytest.raises(BuildFailed, match="stopped after 100 cycles"):
        built.run(code, [1, 2], limit=100)


def draw(seed: int, **sizes: Any) -> Program:
    return random_mmfree(np.random.default_rng(seed), **sizes)


def wrong_tokens(program: Program, tokens: list[int], run: WideRun) -> list[int]:
    """The tokens behind which logits or state are not NumPy's."""
    numpy, found = NumpyExecutor(program), []
    state = numpy.open(1)
    for i, token in enumerate(tokens):
        logits = numpy.step(state, np.array([token]))[0]
        if not np.array_equal(run.logits[i], logits) or not np.array_equal(run.states[i], state[0]):
            found.append(i)
    return found


@pytest.mark.parametrize(
    ("seed", "d", "m", "vocab", "per_token"),
    [
        (3, 24, 40, 20, True),
        (2, 17, 39, 48, True),
        (4, 20, 9, 7, False),
        (5, 23, 33, 30, False),
    ],
)
def test_tokens_are_exact_and_take_the_cycles_of_the_machine(
    built: Built, seed: int, d: int, m: int, vocab: int, per_token: bool
) -> None:
    """On a memory without pauses: every logit, every state word, and equality of cycles."""
    program = draw(seed, d=d, m=m, layers=1, vocab=vocab, per_token=per_token)
    code = coded(program)
    assert len(code.words) <= built.engine.core.code_depth
    tokens = np.random.default_rng(seed).integers(0, program.vocab, 3).tolist()
    run = built.run(code, tokens, warm=WARM, **IDEAL)
    assert wrong_tokens(program, tokens, run) == [] and not run.fault
    machine = WideMachine(code.image, lanes=LANES, port_bits=8 * PORT_BYTES, latency=IDEAL["latency_min"])
    assert [machine.step(token).cycles for token in tokens] == run.token_cycles


@pytest.mark.parametrize(("gap", "slow", "stall"), [(16, 256, 0), (700, 0, 0), (300, 900, 500)])
def test_pauses_change_no_bit(built: Built, gap: int, slow: int, stall: int) -> None:
    program, tokens = draw(3, d=24, m=40, layers=1, vocab=20, per_token=True), [3, 0, 19, 3]
    options = {"gap": gap, "slow": slow, "stall": stall, "latency_max": 300, "seed": gap}
    run = built.run(coded(program), tokens, **options)
    assert wrong_tokens(program, tokens, run) == [] and not run.fault


def test_a_planted_byte_is_found(built: Built) -> None:
    """A trit of the head, a gain, an element of an embedding."""
    program, tokens = draw(3, d=24, m=40, layers=1, vocab=20, per_token=True), [1, 2]
    code = coded(program)
    weights, constants, rows = code.weights.copy(), code.constants.copy(), code.embedding.copy()
    weights[code.matrices[-1].address] ^= 1
    constants[0, 0] += 4096
    rows[2, 0, 0] ^= 1 << 12
    for change in ({"weights": weights}, {"constants": constants}, {"embedding": rows}):
        run = built.run(replace(code, **change), tokens, warm=WARM)
        assert wrong_tokens(program, tokens, run)


def test_a_program_that_does_not_fit_is_refused(built: Built) -> None:
    code, tokens = coded(draw(7, d=40, m=35, layers=2, vocab=45)), [3]
    with pytest.raises(DoesNotFit, match=r"needs \d+ instructions, this engine has"):
        built.run(code, tokens)


@pytest.mark.slow
def test_a_checkpoint_of_odd_sizes_is_exact(larger: Built, tmp_path: Path) -> None:
    """Hidden 320, inner 896, vocabulary 1,003, written in the layout of MMfreeLM and imported."""
    pytest.importorskip("torch")
    from tests.model.imports.mmfreelm_files import checkpoint
    from tests.model.imports.test_mmfreelm import convert, open_model

    sizes = {"vocab_size": 1003, "hidden_size": 320, "num_hidden_layers": 2, "intermediate_size": 896}
    program = convert(open_model(checkpoint(tmp_path / "odd", **sizes)))
    code, tokens = coded(program, 64), [5, 1002, 0]
    run = larger.run(code, tokens, warm=WARM, **IDEAL)
    assert wrong_tokens(program, tokens, run) == [] and not run.fault


def test_bench_runs_a_whole_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a small shape, which is far over the bound; a logit that differs is counted."""
    shape = Shape("370m", 24, 2, 40, vocab=20)
    monkeypatch.setitem(stream.SHAPES, "370m", shape)
    words = ["bench", "stream", "--whole", "--tokens", "2", "--json"]
    assert main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["simulated"] and (found["mismatches"], found["fault"]) == (0, 0)
    assert found["cycles_per_token"] > found["bound_cycles_per_token"] == shape.trits / 80
    assert found["logits_compared"] == 40

    honest = NumpyExecutor.step

    def planted(self: NumpyExecutor, state: Any, tokens: Any) -> Any:
        return honest(self, state, tokens) + 1

    monkeypatch.setattr(NumpyExecutor, "step", planted)
    assert main(words) == 1
    assert json.loads(capsys.readouterr().out)["mismatches"] == 2
