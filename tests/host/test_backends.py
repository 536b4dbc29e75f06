"""Back ends: a session happens whole or not at all, and what the host recalls of it leads where it stands."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.errors import NoAnswer, UsageError
from ternac.host.backend import Backend, ReplayPoint
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient
from ternac.host.executors import open_executor
from ternac.host.local import LocalBackend
from ternac.link import MAX_PROMPT, MAX_WORDS
from ternac.run.generation import Run
from ternac.run.sampling import GREEDY, Sampling
from tests.host.boards import FAST, Line, image_of, keep_slots, make_board, numpy_backend, runs, small_program
from tests.host.native.native_here import needs_native

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)
SAMPLING = Sampling(False, 200, 4, 50)


def board_backend(line: Line | None = None, **options: int) -> BoardBackend:
    client = LinkClient(line or Line(make_board(IMAGE)), FAST)
    backend = BoardBackend(client, client.hello(), PROGRAM, IMAGE, 32, **options)
    backend.load(progress=False)
    return backend


def native() -> Backend:
    return LocalBackend(open_executor("native", PROGRAM))


@pytest.fixture(params=["numpy", pytest.param("native", marks=needs_native), "board"])
def backend(request: pytest.FixtureRequest) -> Backend:
    makers = {"numpy": lambda: numpy_backend(PROGRAM), "native": native, "board": board_backend}
    return makers[request.param]()


def moved(found: ReplayPoint) -> np.ndarray:
    """The state that NumPy reaches from what was recalled."""
    other = numpy_backend(PROGRAM)
    session = other.open()
    other.set_state(session, found.state)
    if found.tokens:
        other.run(session, Run(found.tokens, 0, GREEDY, 1))
    return other.get_state(session)


def test_recall_leads_to_the_state(backend: Backend) -> None:
    session = backend.open()
    assert not backend.recall(session).state.any()
    assert backend.recall(session).tokens == ()
    chosen, rng = backend.run(session, Run([3, 1, 4], 20, SAMPLING, 7))
    backend.step(session, 9)
    backend.run_together([session], runs([2], 5, SAMPLING, [rng]))
    found = backend.recall(session)
    state = backend.get_state(session)
    assert np.array_equal(moved(found), state)
    backend.set_state(session, state[::-1].copy())
    assert np.array_equal(backend.recall(session).state, state[::-1])
    assert chosen


def test_recall_after_close(backend: Backend) -> None:
    session = backend.open()
    backend.run(session, Run([3, 1, 4], 20, SAMPLING, 7))
    state = backend.get_state(session)
    backend.run(session, Run([5], 0, SAMPLING, 7))
    backend.close()
    want = numpy_backend(PROGRAM)
    other = want.open()
    want.set_state(other, state)
    want.run(other, Run([5], 0, SAMPLING, 7))
    assert np.array_equal(moved(backend.recall(session)), want.get_state(other))
    backend.release(session)
    with pytest.raises(UsageError, match="closed"):
        backend.recall(session)


def test_a_wrong_state_is_refused(backend: Backend) -> None:
    session = backend.open()
    words = PROGRAM.state_words
    for state in (np.zeros(words + 1, np.int16), np.zeros(words, np.int32), np.zeros((1, words), np.int16)):
        with pytest.raises(UsageError, match=rf"needs int16\[{words}\]"):
            backend.set_state(session, state)


def test_what_fails_has_not_happened(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in mid-run: the session is where it was, and goes on right."""
    session = backend.open()
    backend.run(session, Run([3, 1, 4], 20, SAMPLING, 7))
    before = moved(backend.recall(session))
    owner, name = (
        (backend.client.transport, "read")
        if isinstance(backend, BoardBackend)
        else (backend.executor, "step" if backend.name == "numpy" else "generate")  # type: ignore[attr-defined]
    )
    real, calls = getattr(owner, name), 0

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        found = real(*args, **kwargs)
        if calls == 1 and backend.name == "numpy":
            return found
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.run(session, Run([8, 9], 4, SAMPLING, 7))
    monkeypatch.undo()
    assert calls
    assert np.array_equal(moved(backend.recall(session)), before)
    assert np.array_equal(backend.get_state(session), before)
    want = numpy_backend(PROGRAM)
    other = want.open()
    want.set_state(other, before)
    assert backend.run(session, Run([8], 9, SAMPLING, 5)) == want.run(other, Run([8], 9, SAMPLING, 5))


@pytest.mark.parametrize("journal", [1, 7, 100])
def test_a_board_session_never_recalls_more_than_the_journal_and_a_request(journal: int) -> None:
    backend, want = board_backend(journal=journal), numpy_backend(PROGRAM)
    session, other = backend.open(), want.open()
    rng = np.random.default_rng(journal)
    for count in (0, 5, 90, 300):
        tokens = rng.integers(0, 256, 1 + count).tolist()
        assert backend.run(session, Run(tokens, count, SAMPLING, 3)) == want.run(
            other, Run(tokens, count, SAMPLING, 3)
        )
        assert len(backend.recall(session).tokens) < journal + MAX_PROMPT + MAX_WORDS
        assert np.array_equal(moved(backend.recall(session)), want.get_state(other))
    assert np.array_equal(backend.get_state(session), want.get_state(other))


def test_a_lost_board_loses_no_session() -> None:
    """More sessions than slots, then the line is cut: all go on elsewhere from what is recalled."""
    line = Line(make_board(IMAGE))
    backend, want = board_backend(line), numpy_backend(PROGRAM)
    keep_slots(backend, 3)
    pairs = [(backend.open(), want.open()) for _ in range(7)]
    for turn in range(3):
        for i, (one, other) in enumerate(pairs):
            asked = Run([i + 1, turn], 4, SAMPLING, 5)
            assert backend.run(one, asked) == want.run(other, asked)
    line.cut_after = line.writes
    with pytest.raises(NoAnswer):
        backend.run(pairs[0][0], Run([1], 1, SAMPLING, 5))
    for one, other in pairs:
        assert np.array_equal(moved(backend.recall(one)), want.get_state(other))
