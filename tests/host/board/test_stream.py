"""Streams: pipelined over a line that does anything, they hand out NumPy's tokens and leave NumPy's state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import NoAnswer, UsageError
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.requests import SERIAL_ANSWERS
from ternac.host.session import Session
from ternac.link import MAX_PROMPT
from ternac.run.generation import Run
from ternac.run.sampling import GREEDY, Sampling
from ternac.sim.link_model import MachineEngine
from tests.host.boards import Line, image_of, keep_slots, make_board, numpy_backend, small_program
from tests.host.faults import Fault, FaultyLine, faults

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)
SAMPLING = Sampling(False, 200, 4, 50)
PATIENCE = Patience(base=0.006, step=0.0, retries=12)


def load(requests: dict[int, Fault] | None = None, answers: dict[int, Fault] | None = None,
         *, window: int = 2, chunk: int = 4, journal: int = 60, slots: int = 3) -> BoardBackend:  # fmt: skip
    """A loaded board; the faults are counted from the first frame after the loading."""
    line = FaultyLine(make_board(IMAGE, window=window), {}, {})
    client = LinkClient(line, PATIENCE)
    backend = BoardBackend(client, client.hello(), PROGRAM, IMAGE, chunk, journal)
    backend.load(progress=False)
    line.counts, line.most = [0, 0], 0
    line.faults = (requests or {}), (answers or {})
    client.serial_answers = 2  # else there is hardly ever a second gap
    keep_slots(backend, slots)
    backend.tokens_per_answer = lambda: chunk  # type: ignore[method-assign]  # else all is one answer
    return backend


def line_of(backend: BoardBackend) -> FaultyLine:
    line = backend.client.transport
    assert isinstance(line, FaultyLine)
    return line


def numpy_run(tokens: list[int], count: int, sampling: Sampling = SAMPLING) -> tuple[list[int], np.ndarray]:
    backend = numpy_backend(PROGRAM)
    session = backend.open()
    chosen, _ = backend.run(session, Run(tokens, count, sampling, 7))
    return chosen, backend.get_state(session)


def prompt(length: int) -> list[int]:
    return [i * 31 % 256 for i in range(length)]


def check_any_fault_anywhere(
    requests: dict[int, Fault], answers: dict[int, Fault], length: int, count: int, stream: bool
) -> None:
    """Up to ten faults among the frames of one text: NumPy's tokens and state, and no error."""
    backend = load(requests, answers)
    session = backend.open()
    asked = (session, Run(prompt(length), count, SAMPLING, 7))
    got = list(backend.stream(*asked)) if stream else backend.run(*asked)[0]
    want, state = numpy_run(prompt(length), count)
    assert got == want
    assert np.array_equal(backend.get_state(session), state)


TEXTS = (faults(25, 5), faults(25, 5), st.integers(1, 320), st.integers(0, 40), st.booleans())


@settings(max_examples=4)
@given(st.tuples(*TEXTS))
def test_any_fault_anywhere(text: tuple[Any, ...]) -> None:
    check_any_fault_anywhere(*text)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.tuples(*TEXTS))
def test_any_fault_anywhere_at_length(text: tuple[Any, ...]) -> None:
    check_any_fault_anywhere(*text)


def check_streams_take_turns(data: st.DataObject) -> None:
    """Several sessions, fewer slots, faults; streams advanced in any order, closed and taken up again."""
    requests, answers = data.draw(faults(120, 4)), data.draw(faults(120, 4))
    backend = load(requests, answers, slots=2)
    sessions = [Session(backend, seed, lambda: None) for seed in range(4)]
    numpy = numpy_backend(PROGRAM)
    wants = [list(Session(numpy, seed, lambda: None).tokens([seed, 9], 60, SAMPLING)) for seed in range(4)]
    gots: list[list[int]] = [[] for _ in sessions]
    streams: list[Iterator[int] | None] = [None] * 4
    for _ in range(data.draw(st.integers(5, 20))):
        at = data.draw(st.integers(0, 3))
        match data.draw(st.sampled_from(["next", "next", "next", "leave", "look", "drop"])):
            case "next":
                left = 60 - len(gots[at])
                stream = streams[at] or sessions[at].tokens([] if gots[at] else [at, 9], left, SAMPLING)
                streams[at] = stream
                for _ in range(min(data.draw(st.integers(1, 9)), left)):
                    gots[at].append(next(stream))
            case "leave":
                streams[at] = None
            case "look":
                assert len(sessions[at].state) == PROGRAM.state_words
            case "drop":
                sessions[at].tokens([at])  # ends the stream, although it is never advanced
    for at, session in enumerate(sessions):
        assert gots[at] == wants[at][: len(gots[at])]
        fed = [at, 9, *gots[at][:-1]] if gots[at] else []
        assert np.array_equal(session.state, numpy_run(fed, 0)[1] if fed else np.zeros_like(session.state))


@settings(max_examples=5)
@given(st.data())
def test_streams_take_turns(data: st.DataObject) -> None:
    check_streams_take_turns(data)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_streams_take_turns_at_length(data: st.DataObject) -> None:
    check_streams_take_turns(data)


