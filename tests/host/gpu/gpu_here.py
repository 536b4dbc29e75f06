"""What the tests of the GPU executor share: the gates, a program around one product, a way to compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ternac.host.gpu.where import why_missing
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose

needs_torch = pytest.mark.skipif(bool(why_missing("cpu")), reason=f"gpu:cpu: {why_missing('cpu')}")
needs_triton = pytest.mark.skipif(
    bool(why_missing("interpret")), reason=f"gpu:interpret: {why_missing('interpret')}"
)
needs_gpu = pytest.mark.skipif(bool(why_missing()), reason=f"gpu: {why_missing()}")
PLACES: list[Any] = [
    pytest.param("cpu", marks=needs_torch),
    pytest.param("interpret", marks=needs_triton),
    pytest.param("cuda", marks=needs_gpu),
]
"""Every place where the executor runs; what is missing here is skipped with the reason."""


def product_program(x: npt.NDArray[np.int8], matrix: npt.NDArray[np.int8]) -> Program:
    """Token t feeds row t of ``x`` [tokens, K] to ``matrix`` [rows, K]: value "acc" is the bare product."""
    ops = (
        Op("GATHER", "e", (), {"embed": "x", "shift": 8}),
        Op("REQUANT", "q", ("e",), {"shift": 0, "dtype": "i8"}),
        Op("TMATVEC", "acc", ("q",), {"weights": "w"}),
        Op("REQUANT", "rows", ("acc",), {"shift": 7, "dtype": "i16"}),
        Op("REQUANT", "narrow", ("rows",), {"shift": 8, "dtype": "i8"}),
        Op("TMATVEC", "top", ("narrow",), {"weights": "head"}),
        Op("REQUANT", "logits", ("top",), {"shift": 0, "dtype": "i16"}),
    )
    head = np.ones((len(x), len(matrix)), np.int8)
    return Program("product", len(x), ops, {"x": x, "w": matrix, "head": head}, {}, "logits", 4)


def extremes(rows: int, columns: int, seed: int = 1) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Activations all +127, all -127, all -128 and random, and a matrix with rows all +1, all -1, random."""
    rng = np.random.default_rng(seed)
    x = np.stack([np.full(columns, v) for v in (127, -127, -128)]).astype(np.int8)
    x = np.concatenate([x, rng.integers(-128, 128, (3, columns)).astype(np.int8)])
    matrix = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
    matrix[0], matrix[-1] = 1, -1
    return x, matrix


def assert_same(program: Program, executor: Any, batch: int, tokens: int, seed: int) -> None:
    """Logits and states of ``batch`` sessions over ``tokens`` steps are NumPy's."""
    rng = np.random.default_rng(seed)
    numpy = NumpyExecutor(program)
    ours, theirs = executor.open(batch), numpy.open(batch)
    for _ in range(tokens):
        ids = rng.integers(0, program.vocab, batch)
        wanted = numpy.step(theirs, ids)
        assert np.array_equal(executor.step(ours, ids), wanted)
        assert np.array_equal(ours, theirs)


def assert_generates(program: Program, executor: Any, sampling: Sampling, batch: int, count: int) -> None:
    """Chosen tokens, generators and states are those of `ternac.run.sampling` on NumPy's logits."""
    numpy = NumpyExecutor(program)
    ours, theirs = executor.open(batch), numpy.open(batch)
    tokens, rngs = [b % program.vocab for b in range(batch)], [3 + 1000 * b for b in range(batch)]
    chosen, following = executor.generate(ours, tokens, count, sampling, rngs)
    for step in range(count):
        logits = numpy.step(theirs, tokens)
        for b in range(batch):
            tokens[b], rngs[b] = choose(logits[b], sampling, rngs[b])
        assert chosen[:, step].tolist() == tokens
    assert following == rngs
    assert np.array_equal(ours, theirs)
