"""Whole tokens of imported models, weights and all from an SDRAM of 16 bits, its rules checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.compile.wide import lower
from ternac.compile.wide_code import WideCode, encode
from ternac.compile.wide_memory import lay_out
from ternac.errors import BuildFailed
from ternac.hdl.wide.sdram import SdramWideEngine
from ternac.hdl.wide.shapes import wide_shape
from ternac.program.program import Program
from ternac.sim.sdram_wide import build_sdram_wide, run_sdram_wide
from tests.sim.test_wide import draw, wrong_tokens

SHAPE = replace(wide_shape("ulx3s-85f-wide"), depth=1024, x_depth=64, code_depth=256, matrices=16)


@dataclass
class Built:
    engine: SdramWideEngine
    program: Path


@pytest.fixture(scope="module")
def built() -> Built:
    engine = SdramWideEngine(SHAPE.engine(), ULX3S_CHIP, NOMINAL_HZ)
    return Built(engine, build_sdram_wide(engine))


def coded(program: Program) -> WideCode:
    return encode(lower(program, 16, SHAPE.port_bits // 8), SHAPE.lanes, port_bytes=SHAPE.port_bits // 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "d", "m", "vocab", "per_token"),
    [(3, 24, 40, 20, True), (5, 23, 33, 30, False), (9, 64, 96, 300, True)],
)
def test_tokens_are_exact(built: Built, seed: int, d: int, m: int, vocab: int, per_token: bool) -> None:
    """Every logit and every state word equals NumPy's; the chip reports no broken rule."""
    program = draw(seed, d=d, m=m, layers=1, vocab=vocab, per_token=per_token)
    code = coded(program)
    tokens = np.random.default_rng(seed).integers(0, program.vocab, 3).tolist()
    run = run_sdram_wide(built.program, built.engine, code, tokens)
    assert wrong_tokens(program, tokens, run) == [] and not run.fault


@pytest.mark.slow
def test_a_word_changed_on_the_way_to_the_chip_is_found(built: Built) -> None:
    """The first element of the embedding, and the first gain."""
    program, tokens = draw(3, d=24, m=40, layers=1, vocab=20, per_token=True), [0, 2]
    code = coded(program)
    memory = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
    for address in (memory.rows, memory.constants):
        run = run_sdram_wide(built.program, built.engine, code, tokens, flip=address // 2 + 1)
        assert wrong_tokens(program, tokens, run)


@pytest.mark.slow
def test_a_slower_chip_is_reported(built: Built) -> None:
    program = draw(3, d=24, m=40, layers=1, vocab=20, per_token=True)
    with pytest.raises(BuildFailed, match="SDRAM: .*tRCD"):
        run_sdram_wide(built.program, built.engine, coded(program), [1], chip=replace(ULX3S_CHIP, rcd=60))
