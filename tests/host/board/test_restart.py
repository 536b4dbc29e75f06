"""A board that is configured anew between two requests or under one: states are gone, no token is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ternac.errors import DeviceRefused, LostAnswer
from ternac.host.board import client as client_module
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient, RestartDetector
from ternac.host.board.loader import load_image
from ternac.run.generation import Run
from ternac.run.sampling import GREEDY, Sampling
from ternac.sim.link_model import LinkModel
from tests.host.boards import FAST, Line, image_of, make_board, numpy_backend, runs, small_program

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)
DRAW = Sampling(False, 200, 4, 50)


def _loaded() -> LinkModel:
    line = Line(make_board(IMAGE))
    client = LinkClient(line, FAST)
    load_image(client, client.hello(), IMAGE, "load", progress=False)
    return line.board


LOADED = _loaded()


def baked() -> LinkModel:
    """A board as it starts with the program in its bitstream."""
    return copy.deepcopy(LOADED)


class Restarting(Line):
    """``at``: before these writes the board is configured anew; what is then sent is lost with it."""

    restarts = True

    def __init__(self, at: set[int], again: Callable[[], LinkModel] = baked) -> None:
        super().__init__(baked())
        self.at, self.again = at, again

    def write(self, data: bytes) -> None:
        if self.writes + 1 in self.at:
            self.board = self.again()
            self.out.clear()
            self.writes += 1
            return
        super().write(data)


def opened(line: Line) -> BoardBackend:
    client = LinkClient(line, FAST)
    return BoardBackend(client, client.hello(), PROGRAM, IMAGE, chunk=4)


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python answers at once: as if time had passed between any two requests."""
    monkeypatch.setattr(client_module, "CONFIGURE_SECONDS", 0.0)


def test_between_two_requests() -> None:
    line, numpy = Restarting(set()), numpy_backend(PROGRAM)
    board = opened(line)
    ours, theirs = board.open(), numpy.open()
    for _ in range(3):
        assert board.run(ours, Run([1, 2], 5, DRAW, 7)) == numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
        line.board = baked()
        assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))
        line.board = baked()


def test_unnoticed_without_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests here see is what the guard is for."""
    monkeypatch.setattr(Restarting, "restarts", False)
    line, numpy = Restarting(set()), numpy_backend(PROGRAM)
    board = opened(line)
    ours, theirs = board.open(), numpy.open()
    board.run(ours, Run([1, 2], 5, DRAW, 7))
    numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
    line.board = baked()
    assert not np.array_equal(board.get_state(ours), numpy.get_state(theirs))


@pytest.mark.parametrize("seed", range(12))
def test_under_any_request(seed: int) -> None:
    """Restarts at random writes; sessions alone, together and as streams; a call that fails is repeated."""
    rng = random.Random(seed)
    line = Restarting({rng.randrange(2, 160) for _ in range(8)})
    board, numpy = opened(line), numpy_backend(PROGRAM)
    ours, theirs = ([backend.open() for _ in range(5)] for backend in (board, numpy))
    failed = 0

    def insist(call: Callable[[], Any]) -> Any:
        nonlocal failed
        for _ in range(20):
            try:
                return call()
            except LostAnswer:
                failed += 1
        raise AssertionError("no end of it")

    for _ in range(30):
        some = rng.sample(range(5), rng.randrange(1, 4))
        first, sampling = some[0], rng.choice((GREEDY, DRAW))
        tokens, count, state = [rng.randrange(256) for _ in some], rng.randrange(1, 9), rng.randrange(1, 99)
        want = [
            numpy.run(theirs[k], Run([t], count, sampling, state)) for k, t in zip(some, tokens, strict=True)
        ]
        if len(some) > 1:
            args = [ours[k] for k in some], runs(tokens, count, sampling, [state] * len(some))
            assert insist(lambda args=args: board.run_together(*args)) == want
        elif rng.randrange(2):
            got = list(board.stream(ours[first], Run(tokens, count, sampling, state)))
            assert got == want[0][0]
        else:
            alone = ours[first], Run(tokens, count, sampling, state)
            assert insist(lambda alone=alone: board.run(*alone)) == want[0]
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(insist(lambda one=one: board.get_state(one)), numpy.get_state(other))
    assert line.writes > max(line.at)


def test_another_program_in_the_bitstream() -> None:
    line = Restarting(set())
    board, numpy = opened(line), numpy_backend(PROGRAM)
    ours, theirs = board.open(), numpy.open()
    board.run(ours, Run([1], 3, GREEDY, 1))
    numpy.run(theirs, Run([1], 3, GREEDY, 1))
    line.board = make_board(IMAGE, bytes(range(16)))
    with pytest.raises(DeviceRefused, match="restarted and does not hold"):
        board.run(ours, Run([5], 3, GREEDY, 1))
    recalled = board.recall(ours)
    again = numpy.open()
    numpy.set_state(again, recalled.state)
    for token in recalled.tokens:
        numpy.step(again, token)
    assert np.array_equal(numpy.get_state(again), numpy.get_state(theirs))


def test_a_line_in_use_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CONFIGURE_SECONDS", 60.0)
    line = Restarting(set())
    board = opened(line)
    session = board.open()
    board.run(session, Run([1], 3, GREEDY, 1))
    before = line.writes
    for _ in range(5):
        board.run(session, Run([1], 3, GREEDY, 1))
    assert line.writes == before + 5


def test_the_word_behind_the_sessions() -> None:
    """One slot at most goes to it, and no more sessions run together than there are slots."""
    line = Restarting(set())
    for free in range(IMAGE.state_slots + 1):
        end = IMAGE.state_base + 3 * IMAGE.state_slots + free
        image = replace(IMAGE, geometry=replace(IMAGE.geometry, bank_depth=end), sessions=3)
        watch = RestartDetector(LinkClient(line, FAST), image, lambda: None)
        assert watch.sessions == (3 if free else 2)
        client = LinkClient(line, FAST)
        assert BoardBackend(client, client.hello(), PROGRAM, image, chunk=4).together == watch.sessions
