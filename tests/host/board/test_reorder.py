"""Lines that lose, double, damage, delay and reorder frames: no token and no state is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.errors import BadFrame, LostAnswer, NoAnswer
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.loader import load_image
from ternac.host.board.transport import Transport
from ternac.host.device import open_line
from ternac.host.executors import parse_executor
from ternac.link import (
    CRC_BYTES,
    FRAME_BYTES,
    HEAD_BYTES,
    Choice,
    Command,
    Frame,
    RunRequest,
    SlipDecoder,
    Status,
    crc32,
)
from ternac.run.generation import Run
from ternac.run.sampling import GREEDY, Sampling
from ternac.sim.link_model import LinkModel
from tests.host.adversary import AdverseLine, Clock, Faults, virtual_time
from tests.host.boards import FAST, Line, image_of, keep_slots, make_board, numpy_backend, runs, small_program

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)
DRAW = Sampling(False, 200, 4, 50)
PATIENCE = Patience(base=0.05, step=0.0, retries=12)
MIXED = Faults(lost=0.05, doubled=0.1, late=0.15, flipped=1e-4)


def _loaded() -> LinkModel:
    board = make_board(IMAGE)
    client = LinkClient(Line(board), FAST)
    load_image(client, client.hello(), IMAGE, "load", progress=False)
    return board


LOADED = _loaded()


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    with virtual_time(made):
        yield made


def opened(line: Any, slots: int = 3) -> BoardBackend:
    client = LinkClient(line, PATIENCE)
    client.serial_answers = 2  # else there is hardly ever a second gap
    backend = BoardBackend(client, client.hello(), PROGRAM, IMAGE, chunk=4, journal=60)
    backend.tokens_per_answer = lambda: 3  # type: ignore[method-assign]
    keep_slots(backend, slots)
    return backend


def talk(board: BoardBackend, rng: random.Random, turns: int) -> list[str]:
    """Run sessions alone, together and as streams on board and NumPy; returns what differs."""
    numpy, wrong = numpy_backend(PROGRAM), list[str]()
    ours, theirs = ([backend.open() for _ in range(5)] for backend in (board, numpy))
    streams: dict[int, tuple[Any, Any]] = {}
    for turn in range(turns):
        some = rng.sample(range(5), rng.randrange(1, 4))
        first, sampling = some[0], rng.choice((GREEDY, DRAW))
        tokens, count, state = [rng.randrange(256) for _ in some], rng.randrange(1, 12), rng.randrange(1, 99)
        match rng.randrange(6):
            case 0:
                for k in some:
                    streams.pop(k, None)
                got: Any = board.run_together([ours[k] for k in some], runs(tokens, count, sampling,
                                                                            [state] * len(some)))  # fmt: skip
                want: Any = [
                    numpy.run(theirs[k], Run([t], count, sampling, state))
                    for k, t in zip(some, tokens, strict=True)
                ]
            case 1:
                streams.pop(first, None)
                alone = Run(tokens, count, sampling, state)
                got, want = board.run(ours[first], alone), numpy.run(theirs[first], alone)
            case 2:
                streams.pop(first, None)
                got, want = board.get_state(ours[first]).tolist(), numpy.get_state(theirs[first]).tolist()
            case 3:
                streams.pop(first, None)
                logits = board.step(ours[first], tokens[0]), numpy.step(theirs[first], tokens[0])
                got, want = (some.tolist() for some in logits)
            case _:  # streams of several sessions are taken turn by turn
                if first not in streams:
                    text = Run(tokens, 40, sampling, state)
                    streams[first] = board.stream(ours[first], text), numpy.stream(theirs[first], text)
                got, want = ([token for token, _ in zip(each, range(count), strict=False)]
                             for each in streams[first])  # fmt: skip
                if len(want) < count:
                    del streams[first]
        if got != want:
            wrong.append(f"turn {turn}: {got} instead of {want}")
    for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if not np.array_equal(board.get_state(one), numpy.get_state(other)):
            wrong.append(f"state of session {k}")
    return wrong


def campaign(
    seed: int, clock: Clock, faults: Faults = MIXED, turns: int = 25
) -> tuple[list[str], AdverseLine]:
    rng = random.Random(seed)
    line = AdverseLine(copy.deepcopy(LOADED).feed, rng, faults, clock)
    return talk(opened(line), rng, turns), line


@pytest.mark.parametrize("seed", range(10))
def test_no_token_and_no_state_is_wrong(seed: int, clock: Clock) -> None:
    wrong, line = campaign(seed, clock)
    assert wrong == []
    assert all(way.counts["late"] > 10 for way in line.ways)


@pytest.mark.parametrize("late", [0.02, 0.2])
def test_a_line_that_only_reorders(late: float, clock: Clock) -> None:
    for seed in range(3):
        assert campaign(seed, clock, Faults(doubled=0.3, late=late))[0] == []


def test_on_a_hopeless_line_no_token_is_wrong_either(clock: Clock) -> None:
    """Half of all frames come late, HELLOs too: in the end a call fails, and says so."""
    failed = 0
    for seed in range(6):
        try:
            assert campaign(seed, clock, Faults(lost=0.1, doubled=0.3, late=0.5, flipped=1e-3))[0] == []
        except (LostAnswer, NoAnswer, BadFrame):
            failed += 1
    assert failed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_no_token_and_no_state_is_wrong_at_length(seed: int, clock: Clock) -> None:
    assert campaign(seed, clock, turns=60)[0] == []


def test_a_board_that_ignores_the_numbers_is_caught(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: what is not the last request once more is executed, as in version 3 of the link."""
    monkeypatch.setattr(LinkModel, "refusal", lambda board, seq: Status.OK)
    assert sum(bool(campaign(seed, clock)[0]) for seed in range(10)) >= 5


