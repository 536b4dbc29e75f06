"""The Triton kernels, in the interpreter and where there is a GPU on it, against NumPy."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.zoo import open_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling
from tests.host.gpu.gpu_here import (
    PLACES,
    assert_generates,
    assert_same,
    extremes,
    needs_gpu,
    needs_triton,
    product_program,
)
from tests.host.native.native_here import Soup

KERNELS = [place for place in PLACES if place.values != ("cpu",)]


def make(program: Program, mode: str, **more: Any) -> Any:
    return importlib.import_module("ternac.host.gpu.executor").GpuExecutor(program, mode=mode, **more)


def blocks(**sizes: Any) -> Any:
    return importlib.import_module("ternac.host.gpu.launch").Blocks(**sizes)


@pytest.mark.parametrize("mode", KERNELS)
@pytest.mark.parametrize("kind", ["lm", "mmfree", "soup"])
def test_one_row_at_a_time(mode: str, kind: str) -> None:
    """The kernel of phases on every kind of op, in several blocks."""
    rng = np.random.default_rng(8)
    program = {
        "lm": lambda: random_program(rng, d=21, m=35, layers=1),
        "mmfree": lambda: random_mmfree(rng, d=21, m=35, layers=1),
        "soup": lambda: Soup(rng, tried=25).program,
    }[kind]()
    assert_same(program, make(program, mode, blocks=blocks(count=2)), 1, 2, 1)


@pytest.mark.parametrize("mode", KERNELS)
@pytest.mark.parametrize("kind", ["lm", "mmfree", pytest.param("soup", marks=pytest.mark.slow)])
def test_many_rows_at_a_time(mode: str, kind: str) -> None:
    """Products on tensor cores, scans; a prompt in pieces of any length."""
    rng = np.random.default_rng(9)
    program = {
        "lm": lambda: random_program(rng, d=21, m=35, layers=1),
        "mmfree": lambda: random_mmfree(rng, d=21, m=35, layers=1),
        "soup": lambda: Soup(rng, tried=12).program,
    }[kind]()
    executor, numpy = (
        make(program, mode, blocks=blocks(tile=(16, 16, 32), scan=16, ahead=4), rows=16),
        NumpyExecutor(program),
    )
    assert_same(program, executor, 9, 1, 1)
    tokens = rng.integers(0, program.vocab, 6)
    ours, theirs = executor.open(), numpy.open()
    logits = [numpy.step(theirs, [token])[0] for token in tokens]
    assert np.array_equal(
        executor.feed(ours, tokens, np.zeros(6, int), [0, 1, 0, 0, 0, 1]), np.array(logits)[[1, 5]]
    )
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("mode", PLACES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 33), (6, 16384), (67, 100)])
def test_products_at_their_limits(mode: str, rows: int, columns: int) -> None:
    """All +127, all -127, all -128, random: bare sums, by the kernel of phases and on tensor cores."""
    x, matrix = extremes(rows, columns)
    program = product_program(x, matrix)
    wanted = x.astype(np.int64) @ matrix.T.astype(np.int64)
    executor = make(program, mode)
    trace: dict[str, Any] = {}
    executor.step(executor.open(2), [0, 4], trace)
    assert np.array_equal(trace["acc"], wanted[[0, 4]])
    engine, torch = executor._engine, importlib.import_module("torch")
    parts = importlib.import_module("ternac.host.gpu.engine")
    split = parts.Layout(engine, parts.make_plan(program, split=True, keep=True), executor.rows)
    engine.layouts().many = split
    engine.rows.tokens[:6] = torch.arange(6)
    engine.prompt(1, 6, tail=True)
    assert np.array_equal(split.value("acc", 6).cpu().numpy(), wanted)


@pytest.mark.parametrize("mode", KERNELS)
@pytest.mark.parametrize(("temperature", "top_k"), [(0.0, 0), (0.7, 0), (1.3, 3)])
def test_generation(mode: str, temperature: float, top_k: int) -> None:
    """Tokens are chosen on the device as `ternac.run.sampling` chooses them."""
    program = random_program(np.random.default_rng(2), d=8, m=8, layers=1, vocab=30)
    sampling = Sampling.from_temperature(temperature, program.logit_scale_bits, top_k)
    assert_generates(program, make(program, mode), sampling, 2, 3)


@pytest.mark.parametrize("mode", KERNELS)
def test_sampler(mode: str) -> None:
    """Ties, saturated distances, every sort of top_k, on logits that no model makes."""
    program = random_program(np.random.default_rng(2), d=4, m=4, layers=1, vocab=48)
    executor, torch = make(program, mode), importlib.import_module("torch")
    engine = executor._engine
    layout = engine.layouts().few
    rng = np.random.default_rng(3)
    draw = importlib.import_module("ternac.run.sampling").choose
    for trial in range(24):
        low, high = [(-32768, 32768), (-2, 3), (32760, 32768), (-300, 300)][trial % 4]
        logits = rng.integers(low, high, (2, 48)).astype(np.int16)
        m, shift, top_k = rng.integers(1, 256), rng.integers(0, 12), rng.choice([0, 1, 2, 7, 47, 48, 60])
        sampling = Sampling(False, int(m), int(shift), int(top_k)) if trial % 5 else GREEDY
        rngs = [int(n) for n in rng.integers(1, 1 << 32, 2)]
        layout.value(program.logits, 2).copy_(torch.from_numpy(logits))
        engine.set_sampling(sampling)
        engine.rows.at.zero_()
        engine.rows.rngs[:2] = torch.tensor(rngs)
        engine.choose(2, sampling)
        wanted = [draw(logits[b], sampling, rngs[b]) for b in range(2)]
        assert (
            list(zip(engine.rows.chosen[:2, 0].tolist(), engine.rows.rngs[:2].tolist(), strict=True))
            == wanted
        )
        assert engine.rows.tokens[:2].tolist() == [token for token, _ in wanted]


@needs_triton
def test_joint_reduction_is_the_same() -> None:
    """The form of the sums that compiled kernels use, which the interpreter takes element by element."""
    kernels = importlib.import_module("ternac.host.gpu.where").kernels(interpret=True)
    torch = importlib.import_module("torch")
    tests = importlib.import_module("tests.host.gpu.gpu_sums")
    rng = np.random.default_rng(1)
    w = torch.from_numpy(rng.integers(-(1 << 31), 1 << 31, (2, 8)).astype(np.int32))
    x = torch.from_numpy(rng.integers(-(1 << 31), 1 << 31, 8).astype(np.int32))
    found = [tests.sums(kernels, w, x, joint) for joint in (False, True)]
    assert torch.equal(*found)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare-small", "shakespeare", "prose"])
def test_shipped_models_in_the_interpreter(name: str) -> None:
    program = open_program(name)
    executor = make(program, "interpret")
    assert_same(program, executor, 1, 2, 1)
    assert_same(program, executor, 9, 1, 1)


@needs_gpu
@pytest.mark.parametrize("name", ["shakespeare-small", "shakespeare", "prose"])
@pytest.mark.parametrize("overlap", [False, True])
def test_shipped_models_on_a_gpu(name: str, overlap: bool) -> None:
    """One session, many sessions, prompts, graphs."""
    torch = importlib.import_module("torch")
    if overlap and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("overlap needs compute capability 9")
    program = open_program(name)
    executor = make(program, "cuda", overlap=overlap)
    for batch in (1, 7, 8, 9, 100):
        assert_same(program, executor, batch, 20, batch)
        for sampling in (GREEDY, Sampling.from_temperature(0.8, program.logit_scale_bits, 5)):
            assert_generates(program, executor, sampling, batch, 20)


@needs_gpu
def test_random_programs_on_a_gpu() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        program = [random_program, random_mmfree, lambda rng: Soup(rng).program][seed % 3](rng)
        executor = make(program, "cuda", rows=20)
        assert_same(program, executor, 2, 3, seed)
        assert_same(program, executor, 25, 3, seed)
