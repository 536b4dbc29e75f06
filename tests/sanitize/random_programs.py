"""Random programs of every kind on the native executor, for the sanitizers: `tests.sanitize` runs this."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.host.native.executor import NativeExecutor
from ternac.program.random import random_mmfree, random_program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.native.native_here import RUNNING, Soup

MAKERS = {
    "trained": random_program,
    "imported": random_mmfree,
    "memories": random_memory_program,
    "any ops": lambda rng: Soup(rng).program,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("seed", range(25))
def test_random_programs_run_as_in_numpy(kind: str, seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    program = MAKERS[kind](rng)
    isa = RUNNING[seed % len(RUNNING)]
    numpy, native = NumpyExecutor(program), NativeExecutor(program, isa=isa, threads=1 + seed % 2)
    states = numpy.open(2), native.open(2)
    for _ in range(3):
        tokens = rng.integers(0, program.vocab, 2)
        assert np.array_equal(numpy.step(states[0], tokens), native.step(states[1], tokens))
        assert np.array_equal(states[0], states[1])
    native.close()
