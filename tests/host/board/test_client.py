"""Requests over a faulty line: right answers or typed errors, never a wrong token."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.compile.loading import load_requests, program_id
from ternac.errors import BadFrame, DeviceRefused, NoAnswer
from ternac.host.board.client import LinkClient, Patience
from ternac.link import Command, Frame
from ternac.run.generation import Run
from ternac.run.sampling import Sampling
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
    assert line.board.executed - executed == 6


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


def test_answers_of_wrong_size():
    class Odd(Line):
        def write(self, data):
            seq = data[2]
            self.out += Frame(data[1] | 0x80, seq, b"\x00xyz").wire()

    for ask in (
        lambda c: c.hello(),
        lambda c: c.read(0, 0, 4),
        lambda c: c.run(0, Run([1], 1, Sampling(), 1)),
    ):
        with pytest.raises(BadFrame):
            ask(LinkClient(Odd(make_board(IMAGE)), FAST))
