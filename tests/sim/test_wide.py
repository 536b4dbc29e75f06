"""Whole tokens of imported models on the RTL of the engine, weights and all from a behavioural memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.compile.wide import lower
from ternac.compile.wide_code import WideCode, encode
from ternac.hdl.wide.engine import WideEngine
from ternac.hdl.wide.machine import WideMachine
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
        return run_wide(self.program, self.engine, code, tokens, limit=20_000_000, **options)


def coded(program: Program, strip: int = 16, word: int = 4) -> WideCode:
    return encode(lower(program, strip, word), LANES, port_bytes=PORT_BYTES)


@pytest.fixture(scope="module")
def built() -> Built:
    """An engine that just holds the largest program of the fast tests."""
    engine = engine_for(coded(draw(3, d=24, m=40, layers=1, vocab=20, per_token=True)))
    return Built(engine, build_wide(engine))


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


def test_tokens_are_exact_and_take_the_cycles_of_the_machine(built: Built) -> None:
    """On a memory without pauses: every logit, every state word, and equality of cycles."""
    program = draw(3, d=24, m=40, layers=1, vocab=20, per_token=True)
    code = coded(program)
    tokens = np.random.default_rng(3).integers(0, program.vocab, 3).tolist()
    run = built.run(code, tokens, warm=WARM, **IDEAL)
    assert wrong_tokens(program, tokens, run) == [] and not run.fault
    assert wrong_tokens(program, [(token + 1) % 20 for token in tokens], run)  # of other tokens
    machine = WideMachine(code.image, lanes=LANES, port_bits=8 * PORT_BYTES, latency=IDEAL["latency_min"])
    assert [machine.step(token).cycles for token in tokens] == run.token_cycles
