"""Requests over a faulty line: right answers or typed errors, never a wrong token."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.compile.loading import load_requests, program_id
from ternac.errors import BadFrame, DeviceRefused, LostAnswer, NoAnswer, WrongBitstream
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.requests import LATE, draw_opening
from ternac.link import ANSWER, SEQUENCE, Command, Frame, SlipDecoder, Status, crc32, slip_encode
from ternac.run.generation import Run
from ternac.run.sampling import Sampling
from ternac.sim.link_model import EngineStuck
from tests.host.boards import BITSTREAM, FAST, Line, image_of, make_board, small_program

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)


def loaded_board():
    board = make_board(IMAGE)
    client = LinkClient(Line(board), FAST)
    for command, payload in load_requests(IMAGE):
        client.request(Command(command), payload)
    return board


def test_hello():
    board = make_board(IMAGE)
    identity = LinkClient(Line(board), FAST).hello()
    assert identity == board.identity
    assert identity.bitstream_id == BITSTREAM


def test_load_writes_every_word():
    board = loaded_board()
    assert board.identity.program_hash == program_id(IMAGE)
    for mem, words in IMAGE.memories.items():
        assert (board.engine.memories[mem] == words).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), faults=st.sampled_from([0.1, 0.3]))
def test_faults_never_change_an_answer(seed, faults):
    """The same requests over a clean and a faulty line give the same answers and execute once."""
    clean, faulty = LinkClient(Line(loaded_board()), FAST), None
    line = Line(loaded_board(), seed, faults)
    faulty = LinkClient(line, Patience(base=0.01, step=0, retries=60))
    executed = line.board.executed
    rng = 77
    for tokens in ([1, 2, 3], [4], [5, 6]):
        sampling = Sampling(False, 200, 4, 20)
        want = clean.run(IMAGE.session_base(1), Run(tokens, 4, sampling, rng))
        assert faulty.run(IMAGE.session_base(1), Run(tokens, 4, sampling, rng)) == want
        rng = want.rng
        assert (faulty.read(2, IMAGE.state_base, 9) == clean.read(2, IMAGE.state_base, 9)).all()
    assert line.board.executed - executed == 1 + 6


def test_garbage_only_is_a_bad_frame():
    class Garbage(Line):
        def read(self, timeout):
            return b"\xc0garbage\xc0"

    client = LinkClient(Garbage(make_board(IMAGE)), FAST)
    with pytest.raises(BadFrame, match="fail their check"):
        client.hello()


def test_silence_is_no_answer_within_the_time_out():
    class Silence(Line):
        def write(self, data):
            self.writes += 1

    line = Silence(make_board(IMAGE))
    client = LinkClient(line, Patience(base=0.02, step=0, retries=3))
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="4 attempts"):
        client.hello()
    assert line.writes == 4
    assert time.monotonic() - began < 2


def test_a_cut_line_is_no_answer_at_once():
    client = LinkClient(Line(make_board(IMAGE), cut_after=1), FAST)
    client.hello()
    with pytest.raises(NoAnswer, match="cut"):
        client.hello()


def test_old_answers_are_ignored():
    line = Line(make_board(IMAGE))
    client = LinkClient(line, FAST)
    client.hello()
    line.out += Frame(0x81, 0, b"\x00wrong").wire() + Frame(0x84, 1, b"\x00wrong").wire()
    assert client.hello() == line.board.identity
    assert client.resent == 0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda c: c.run(0, Run([1], 1, Sampling(), 1)), "refused RUN: no program is loaded"),
        (lambda c: c.request(Command.WRITE, b"\x09\x00\x00\x00"), "no such memory"),
        (lambda c: c.request(Command.READ, b""), "wrong length"),
        (lambda c: c.commit(b"short"), "refused COMMIT"),
    ],
)
def test_refusals(request_, message):
    with pytest.raises(DeviceRefused, match=message):
        request_(LinkClient(Line(make_board(IMAGE)), FAST))


@pytest.mark.parametrize(
    "ask",
    [lambda c: c.hello(), lambda c: c.read(0, 0, 4), lambda c: c.run(0, Run([1], 1, Sampling(), 1))],
    ids=["hello", "read", "run"],
)
def test_answers_of_wrong_size(ask):
    class Odd(Line):
        odd = False

        def write(self, data):
            if self.odd:
                (raw,) = SlipDecoder().feed(data)
                frame = Frame.decode(raw)
                self.out += Frame(frame.kind | ANSWER, frame.seq, b"\x00xyz").wire()
            else:
                super().write(data)

    line = Odd(make_board(IMAGE))
    client = LinkClient(line, FAST)
    client.hello()
    line.odd = True
    with pytest.raises(BadFrame):
        ask(client)


class ShortNumbers(Line):
    """Sees a frame with a sequence number of one byte, as boards of link version 3, and answers HELLO."""

    version, second = 3, None

    def write(self, data):
        (raw,) = SlipDecoder().feed(data)
        identity = bytearray(replace(self.board.identity, version=self.version).encode())
        if self.second is not None:
            identity[1] = self.second
        body = bytes((raw[0] | ANSWER, raw[1], Status.OK)) + identity
        self.out += slip_encode(body + crc32(body).to_bytes(4, "little"))


@pytest.mark.parametrize("number", [0x1234, 0x0034, 0x0100])
@pytest.mark.parametrize("second", [None, 0, 255])
def test_a_board_of_version_3_is_named(number, second):
    """Its payload is one that a HELLO ignores; the version is its first byte."""
    line = ShortNumbers(make_board(IMAGE))
    line.second = second
    client = LinkClient(line, FAST, opening=lambda last: number)
    with pytest.raises(WrongBitstream, match="speaks version 3 of the link, this host 4") as caught:
        client.hello()
    assert "ternac flash" in caught.value.hint


def test_an_answer_of_that_shape_with_this_version_is_none():
    line = ShortNumbers(make_board(IMAGE))
    line.version = 4
    with pytest.raises(NoAnswer):
        LinkClient(line, FAST, opening=lambda last: 0x1234).hello()


def test_numbers_count_from_the_one_that_opens_and_a_new_opening_is_far_from_both():
    """No request of the last 4,096, nor of the next ones, has the number that the board waits for."""
    numbers = [draw_opening(None) for _ in range(50)]
    assert len(set(numbers)) > 30
    for last in (0, 60_000, SEQUENCE - 1):
        for _ in range(200):
            assert LATE <= (draw_opening(last) - last) % SEQUENCE < SEQUENCE - LATE
    line, sent = Line(loaded_board()), []
    client = LinkClient(line, FAST, opening=lambda last: SEQUENCE - 2)
    write = line.write
    line.write = lambda data: (sent.extend(SlipDecoder().feed(data)), write(data))
    client.hello()
    for _ in range(4):
        client.read(0, 0, 1)
    assert [Frame.decode(raw).seq for raw in sent] == [SEQUENCE - 2, SEQUENCE - 1, 0, 1, 2]


def test_a_stuck_engine_is_refused_and_said_how_to_heal():
    """From then on everything but HELLO is refused, until the board is configured again."""
    board = loaded_board()
    client = LinkClient(Line(board), FAST)
    step = board.engine.step

    def stuck(*args, **named):
        raise EngineStuck

    board.engine.step = stuck
    run = Run([1], 1, Sampling(), 1)
    for ask in (lambda: client.run(0, run), lambda: client.run(0, run), lambda: client.read(0, 0, 1)):
        with pytest.raises(DeviceRefused, match="the engine did not finish a token") as caught:
            ask()
        assert "configure the board again" in caught.value.hint
    board.engine.step = step
    assert client.hello().loaded
    board.restart()
    with pytest.raises(LostAnswer, match="the board restarted"):
        client.read(0, 0, 3)
    assert len(client.read(0, 0, 3)) == 3