def test_a_load_over_such_a_line(clock: Clock) -> None:
    for seed in range(3):
        board = make_board(IMAGE)
        client = LinkClient(AdverseLine(board.feed, random.Random(seed), MIXED, clock), PATIENCE)
        load_image(client, client.hello(), IMAGE, "load", progress=False)
        assert board.identity.program_hash == LOADED.identity.program_hash
        for mem, words in IMAGE.memories.items():
            assert np.array_equal(board.engine.memories[mem], words)  # type: ignore[attr-defined]


class Process:
    """The simulated board in RTL as a function: as many answers come as whole frames went."""

    def __init__(self, line: Transport) -> None:
        self.line = line
        self._to, self._back = SlipDecoder(FRAME_BYTES), SlipDecoder()

    def feed(self, data: bytes) -> bytes:
        due = sum(Frame.decode(raw) is not None for raw in self._to.feed(data))
        self.line.write(data)
        found = b""
        while due > 0:
            some = self.line.read(30.0)
            assert some, "the board does not answer"
            found += some
            due -= len(self._back.feed(some))
        return found


def test_the_same_on_the_simulated_board_in_rtl(clock: Clock) -> None:
    process = open_line(parse_executor("sim"), "tiny", preset("tiny"))
    try:
        board, rng = Process(process), random.Random(5)
        client = LinkClient(AdverseLine(board.feed, rng, Faults(), clock), PATIENCE)
        load_image(client, client.hello(), IMAGE, "load", progress=False)
        line = AdverseLine(board.feed, rng, MIXED, clock)
        assert talk(opened(line), rng, 25) == []
        assert line.frames > 300
        assert all(way.counts["late"] > 10 and way.counts["lost"] > 5 for way in line.ways)
    finally:
        process.close()


class LateFirstCopy(Line):
    """The first copy of the ``at``-th RUN comes behind the request after its answered second copy."""

    def __init__(self, at: int, behind: int) -> None:
        super().__init__(copy.deepcopy(LOADED))
        self.at, self.behind = at, behind
        self.held: bytes = b""
        self.after = 0

    def write(self, data: bytes) -> None:
        is_run = data[1] == Command.RUN
        self.at -= is_run
        if is_run and self.at == 0 and not self.held:
            self.held, self.writes = data, self.writes + 1
            return  # the host sends it again when the time-out has passed
        super().write(data)
        if self.held and data != self.held:
            self.after += 1
            if self.after == self.behind:
                self.board.feed(self.held)


