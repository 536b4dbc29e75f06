"""Programs with memories and loops on the native executor against NumPy: logits, states, every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.host.native.executor import NativeExecutor
from ternac.program.loops import loops_of
from ternac.program.ops import KINDS, Memory, Op
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, seed_state
from tests.host.native.native_here import ISAS, RUNNING, needs_native

pytestmark = needs_native
LOOPS = ["", "free", "levels"]


def make(seed: int, loop: str) -> Program:
    return random_memory_program(np.random.default_rng(seed), layers=3, loop=loop)


def compare(program: Program, steps: int = 6, batch: int = 3, **options: Any) -> None:
    """Logits and states, rows included, are NumPy's after each of ``steps`` steps, whatever the loops."""
    numpy, native = NumpyExecutor(program), NativeExecutor(program, **options)
    most = min((loop.most for loop in loops_of(program.ops) if not loop.levels), default=0)
    states = numpy.open(batch), native.open(batch)
    rng = np.random.default_rng(1)
    for step in range(steps):
        tokens = rng.integers(0, program.vocab, batch)
        loops = int(rng.integers(1, most + 1)) if most and step % 2 else None
        expected = numpy.step(states[0], tokens, loops=loops)
        assert np.array_equal(expected, native.step(states[1], tokens, loops=loops))
        assert np.array_equal(states[0], states[1])
    native.close()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_random_programs_with_memories(isa: str, threads: int, loop: str) -> None:
    for seed in range(4):
        compare(make(seed, loop), isa=isa, threads=threads)


@settings(max_examples=25)
@given(st.integers(0, 1 << 32), st.sampled_from(RUNNING or [""]), st.integers(1, 3), st.sampled_from(LOOPS))
def test_arbitrary_programs_with_memories(seed: int, isa: str, threads: int, loop: str) -> None:
    compare(make(seed, loop), isa=isa, threads=threads)


def test_the_programs_have_every_op_of_memories() -> None:
    found = {op.kind for seed in range(4) for loop in LOOPS for op in make(seed, loop).ops}
    wanted = ("WINNERS", "MASK", "SUB", "MEM_READ", "MEM_UPDATE", "TOKEN", "LOOP")
    assert set(wanted) <= set(KINDS) and set(wanted) <= found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_prompt_fed_at_once_is_the_prompt_token_by_token(threads: int, loop: str) -> None:
    for seed in range(5):
        program = make(seed, loop)
        numpy, native = NumpyExecutor(program), NativeExecutor(program, threads=threads)
        rng = np.random.default_rng(seed)
        tokens, slots = rng.integers(0, program.vocab, 150), rng.integers(0, 2, 150)
        want = rng.integers(0, 2, 150).astype(bool)
        states = numpy.open(2), native.open(2)
        expected = numpy.feed(states[0], tokens, slots, want)
        assert np.array_equal(expected, native.feed(states[1], tokens, slots, want))
        assert np.array_equal(states[0], states[1])
        native.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_generated_tokens_and_rows_are_those_of_numpy(loop: str) -> None:
    program = make(3, loop)
    numpy, native = NumpyExecutor(program), NativeExecutor(program)
    states = numpy.open(2), native.open(2)
    for sampling in (Sampling(), Sampling.from_temperature(1.0, program.logit_scale_bits)):
        seeds = [seed_state(1), seed_state(2)]
        first = numpy.generate(states[0], [0, 1], 20, sampling, seeds)
        second = native.generate(states[1], [0, 1], 20, sampling, seeds)
        assert np.array_equal(first[0], second[0]) and first[1] == second[1]
        assert np.array_equal(states[0], states[1])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_trace_holds_the_values_of_the_last_run(loop: str) -> None:
    program = make(5, loop)
    numpy, native = NumpyExecutor(program), NativeExecutor(program)
    states = numpy.open(1), native.open(1)
    for token in (1, 0, 2):
        traces: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        numpy.step(states[0], [token], traces[0])
        native.step(states[1], [token], traces[1])
        assert traces[0].keys() == traces[1].keys()
        assert all(np.array_equal(traces[0][name], traces[1][name]) for name in traces[0])


def test_many_numbers_of_runs_one_after_the_other() -> None:
    program = next(p for seed in range(99) if loops_of((p := make(seed, "free")).ops)[0].most >= 3)
    most = loops_of(program.ops)[0].most
    numpy, native = NumpyExecutor(program), NativeExecutor(program)
    states = numpy.open(1), native.open(1)
    for step in range(40):
        loops = 1 + step % most
        expected = numpy.step(states[0], [step % program.vocab], loops=loops)
        assert np.array_equal(expected, native.step(states[1], [step % program.vocab], loops=loops))
    with pytest.raises(UsageError, match=f"runs 1..{most}"):
        native.step(states[1], [0], loops=most + 1)
    native.close()


def large(rows_bits: int = 8) -> Program:
    """One head of two digits over 65,536 rows of 128 bytes: 8 MiB a session."""
    vocab, width = 300, 128
    rng = np.random.default_rng(0)
    ops = (
        Op("TOKEN", "t"),
        Op("LOAD", "last", ("s.last",)),
        Op("GATHER", "x", (), {"embed": "E", "shift": 8}),
        Op("MEM_UPDATE", "write", ("hi", "lo", "x"), {"memory": "m", "bits": rows_bits, "keep": 0}),
        Op("MEM_READ", "r", ("hi", "lo"), {"rows": "m", "bits": rows_bits, "shared": 0}),
        Op("REQUANT", "r8", ("r",), {"shift": 0, "dtype": "i8"}),
        Op("TMATVEC", "acc", ("r8",), {"weights": "W"}),
        Op("REQUANT", "logits", ("acc",), {"shift": 0, "dtype": "i16"}),
        Op("STORE", "s.last", ("t",)),
    )
    digits = (
        Op("REQUANT", "hi", ("last",), {"shift": 0, "dtype": "i16"}),
        Op("ADD", "lo", ("t", "t"), {"dtype": "i16"}),
    )
    return Program(
        name="large",
        vocab=vocab,
        ops=(*ops[:3], *digits, *ops[3:]),
        consts={
            "E": rng.integers(-128, 128, (vocab, width)).astype(np.int8),
            "W": rng.integers(-1, 2, (vocab, width)).astype(np.int8),
        },
        states={"s.last": 2},
        memories={"m": Memory(2 << 2 * rows_bits, width, "i8")},
        logits="logits",
        logit_scale_bits=0,
    )


def test_a_session_of_sixteen_mebibytes_is_changed_where_it_lies() -> None:
    program = large()
    numpy, native = NumpyExecutor(program), NativeExecutor(program)
    assert 2 * program.state_words > 16 << 20
    every = native.open(4)
    states = numpy.open(2), every[::2]  # sessions apart: neither copied nor refused
    rng = np.random.default_rng(2)
    for _ in range(40):
        tokens = rng.integers(0, program.vocab, 2)
        assert np.array_equal(numpy.step(states[0], tokens), native.step(states[1], tokens))
    assert np.array_equal(states[0], states[1]) and states[0][:, 2:].any()
    assert not every[1::2].any()


def test_a_read_only_state_is_refused() -> None:
    program = make(0, "")
    native = NativeExecutor(program)
    state = native.open(1)
    state.setflags(write=False)
    with pytest.raises(UsageError, match="read-only"):
        native.step(state, [0])
