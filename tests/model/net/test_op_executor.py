"""Torch op by op against NumPy: every value, logits and state, on random programs of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.model.net.op_executor import TorchOpExecutor
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.random_mmfree import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor


@pytest.mark.parametrize("make", [random_program, random_mmfree])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_numpy(make: Callable[..., Program], seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = make(rng)
    numpy, torch = NumpyExecutor(program), TorchOpExecutor(program)
    state, other = numpy.open(3), torch.open(3)
    for _ in range(5):
        tokens = rng.integers(0, program.vocab, 3)
        want: dict[str, Any] = {}
        got: dict[str, Any] = {}
        assert np.array_equal(numpy.step(state, tokens, want), torch.step(other, tokens, got))
        assert want.keys() == got.keys()
        for name, values in want.items():
            assert np.array_equal(values, got[name]), name
        assert np.array_equal(state, other)


def test_refuses_bad_input() -> None:
    executor = TorchOpExecutor(random_mmfree(np.random.default_rng(0), vocab=5))
    with pytest.raises(UsageError, match=r"integer in 0\.\.4"):
        executor.step(executor.open(1), [5])
    with pytest.raises(UsageError, match="state is"):
        executor.step(executor.open(2), [1])
    with pytest.raises(UsageError, match="at least 1"):
        executor.open(0)