@pytest.mark.parametrize("behind", [1, 2])
@pytest.mark.parametrize("at", [1, 2])
def test_a_late_first_copy_of_a_run_is_not_executed_again(at: int, behind: int) -> None:
    """The case that gave wrong tokens, 4 of 4: it came after the next request, and ran once more."""
    line, numpy = LateFirstCopy(at, behind), numpy_backend(PROGRAM)
    client = LinkClient(line, Patience(base=0.01, step=0, retries=4))
    board = BoardBackend(client, client.hello(), PROGRAM, IMAGE, chunk=4)
    ours, theirs = board.open(), numpy.open()
    for _ in range(5):
        assert board.run(ours, Run([1, 2], 5, DRAW, 7)) == numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
    assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))
    assert line.board.refused == 1


def of_equal_crc(first: Frame, second: Frame) -> Frame:
    """Return ``second`` with other four bytes at the beginning of its payload, so that the CRCs are equal."""

    def crc(number: int) -> int:
        changed = Frame(second.kind, second.seq, number.to_bytes(4, "little") + second.payload[4:])
        return crc32(changed.encode()[:-CRC_BYTES])

    base, wanted = crc(0), crc32(first.encode()[:-CRC_BYTES])
    rows = [(crc(1 << bit) ^ base, 1 << bit) for bit in range(32)]
    rest, number = wanted ^ base, 0
    for bit in range(32):  # Gauss: the CRC is linear in the bits
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [(a ^ pivot[0], b ^ pivot[1]) if a >> bit & 1 else (a, b) for a, b in rows if (a, b) != pivot]
        if rest >> bit & 1:
            rest, number = rest ^ pivot[0], number ^ pivot[1]
    return Frame(second.kind, second.seq, number.to_bytes(4, "little") + second.payload[4:])


def test_two_runs_of_one_crc_are_two() -> None:
    """The case that answered the second with the first one's tokens."""
    choice = Choice(False, 200, 4, 50)
    first = Frame(Command.RUN, 6, RunRequest(0, [1, 2], 5, choice, rng=7).encode())
    second = of_equal_crc(first, Frame(Command.RUN, 7, RunRequest(0, [9], 5, choice).encode()))
    assert first.encode()[-CRC_BYTES:] == second.encode()[-CRC_BYTES:] and first != second
    states = [int.from_bytes(frame.payload[:4], "little") for frame in (first, second)]
    numpy, client = (
        numpy_backend(PROGRAM),
        LinkClient(Line(copy.deepcopy(LOADED)), FAST, opening=lambda last: 5),
    )
    client.hello()
    theirs = numpy.open()
    client.transport.board.engine.bank[:] = 0  # type: ignore[attr-defined]
    for tokens, rng in zip(([1, 2], [9]), states, strict=True):
        run = Run(tokens, 5, DRAW, rng)
        answer, want = client.run(IMAGE.session_base(0), run), numpy.run(theirs, run)
        assert (answer.tokens, answer.rng) == (want.tokens, want.rng)
    assert len(first.encode()) > HEAD_BYTES


def test_a_late_hello_closes_the_line(clock: Clock) -> None:
    """It moves the board's number back: the next request is refused, and the sessions are written again."""
    line, numpy = Line(copy.deepcopy(LOADED)), numpy_backend(PROGRAM)
    sent: list[bytes] = []
    write = line.write
    line.write = lambda data: (sent.append(data), write(data))  # type: ignore[method-assign,assign]
    board = opened(line)
    ours, theirs = board.open(), numpy.open()
    for _ in range(4):
        assert board.run(ours, Run([1, 2], 5, DRAW, 7)) == numpy.run(theirs, Run([1, 2], 5, DRAW, 7))
        line.board.feed(sent[0])
        line.board.feed(b"".join(sent[1:3]))
    assert board.client.openings == 4
    assert np.array_equal(board.get_state(ours), numpy.get_state(theirs))


def test_a_board_that_always_refuses_ends_in_an_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkModel, "refusal", lambda board, seq: Status.OUT_OF_ORDER)
    board = opened(Line(copy.deepcopy(LOADED)))
    session = board.open()
    for call in (lambda: board.run(session, Run([1], 3)), lambda: board.step(session, 1)):
        with pytest.raises(LostAnswer, match="an earlier request was lost"):
            call()