def test_two_requests_are_under_way() -> None:
    """Prompt and text as chains of RUNs that follow, the next one always sent before an answer is read."""
    backend = load(journal=10_000)
    line = line_of(backend)
    asked = (backend.open(), Run(prompt(3 * MAX_PROMPT + 5), 40, SAMPLING, 7))
    assert list(backend.stream(*asked)) == numpy_run(prompt(3 * MAX_PROMPT + 5), 40)[0]
    assert line.most == 2
    assert (backend.client.lost, backend.client.resent) == (0, 0)
    runs = line.counts[0]
    assert backend.run(*asked)[0]
    assert line.counts[0] - runs < 10
    assert backend.meter.steps == 2 * (3 * MAX_PROMPT + 5 + 39)


def test_a_device_with_one_buffer_gets_one_request_at_a_time() -> None:
    backend = load(window=1)
    assert (
        list(backend.stream(backend.open(), Run(prompt(400), 40, SAMPLING, 7)))
        == numpy_run(prompt(400), 40)[0]
    )
    assert line_of(backend).most == 1


def test_after_a_gap_one_request_at_a_time_for_a_while() -> None:
    backend = load(answers={16: ("lost", 0)}, journal=10_000)
    backend.client.serial_answers = SERIAL_ANSWERS
    session = backend.open()
    assert list(backend.stream(session, Run([1, 2], 400, SAMPLING, 7))) == numpy_run([1, 2], 400)[0]
    assert backend.client.lost == 1
    assert backend.client.window == 2


def test_an_engine_that_was_reset_gets_the_session_anew() -> None:
    """Between two answers the engine forgets what it ran and what its banks held."""
    backend = load(journal=10_000)
    board = line_of(backend).board
    stream = backend.stream(backend.open(), Run([1, 2], 60, SAMPLING, 7))
    got = [next(stream) for _ in range(20)]
    board.restart()
    assert isinstance(board.engine, MachineEngine)
    board.engine.bank[:] = 0
    got += stream
    want = numpy_run([1, 2], 60)[0]
    assert got == want
    assert backend.client.lost == 1


def test_tokens_are_right_when_the_line_is_cut() -> None:
    """What was handed out stands; the session is recalled there."""
    line = Line(make_board(IMAGE))
    client = LinkClient(line, PATIENCE)
    backend = BoardBackend(client, client.hello(), PROGRAM, IMAGE, 4)
    backend.load(progress=False)
    backend.tokens_per_answer = lambda: 4  # type: ignore[method-assign]
    session, got = backend.open(), []
    line.cut_after = line.writes + 20
    with pytest.raises(NoAnswer, match="cut"):
        got.extend(backend.stream(session, Run([1, 2], 400, SAMPLING, 7)))
    want, _ = numpy_run([1, 2], 400)
    assert got == want[: len(got)]
    assert len(got) > 8
    found = backend.recall(session)
    assert list(found.tokens) == [1, 2, *got[:-1]]


def test_closing_asks_the_board_for_nothing() -> None:
    backend = load()
    line = line_of(backend)
    stream = backend.stream(backend.open(), Run([1, 2], 60, SAMPLING, 7))
    next(stream)
    sent = line.counts[0]
    stream.close()
    assert line.counts[0] == sent


def test_a_session_used_elsewhere_ends_its_stream() -> None:
    backend = load()
    session = backend.open()
    stream = backend.stream(session, Run([1, 2], 60, SAMPLING, 7))
    got = [next(stream) for _ in range(3)]
    backend.step(session, got[-1])
    with pytest.raises(UsageError, match="used elsewhere"):
        next(stream)
    assert np.array_equal(backend.get_state(session), numpy_run([1, 2, *got], 0)[1])


def test_tokens_in_an_answer_follow_the_engine() -> None:
    """30 ms of work, at least 8 tokens, at most 255."""
    backend = load(chunk=5)
    del backend.tokens_per_answer  # type: ignore[method-assign]
    assert backend.tokens_per_answer() == 5  # nothing is known yet
    clock = backend.identity.clock_hz
    for cycles, want in ((clock // 1000, 30), (clock, 8), (100, 255)):
        backend.meter.cycles, backend.meter.steps = cycles, 1
        assert backend.tokens_per_answer() == want


def test_greedy_and_no_tokens() -> None:
    backend = load()
    session = backend.open()
    assert list(backend.stream(session, Run([1, 2], 30, GREEDY, 7))) == numpy_run([1, 2], 30, GREEDY)[0]
    other = backend.open()
    assert list(backend.stream(other, Run(prompt(700), 0, GREEDY, 7))) == []
    assert np.array_equal(backend.get_state(other), numpy_run(prompt(700), 0)[1])


def test_a_stream_costs_the_host_little() -> None:
    """What the host does for a token, the board aside: it must not be what an engine waits for."""
    backend = load(chunk=255, journal=1 << 20)
    engine = line_of(backend).board.engine
    engine.step = lambda *a, **k: (5, 7, 100)  # type: ignore[method-assign]
    stream = backend.stream(backend.open(), Run([1], 20_000, GREEDY, 7))
    began = time.process_time()
    assert sum(1 for _ in stream) == 20_000
    assert (time.process_time() - began) / 20_000 < 100e-6
