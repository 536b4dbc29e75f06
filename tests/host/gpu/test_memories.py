"""Programs with memories and loops on the GPU executor against NumPy: logits, states, every row."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import UnsupportedOp, UsageError
from ternac.program.loops import RUN_MARK, loops_of
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, seed_state
from tests.host.gpu.gpu_here import PLACES, needs_torch
from tests.program.memory_toy import memory_program

pytestmark = needs_torch
LOOPS = ["", "free", "levels"]
SEEDS = range(7)
OPS = ("WINNERS", "MASK", "SUB", "MEM_READ", "MEM_UPDATE", "TOKEN", "LOOP")


def make(seed: int, loop: str) -> Program:
    return random_memory_program(np.random.default_rng(seed), layers=3, loop=loop)


def gpu(program: Program, **options: Any) -> Any:
    return importlib.import_module("ternac.host.gpu.executor").GpuExecutor(
        program, **{"mode": "cpu", **options}
    )


def compare(program: Program, executor: Any, steps: int = 4, batch: int = 3) -> None:
    """Logits and states, rows included, are NumPy's after each of ``steps`` steps, whatever the loops."""
    numpy = NumpyExecutor(program)
    most = min((loop.most for loop in loops_of(program.ops) if not loop.levels), default=0)
    states = numpy.open(batch), executor.open(batch)
    rng = np.random.default_rng(1)
    for step in range(steps):
        tokens = rng.integers(0, program.vocab, batch)
        loops = int(rng.integers(1, most + 1)) if most and step % 2 else None
        expected = numpy.step(states[0], tokens, loops=loops)
        assert np.array_equal(expected, executor.step(states[1], tokens, loops=loops))
        assert np.array_equal(states[0], states[1])
    executor.close()


def compare_all(programs: list[Program]) -> None:
    for program in programs:
        compare(program, gpu(program), batch=2)


@pytest.mark.parametrize("batch", [3, 11])
@pytest.mark.parametrize("loop", LOOPS)
def test_random_programs_with_memories(batch: int, loop: str) -> None:
    """Few sessions by one plan, many by the other."""
    for seed in SEEDS:
        program = make(seed, loop)
        compare(program, gpu(program), batch=batch)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 12), st.sampled_from(LOOPS))
def test_arbitrary_programs_with_memories(seed: int, batch: int, loop: str) -> None:
    program = make(seed, loop)
    compare(program, gpu(program), 3, batch)


@pytest.mark.parametrize("mode", [place for place in PLACES if place.values != ("cpu",)])
@pytest.mark.parametrize(("seed", "loop"), [(6, "levels"), (3, "free"), (4, "")])
def test_the_kernels_are_numpy(mode: str, seed: int, loop: str) -> None:
    """Both plans of the Triton kernels, on memories of both dtypes, constant rows and a prompt."""
    program = random_memory_program(np.random.default_rng(seed), layers=2, loop=loop)
    executor, numpy = gpu(program, mode=mode), NumpyExecutor(program)
    compare(program, executor, 3, 2)
    tokens, states = [0, 1, 1, 0, 1], (numpy.open(1), executor.open(1))
    assert np.array_equal(numpy.feed(states[0], tokens, [0] * 5), executor.feed(states[1], tokens, [0] * 5))
    assert np.array_equal(states[0], states[1])


