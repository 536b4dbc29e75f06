"""A board that is configured again between two requests or under one: states are gone, no token is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest

from ternac.errors import DeviceRefused, LostAnswer
from ternac.host.board.backend import ATTEMPTS, BoardBackend
from ternac.host.board.client import LinkClient
from ternac.host.board.loader import load_image
from ternac.link import Command, Frame, SlipDecoder, Status
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
    line.board.restart()
    return line.board


LOADED = _loaded()


def baked() -> LinkModel:
    """A board as it starts with the program in its bitstream."""
    return copy.deepcopy(LOADED)


class Restarting(Line):
    """``at``: before these writes the board is configured again; what is then sent is lost with it."""

    def __init__(self, at: set[int], again: Callable[[], LinkModel] = baked) -> None:
        super().__init__(baked())
        self.at, self.again = at, again
        self.kinds: list[int] = []

    def write(self, data: bytes) -> None:
        self.kinds += [frame.kind for raw in SlipDecoder().feed(data) if (frame := Frame.decode(raw))]
        if self.writes + 1 in self.at:
            self.board = self.again()
            self.out.clear()
            self.writes += 1
            return
        super().write(data)


def opened(line: Line) -> BoardBackend:
    client = LinkClient(line, FAST)
    return BoardBackend(client, client.hello(), PROGRAM, IMAGE, chunk=4)


def test_between_two_requests() -> None:
    line, numpy = Restarting(set()), numpy_backend(PROGRAM)
    board = opened(line)
    ours, theirs = board.open(), numpy.open()
    for _ in range(3):
        assert board.run(ours, Run([1, 2], 5, DRAW, 7)) == numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
        line.board = baked()
        assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))
        line.board = baked()


def test_unnoticed_where_the_board_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault, a board that takes any number after it was configured again: it is seen."""
    monkeypatch.setattr(LinkModel, "refusal", lambda board, seq: Status.OK)
    line, numpy = Restarting(set()), numpy_backend(PROGRAM)
    board = opened(line)
    ours, theirs = board.open(), numpy.open()
    board.run(ours, Run([1, 2], 5, DRAW, 7))
    numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
    line.board = baked()
    assert not np.array_equal(board.get_state(ours), numpy.get_state(theirs))


@pytest.mark.parametrize("seed", range(12))
def test_under_any_request(seed: int) -> None:
    """Restarts at random writes; sessions alone, together and as streams; no call fails."""
    rng = random.Random(seed)
    line = Restarting({rng.randrange(2, 90) for _ in range(8)})
    board, numpy = opened(line), numpy_backend(PROGRAM)
    ours, theirs = ([backend.open() for _ in range(5)] for backend in (board, numpy))
    for _ in range(30):
        some = rng.sample(range(5), rng.randrange(1, 4))
        first, sampling = some[0], rng.choice((GREEDY, DRAW))
        tokens, count, state = [rng.randrange(256) for _ in some], rng.randrange(1, 9), rng.randrange(1, 99)
        want = [
            numpy.run(theirs[k], Run([t], count, sampling, state)) for k, t in zip(some, tokens, strict=True)
        ]
        if len(some) > 1:
            own = [ours[k] for k in some]
            assert board.run_together(own, runs(tokens, count, sampling, [state] * len(some))) == want
        elif rng.randrange(2):
            got = list(board.stream(ours[first], Run(tokens, count, sampling, state)))
            assert got == want[0][0]
        else:
            assert board.run(ours[first], Run(tokens, count, sampling, state)) == want[0]
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(board.get_state(one), numpy.get_state(other))
    assert line.writes > max(line.at)


def first_run() -> list[int]:
    """The requests of a session's first run: its state is written, then it runs."""
    line = Restarting(set())
    board = opened(line)
    board.run(board.open(), Run([1, 2], 5, DRAW, 7))
    return line.kinds


