"""Requests over a line that answers as it is told: numbers, time-outs, counts, which error says what."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ternac.errors import BadFrame, DeviceRefused, LostAnswer, NoAnswer
from ternac.host.board import requests as module
from ternac.host.board.client import LinkClient
from ternac.host.board.requests import Patience, Requests
from ternac.link import ANSWER, Command, Frame, Identity, SlipDecoder, Status

Answers = Callable[[Frame], bytes]


class Clock:
    """Time that passes only while the line is read."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Told:
    """A line whose answers to each request come from a function; without one, time passes."""

    name = "the line"

    def __init__(self, answers: Answers, clock: Clock, byte_seconds: float = 0.0) -> None:
        self.answers, self.clock, self.byte_seconds = answers, clock, byte_seconds
        self.frames: list[Frame] = []
        self.waits: list[float] = []
        self._out = b""
        self._decoder = SlipDecoder()

    def write(self, data: bytes) -> None:
        for raw in self._decoder.feed(data):
            frame = Frame.decode(raw)
            assert frame is not None
            self.frames.append(frame)
            self._out += self.answers(frame)

    def read(self, timeout: float) -> bytes:
        self.waits.append(timeout)
        found, self._out = self._out, b""
        if not found:
            self.clock.now += timeout
        return found

    def close(self) -> None:
        """Nothing is held."""


def right(frame: Frame, status: int = 0, payload: bytes = b"") -> bytes:
    return Frame(frame.kind | ANSWER, frame.seq, bytes((status,)) + payload).wire()


def damaged(frame: Frame) -> bytes:
    """An answer with a wrong check."""
    wire = bytearray(right(frame, payload=b"abcdef"))
    wire[5] ^= 1
    return bytes(wire)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


PATIENCE = Patience(base=1.0, step=0.5, retries=2)


def opened(line: Told, patience: Patience = PATIENCE) -> Requests:
    """A line that is open; what went until then is not of the test."""
    answers, line.answers = line.answers, right
    client = Requests(line, patience, opening=lambda last: 0xFFFD)
    client.request(Command.HELLO)
    line.answers = answers
    line.frames.clear()
    line.waits.clear()
    return client


def test_a_board_that_said_nothing_yet_gets_one_request_at_a_time(clock: Clock) -> None:
    assert Requests(Told(right, clock)).window == 1


def test_requests_are_numbered_from_the_hello_on(clock: Clock) -> None:
    line = Told(right, clock)
    client = opened(line)
    for _ in range(5):
        client.request(Command.READ)
    assert [frame.seq for frame in line.frames] == [0xFFFE, 0xFFFF, 0, 1, 2]


def test_a_line_that_is_not_open_is_opened_by_the_first_request(clock: Clock) -> None:
    line = Told(right, clock)
    client = Requests(line, PATIENCE)
    assert not client.opened
    client.request(Command.READ)
    assert [frame.kind for frame in line.frames] == [Command.HELLO, Command.READ]
    assert client.opened and client.openings == 1


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.OUT_OF_ORDER, "an earlier request was lost"), (Status.NOT_OPEN, "the board restarted")],
)
def test_a_board_that_waits_for_another_number_closes_the_line(
    clock: Clock, status: Status, reason: str
) -> None:
    told, closed = [int(status)], []
    line = Told(lambda frame: right(frame, told.pop() if told and frame.kind == Command.READ else 0), clock)
    client = opened(line)
    client.on_closed = lambda: closed.append(True)
    with pytest.raises(LostAnswer, match=reason):
        client.request(Command.READ)
    assert closed == [True] and not client.opened and client.resent == 0
    client.request(Command.READ)
    assert [frame.kind for frame in line.frames] == [Command.READ, Command.HELLO, Command.READ]
    assert client.openings == 2


def test_a_request_that_is_given_up_closes_the_line(clock: Clock) -> None:
    line = Told(lambda frame: right(frame) if frame.kind == Command.HELLO else b"", clock)
    client, closed = opened(line), list[bool]()
    client.on_closed = lambda: closed.append(True)
    with pytest.raises(NoAnswer):
        client.request(Command.READ)
    assert closed == [True] and not client.opened


def test_a_request_behind_lost_ones_fails_and_is_not_sent(clock: Clock) -> None:
    """What it relies on may be gone: whoever asked must begin again."""
    line = Told(lambda frame: b"", clock)
    client = opened(line)
    lost = [client.post(Command.RUN, b"", 0) for _ in range(2)]
    with pytest.raises(LostAnswer, match="an earlier request was lost"):
        client.request(Command.READ)
    assert [frame.kind for frame in line.frames] == [Command.RUN, Command.RUN]
    assert all(isinstance(sent.error, LostAnswer) for sent in lost)


def test_a_line_that_is_cut_while_a_request_is_sent_is_closed(clock: Clock) -> None:
    line = Told(right, clock)
    client, closed = opened(line), list[bool]()
    client.on_closed = lambda: closed.append(True)

    def cut(data: bytes) -> None:
        raise NoAnswer("cut")

    line.write = cut  # type: ignore[method-assign]
    with pytest.raises(NoAnswer, match="cut"):
        client.request(Command.READ)
    assert closed == [True] and not client.opened


def test_a_hello_fails_what_is_in_flight(clock: Clock) -> None:
    """Nobody knows then what the board executed."""
    client = opened(Told(right, clock))
    sent = client.post(Command.RUN, b"", 0)
    client.collect(client.post(Command.HELLO, b"", 0))
    with pytest.raises(LostAnswer, match="the line was opened again"):
        client.collect(sent)


