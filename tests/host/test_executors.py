"""The table of executors: one parser of names, and the same bits from every executor."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.errors import UnknownExecutor, UsageError
from ternac.host.executors import (
    BOARDS,
    EXECUTORS,
    LOCAL,
    ExecutorName,
    describe,
    open_executor,
    parse_executor,
)
from ternac.program.random import random_program
from ternac.run.sampling import GREEDY, Sampling
from tests.host.bad_input import refuses_bad_input
from tests.host.boards import small_program

PROGRAM = small_program()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("numpy", ExecutorName("numpy")),
        ("native:avx2:1.6", ExecutorName("native", "avx2:1.6")),
        ("gpu:cpu", ExecutorName("gpu", "cpu")),
        ("machine", ExecutorName("isa")),
        ("rtl", ExecutorName("sim")),
        ("netlist", ExecutorName("netlist")),
        ("/dev/ttyUSB0", ExecutorName("serial", "/dev/ttyUSB0")),
        ("serial:COM3", ExecutorName("serial", "COM3")),
        ("replay:a:b", ExecutorName("replay", "a:b")),
    ],
)
def test_names(text: str, found: ExecutorName) -> None:
    assert parse_executor(text) == found
    assert found.local == (EXECUTORS[found.kind] in LOCAL)


@pytest.mark.parametrize("text", ["", "abacus", "numpy:1", "auto:1", "sim:x", "serial", "serial:", "replay:"])
def test_an_unknown_name_lists_the_choices(text: str) -> None:
    with pytest.raises(UnknownExecutor) as caught:
        parse_executor(text)
    assert caught.value.choices == (*LOCAL, *BOARDS)
    assert all(form in caught.value.hint for form in EXECUTORS.values())
    assert all(form in describe() for form in EXECUTORS.values())


def test_a_board_is_no_executor_of_this_process() -> None:
    with pytest.raises(UnknownExecutor) as caught:
        open_executor("sim", PROGRAM)
    assert caught.value.choices == tuple(LOCAL)
    with pytest.raises(UsageError, match="no checkpoint for torch"):
        open_executor("torch", PROGRAM)


def test_the_compiled_image_is_numpy_for_many_sessions() -> None:
    """States travel into the banks and back; values have the same names."""
    numpy, isa = open_executor("numpy", PROGRAM), open_executor("isa", PROGRAM, geometry=preset("tiny"))
    ours, theirs = numpy.open(3), isa.open(3)
    draw = Sampling(False, 200, 4, 50)
    for tokens in ([1, 2, 3], [200, 4, 9]):
        mine: dict[str, np.ndarray] = {}
        found: dict[str, np.ndarray] = {}
        assert np.array_equal(numpy.step(ours, tokens, mine), isa.step(theirs, tokens, found))
        assert found and all(np.array_equal(mine[name], found[name]) for name in found)
        assert np.array_equal(ours, theirs)
    for sampling in (GREEDY, draw):
        want = numpy.generate(ours, [5, 6, 7], 6, sampling, [1, 2, 3])
        got = isa.generate(theirs, [5, 6, 7], 6, sampling, [1, 2, 3])
        assert np.array_equal(want[0], got[0]) and want[1] == got[1]
    assert np.array_equal(
        numpy.feed(ours, [1, 2, 3], [2, 0, 2], [0, 1, 1]), isa.feed(theirs, [1, 2, 3], [2, 0, 2], [0, 1, 1])
    )
    assert np.array_equal(ours, theirs)


def test_numpy_refuses_bad_input() -> None:
    program = random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=9)
    executor = open_executor("numpy", program)
    refuses_bad_input(executor, executor.open(2))