@pytest.mark.parametrize("lost", [False, True], ids=["lost with it", "after it"])
def test_between_the_writes_of_a_state_and_the_run(lost: bool) -> None:
    """At each of them: the next request is lost with the restart, or is the first that comes after it."""
    kinds = first_run()
    assert kinds[0] == Command.HELLO and set(kinds[1:-1]) == {Command.WRITE} and kinds[-1] == Command.RUN
    for at in range(2, len(kinds) + 1):

        class At(Restarting):
            def write(self, data: bytes) -> None:
                if self.writes + 1 in self.at and not lost:
                    self.board = baked()
                    self.at = set()
                super().write(data)

        line, numpy = At({at}), numpy_backend(PROGRAM)
        board = opened(line)
        ours, theirs = board.open(), numpy.open()
        assert board.run(ours, Run([1, 2], 5, DRAW, 7)) == numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
        assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))
        assert board.client.openings == 2


def test_behind_an_answer_with_a_run_in_flight() -> None:
    """A stream's next RUN goes out behind an answer, unasked: the board that restarted refuses it."""
    line, numpy = Restarting(set()), numpy_backend(PROGRAM)
    board = opened(line)
    board.tokens_per_answer = lambda: 4  # type: ignore[method-assign]
    ours, theirs = board.open(), numpy.open()
    want = list(numpy.stream(theirs, Run([1, 2], 60, DRAW, 7)))
    stream = board.stream(ours, Run([1, 2], 60, DRAW, 7))
    got = []
    for at, token in enumerate(stream):
        got.append(token)
        if at in (5, 17, 33, 45):
            line.board = baked()
            line.out.clear()  # answers that are on their way are lost with it
    assert got == want
    assert board.client.openings == 5
    assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))


def test_a_board_that_always_restarts_ends_in_an_error() -> None:
    line = Restarting(set())
    board = opened(line)
    session = board.open()

    def write(data: bytes) -> None:
        if b"\xc0\x01" not in data:
            line.board = baked()
        Line.write(line, data)

    line.write = write  # type: ignore[method-assign]
    with pytest.raises(LostAnswer, match="the board restarted"):
        board.run(session, Run([1], 3, GREEDY, 1))
    assert board.client.openings == 1 + ATTEMPTS - 1


def test_another_program_in_the_bitstream() -> None:
    line = Restarting(set())
    board, numpy = opened(line), numpy_backend(PROGRAM)
    ours, theirs = board.open(), numpy.open()
    board.run(ours, Run([1], 3, GREEDY, 1))
    numpy.run(theirs, Run([1], 3, GREEDY, 1))
    line.board = make_board(IMAGE, bytes(range(16)))
    for _ in range(2):
        with pytest.raises(DeviceRefused, match="restarted and does not hold"):
            board.run(ours, Run([5], 3, GREEDY, 1))
    recalled = board.recall(ours)
    again = numpy.open()
    numpy.set_state(again, recalled.state)
    for token in recalled.tokens:
        numpy.step(again, token)
    assert np.array_equal(numpy.get_state(again), numpy.get_state(theirs))


def test_being_sure_costs_no_request() -> None:
    line = Restarting(set())
    board = opened(line)
    session = board.open()
    board.run(session, Run([1], 3, GREEDY, 1))
    before = line.writes
    for _ in range(5):
        board.run(session, Run([1], 3, GREEDY, 1))
    assert line.writes == before + 5


def test_a_load_that_a_restart_interrupts_begins_again() -> None:
    image_writes = len(first_load(Restarting(set(), lambda: make_board(IMAGE))))
    for at in range(3, image_writes, 7):
        line = Restarting({at}, lambda: make_board(IMAGE))
        first_load(line)
        assert line.board.identity.program_hash == LOADED.identity.program_hash
        for mem, words in IMAGE.memories.items():
            assert np.array_equal(line.board.engine.memories[mem], words)  # type: ignore[attr-defined]


def first_load(line: Restarting) -> list[int]:
    """Load an empty board; returns the kinds of the requests."""
    line.board = make_board(IMAGE)
    client = LinkClient(line, FAST)
    load_image(client, client.hello(), IMAGE, "load", progress=False)
    return line.kinds