def test_an_interrupted_wait_closes_the_line(clock: Clock) -> None:
    line = Told(lambda frame: b"", clock)
    client = opened(line)
    sent = client.post(Command.RUN, b"", 0)

    def interrupted(timeout: float) -> bytes:
        raise KeyboardInterrupt

    line.read = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        client.collect(sent)
    assert not client.opened and "was interrupted" in str(sent.error)


def test_frames_that_are_no_slip_count_as_damaged_too(clock: Clock) -> None:
    line = Told(lambda frame: b"\xc0\xdb\x00\xc0" + damaged(frame) + right(frame), clock)
    client = opened(line)
    client.request(Command.READ)
    assert client.damaged == 2


def test_an_engine_that_is_stuck_fails_all_in_flight(clock: Clock) -> None:
    line = Told(lambda frame: right(frame, Status.STUCK), clock)
    client = opened(line)
    sent = [client.post(Command.RUN, b"", 0) for _ in range(2)]
    for one in sent:
        with pytest.raises(DeviceRefused, match="did not finish a token"):
            client.collect(one)
    assert not client.opened


def test_an_answer_may_take_its_work_and_the_time_on_the_line(clock: Clock) -> None:
    client = opened(Told(right, clock, byte_seconds=0.01))
    assert client.post(Command.RUN, b"", 4).timeout == 1.0 + 4 * 0.5 + 1500 * 0.01
    assert client.post(Command.HELLO, b"", 0).timeout == 1.0 + 15.0


def test_what_went_and_came_is_counted(clock: Clock) -> None:
    spoilt = [damaged, damaged, right]
    line = Told(lambda frame: spoilt[len(line.frames) - 1](frame), clock)
    client = Requests(line, PATIENCE)
    assert client.request(Command.HELLO) == b""
    size = len(line.frames[0].wire())
    assert (client.requests, client.resent, client.damaged, client.lost) == (1, 2, 2, 0)
    assert client.bytes_sent == 3 * size
    assert client.bytes_received == 2 * len(damaged(line.frames[0])) + len(right(line.frames[0]))


def test_a_wait_ends_when_its_time_is_over_and_not_later(clock: Clock) -> None:
    line = Told(lambda frame: b"", clock)
    with pytest.raises(NoAnswer, match=r"HELLO to the line, 3 attempts: no answer within 1\.0 s each"):
        Requests(line, PATIENCE).request(Command.HELLO)
    assert line.waits == [1.0] * 3 and clock.now == 103.0


def test_a_serial_line_is_asked_five_times_half_a_second_each(clock: Clock) -> None:
    line = Told(lambda frame: b"", clock)
    with pytest.raises(NoAnswer, match=r"5 attempts: no answer within 0\.5 s each"):
        Requests(line).request(Command.HELLO)
    assert line.waits == [0.5] * 5


def test_without_retries_one_that_is_alone_has_no_answer(clock: Clock) -> None:
    line = Told(lambda frame: b"", clock)
    with pytest.raises(NoAnswer, match="1 attempts") as caught:
        Requests(line, Patience(1.0, 0.5, 0)).request(Command.HELLO)
    assert not isinstance(caught.value, LostAnswer)


def test_damaged_answers_only_are_told_from_none(clock: Clock) -> None:
    with pytest.raises(BadFrame, match="3 attempts: answers fail their check"):
        Requests(Told(damaged, clock), PATIENCE).request(Command.HELLO)


def test_of_two_in_flight_neither_is_resent(clock: Clock) -> None:
    line = Told(lambda frame: b"", clock)
    client = opened(line)
    first, second = (client.post(Command.RUN, b"", 0) for _ in range(2))
    for sent in (first, second):
        with pytest.raises(LostAnswer, match=r"RUN to the line, 1 attempts: no answer within 1\.0 s$"):
            client.collect(sent)
    assert (len(line.frames), client.resent, client.lost) == (2, 0, 1)


def test_an_answer_to_a_later_one_says_that_one_is_missing(clock: Clock) -> None:
    line = Told(lambda frame: right(frame) if frame.seq == 0xFFFF else b"", clock)
    client = opened(line)
    first = client.post(Command.RUN, b"", 0)
    client.post(Command.RUN, b"", 0)
    with pytest.raises(LostAnswer, match="an answer is missing: a later one came"):
        client.collect(first)
    assert clock.now == 100.0


def test_after_a_lost_answer_so_many_runs_go_one_by_one(clock: Clock) -> None:
    lost, identity = [False], Identity(bytes(16), bytes(8), 0, bytes(16), window=2)

    def answers(frame: Frame) -> bytes:
        return (
            b""
            if lost[0]
            else right(frame, payload=identity.encode() if frame.kind == Command.HELLO else b"")
        )

    client = LinkClient(Told(answers, clock), PATIENCE)
    client.serial_answers = 3
    client.hello()
    assert client.window == 2
    lost[0] = True
    first, _ = (client.post(Command.RUN, b"", 0) for _ in range(2))
    with pytest.raises(LostAnswer):
        client.collect(first)
    lost[0] = False
    seen = []
    for _ in range(4):
        client.request(Command.WRITE)  # what is written for a session does not count
        seen.append(client.window)
        client.request(Command.RUN)
    assert [*seen, client.window] == [1, 1, 1, 2, 2]