def test_the_programs_have_every_op_of_memories() -> None:
    """Memories of both dtypes, constant rows with and without heads of their own."""
    programs = [make(seed, loop) for seed in SEEDS for loop in LOOPS]
    assert set(OPS) <= {op.kind for program in programs for op in program.ops}
    assert {memory.dtype for program in programs for memory in program.memories.values()} == {"i8", "i16"}
    reads = [(op, program) for program in programs for op in program.ops if op.kind == "MEM_READ"]
    constant = [op for op, program in reads if op.text("rows") in program.consts]
    assert {op.integer("shared") for op in constant} == {0, 1} and len(constant) < len(reads)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_prompt_fed_at_once_is_the_prompt_token_by_token(loop: str) -> None:
    for seed in range(5):
        program = make(seed, loop)
        numpy, executor = NumpyExecutor(program), gpu(program, rows=7)
        rng = np.random.default_rng(seed)
        most = min((loop.most for loop in loops_of(program.ops) if not loop.levels), default=None)
        tokens, slots = rng.integers(0, program.vocab, 40), rng.integers(0, 2, 40)
        want = rng.integers(0, 2, 40).astype(bool)
        states = numpy.open(2), executor.open(2)
        expected = numpy.feed(states[0], tokens, slots, want, loops=most)
        assert np.array_equal(expected, executor.feed(states[1], tokens, slots, want, loops=most))
        assert np.array_equal(states[0], states[1])


@pytest.mark.parametrize("loop", LOOPS)
def test_generated_tokens_and_rows_are_those_of_numpy(loop: str) -> None:
    program = make(3, loop)
    numpy, executor = NumpyExecutor(program), gpu(program)
    states = numpy.open(2), executor.open(2)
    loops = 1 if loop == "free" else None
    for sampling in (Sampling(), Sampling.from_temperature(1.0, program.logit_scale_bits)):
        seeds = [seed_state(1), seed_state(2)]
        first = numpy.generate(states[0], [0, 1], 8, sampling, seeds, loops=loops)
        second = executor.generate(states[1], [0, 1], 8, sampling, seeds, loops=loops)
        assert np.array_equal(first[0], second[0]) and first[1] == second[1]
        assert np.array_equal(states[0], states[1])


@pytest.mark.parametrize("loop", LOOPS)
def test_a_trace_holds_the_values_of_the_last_run(loop: str) -> None:
    program = make(5, loop)
    numpy, executor = NumpyExecutor(program), gpu(program)
    states = numpy.open(2), executor.open(2)
    for tokens in ([1, 0], [0, 0], [1, 1]):
        traces: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        numpy.step(states[0], tokens, traces[0])
        executor.step(states[1], tokens, traces[1])
        assert traces[0].keys() == traces[1].keys()
        assert not any(RUN_MARK in name for name in traces[1])
        assert all(np.array_equal(traces[0][name], traces[1][name]) for name in traces[0])
        assert np.array_equal(states[0], states[1])


def test_many_numbers_of_runs_one_after_the_other() -> None:
    """More than are kept, twice."""
    drawn = next(p for seed in range(99) if loops_of((p := make(seed, "free")).ops)[0].most >= 3)
    ops = [replace(op, attrs={**op.attrs, "most": 12}) if op.kind == "LOOP" else op for op in drawn.ops]
    program = replace(drawn, name="often", ops=tuple(ops))
    numpy, executor = NumpyExecutor(program), gpu(program)
    states = numpy.open(1), executor.open(1)
    for step in range(24):
        loops = 1 + step % 12
        expected = numpy.step(states[0], [step % program.vocab], loops=loops)
        assert np.array_equal(expected, executor.step(states[1], [step % program.vocab], loops=loops))
    assert np.array_equal(states[0], states[1])
    with pytest.raises(UsageError, match=r"runs 1\.\.12"):
        executor.step(states[1], [0], loops=13)


