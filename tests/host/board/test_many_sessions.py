"""Thousands of open sessions: memory for each is its state and a constant, however long its text."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from ternac.host.board.backend import BoardBackend
from ternac.host.device import Device
from ternac.host.session import Session
from ternac.run.sampling import Sampling
from tests.host.boards import FAST, Line, image_of, keep_slots, make_board, numpy_tokens, small_program
from tests.host.native.native_here import needs_native

PROGRAM = small_program()
SAMPLING = Sampling(False, 200, 4, 50)
CONSTANT = 1500
"""Bytes of a session beside its state, everything counted: the numbers, tables and objects of both layers."""


def open_device(kind: str) -> Device:
    if kind != "board":
        return Device.open(kind, PROGRAM)
    line = Line(make_board(image_of(PROGRAM)))
    options = {"board": "tiny", "transport": line, "patience": FAST, "progress": False}
    return Device.open("serial:fake", PROGRAM, **options)  # type: ignore[arg-type]


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def measure(kind: str, count: int) -> tuple[float, float]:
    """Bytes a session after its first token, and after more of them; what the simulated board holds in its
    registers, up to 15 KB, is in them too and needs ``count`` to be some hundreds.
    """
    with open_device(kind) as device:
        if isinstance(device.backend, BoardBackend):
            keep_slots(device.backend, 4)
        sessions: list[Session] = []
        with device.session() as first:
            list(first.tokens([1], 2))
        tracemalloc.start()
        try:
            before = held()
            for seed in range(count):
                sessions.append(device.session(seed))
                list(sessions[-1].tokens([seed % 256], 1, SAMPLING))
            one = (held() - before) / count
            for session in sessions:
                list(session.tokens((), 1, SAMPLING))
            more = (held() - before) / count
        finally:
            tracemalloc.stop()
        for seed in range(0, count, count // 7):
            found = list(sessions[seed].tokens((), 5, SAMPLING))
            assert numpy_tokens(PROGRAM, [seed % 256], 7, SAMPLING, seed)[2:] == found
        for session in sessions:
            session.close()
    return one, more


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param("numpy", 500),
        pytest.param("native", 3000, marks=needs_native),
        pytest.param("board", 500),
        pytest.param("numpy", 3000, marks=pytest.mark.slow),
        pytest.param("board", 3000, marks=pytest.mark.slow),
    ],
)
def test_memory_of_a_session(kind: str, count: int) -> None:
    one, more = measure(kind, count)
    assert one < 2 * PROGRAM.state_words + CONSTANT
    assert abs(more - one) < 100


def test_a_long_text_takes_no_more_on_a_board() -> None:
    """The journal is all that grows, and it ends; what is not in a slot has none."""
    with open_device("board") as device, device.session() as session:
        backend = device.backend
        backend.journal = 500  # type: ignore[attr-defined]
        lengths = []
        for _ in range(12):
            list(session.tokens([] if lengths else [1], 100, SAMPLING))
            lengths.append(len(backend.recall(1).tokens))
        assert max(lengths) < 500 + 100
        assert min(lengths[5:]) < 200
        assert np.any(session.state)
