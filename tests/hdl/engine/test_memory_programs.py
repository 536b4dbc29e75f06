"""Programs with memories on the whole engine in Amaranth's simulator: values, states, rows and cycles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.compile.isa import Opcode
from ternac.errors import ProgramError
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from tests.hdl.engine.test_engine import run, run_contexts

SMALL = replace(
    PRESETS["tiny-rows"], name="small", columns=2, lanes=8, chain=4, bank_depth=256, weight_depth=512,
    bias_depth=256, embed_depth=512, program_depth=1024, logit_slots=16, x_depth=16, tables=2, norm_tables=1,
    rows=256, list_slots=8,
)  # fmt: skip
THREE = replace(SMALL, name="three", columns=3, lanes=9, chain=3, weight_block_bits=18)


def small(seed: int, loop: str, geometry: Geometry, contexts: int = 1) -> Program:
    """The first random program from ``seed`` on that the geometry holds."""
    for at in range(seed * 100, seed * 100 + 100):
        program = random_memory_program(np.random.default_rng(at), layers=1, loop=loop, narrow=True)
        try:
            image = compile_program(program, geometry, contexts=contexts)
        except ProgramError:
            continue
        if any(inst.op == Opcode.LOOP for inst in image.instructions) == (loop == "free"):
            return program
    raise AssertionError("no program fits")


@pytest.mark.parametrize("geometry", [SMALL, THREE], ids=["2x8", "3x9"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_random_programs_with_memories(geometry: Geometry, seed: int) -> None:
    run(small(seed, "", geometry), geometry, seed)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_loops_go_back_as_often_as_they_say(seed: int) -> None:
    run(small(seed, "free", SMALL), SMALL, seed)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_runs_have_states_and_rows_of_their_own(seed: int) -> None:
    run(small(seed, "levels", THREE), THREE, seed)


@pytest.mark.parametrize(("seed", "stagger"), [(0, 30), pytest.param(1, 3, marks=pytest.mark.slow)])
def test_contexts_with_memories_take_turns(seed: int, stagger: int) -> None:
    run_contexts(small(seed, "", SMALL, 2), SMALL, 2, 3, stagger)