def large(bits: int = 8) -> Program:
    """Two heads of two digits over 65,536 rows of 64 words: 16 MiB a session."""
    vocab, width = 300, 128
    rng = np.random.default_rng(0)
    return Program(
        name="large",
        vocab=vocab,
        ops=(
            Op("TOKEN", "t"),
            Op("LOAD", "last", ("s.last",)),
            Op("GATHER", "x", (), {"embed": "E", "shift": 8}),
            Op("MEM_UPDATE", "write", ("last", "t", "x"), {"memory": "m", "bits": bits, "keep": 0}),
            Op("MEM_READ", "r", ("last", "t"), {"rows": "m", "bits": bits, "shared": 0}),
            Op("REQUANT", "r8", ("r",), {"shift": 0, "dtype": "i8"}),
            Op("TMATVEC", "acc", ("r8",), {"weights": "W"}),
            Op("REQUANT", "logits", ("acc",), {"shift": 0, "dtype": "i16"}),
            Op("STORE", "s.last", ("t",)),
        ),
        consts={
            "E": rng.integers(-128, 128, (vocab, width)).astype(np.int8),
            "W": rng.integers(-1, 2, (vocab, width)).astype(np.int8),
        },
        states={"s.last": 2},
        memories={"m": Memory(2 << 2 * bits, width, "i8")},
        logits="logits",
        logit_scale_bits=0,
    )


def test_a_session_of_sixteen_mebibytes_is_changed_where_it_lies() -> None:
    program = large()
    numpy, executor = NumpyExecutor(program), gpu(program)
    assert 2 * program.state_words > 16 << 20
    assert sum(executor.bytes_held.values()) < 8 << 20
    states = numpy.open(2), executor.open(2)
    rng = np.random.default_rng(2)
    for _ in range(20):
        tokens = rng.integers(0, program.vocab, 2)
        assert np.array_equal(numpy.step(states[0], tokens), executor.step(states[1], tokens))
    assert np.array_equal(states[0], states[1]) and states[0][:, 2:].any()


def test_sessions_that_lie_apart_stay_apart() -> None:
    program = memory_program()
    numpy, executor = NumpyExecutor(program), gpu(program)
    every = executor.open(4)
    states = numpy.open(2), every[::2]
    for token in (1, 2, 3, 1):
        tokens = [token, token + 1]
        assert np.array_equal(numpy.step(states[0], tokens), executor.step(states[1], tokens))
    assert np.array_equal(states[0], states[1]) and not every[1::2].any()


def test_a_read_only_state_is_refused() -> None:
    executor = gpu(make(0, ""))
    state = executor.open(1)
    state.setflags(write=False)
    with pytest.raises(UsageError, match="read-only"):
        executor.step(state, [0])
    with pytest.raises(UsageError, match="read-only"):
        executor.feed(state, [0], [0])
    with pytest.raises(UsageError, match="read-only"):
        executor.generate(state, [0], 1, Sampling(), [1])


def test_a_refusal_comes_before_anything_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of op without a kernel, in a program whose states would fill gigabytes."""
    module = importlib.import_module("ternac.host.gpu.executor")
    monkeypatch.setattr(module, "Engine", None)
    monkeypatch.setattr(module, "pack_all", None)
    kernels = importlib.import_module("ternac.host.gpu.torch_ops").TorchOps
    monkeypatch.setattr(kernels, "kinds", tuple(kind for kind in kernels.kinds if kind != "MEM_UPDATE"))
    with pytest.raises(
        UnsupportedOp, match=r"MEM_UPDATE write\): the GPU executor has no kernel for MEM_UPDATE"
    ):
        gpu(large())


@pytest.mark.parametrize("wrong", ["_winners", "_mask", "_row_numbers"])
def test_a_wrong_kernel_is_seen(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison with NumPy fails when a kernel is off by a little."""
    module = importlib.import_module("ternac.host.gpu.torch_ops")
    real = getattr(module, wrong)
    off = {
        "_winners": lambda x, size: size - 1 - real(x.unflatten(-1, (-1, size)).flip(-1).flatten(-2), size),
        "_mask": lambda x, w, size: real(x, w + 1, size),
        "_row_numbers": lambda a, b, bits, shared=0: real(a ^ 1, b, bits, shared),
    }[wrong]
    monkeypatch.setattr(module, wrong, off)
    with pytest.raises(AssertionError):
        compare_all([make(seed, loop) for seed in SEEDS for loop in LOOPS])
