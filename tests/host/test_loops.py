"""The runs of a program's loops that a request asks for: sessions and back ends, snapshots, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem, preset
from ternac.errors import UsageError
from ternac.host import local
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient
from ternac.host.board.loop_counts import LoopCounts
from ternac.host.device import Device
from ternac.host.executors import open_executor, why_missing
from ternac.host.local import LocalBackend
from ternac.host.session import Session
from ternac.program.program import Program
from ternac.run.executor import Executor
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from tests.host.boards import FAST, Line, make_board
from tests.host.native.native_here import needs_native
from tests.host.test_backends import board_backend
from tests.program.memory_toy import loop_program, memory_program, text_loop_program

PROGRAM = text_loop_program()
NARROW = replace(
    PROGRAM,
    memories={name: replace(memory, dtype="i8") for name, memory in PROGRAM.memories.items()},
    ops=tuple(replace(op, attrs=op.attrs | {"shift": 0}) if op.out == "o" else op for op in PROGRAM.ops),
)
"""With rows as engines have them, and a sum of two that is no mean, so that all loops say other things."""
ENGINE = preset("tiny-rows")
PROMPT = [72, 101, 108, 108, 111]
DRAW = Sampling(False, 200, 4, 0)
ASKED = (None, 1, 2, 3, 4)
native = pytest.param("native", marks=needs_native)


class Text:
    """A text by the executor's ``step`` and ``choose`` alone, which may ask for other loops at any time."""

    def __init__(self, executor: Executor, seed: int = 1) -> None:
        self.executor, self.state, self.rng = executor, executor.open(1), seed_state(seed)
        self.pending: list[int] = []

    def go(self, prompt: Sequence[int], count: int, loops: int | None) -> list[int]:
        feed, chosen = [*self.pending, *prompt], []
        for _ in range(count):
            for token in feed:
                logits = self.executor.step(self.state, [token], loops=loops)[0]
            token, self.rng = choose(logits, DRAW, self.rng)
            chosen.append(token)
            feed = [token]
        self.pending = feed
        return chosen


@pytest.mark.parametrize("name", ["numpy", native])
@pytest.mark.parametrize("loops", ASKED)
def test_a_session_runs_the_loops_that_a_request_asks_for(name: str, loops: int | None) -> None:
    want = Text(NumpyExecutor(PROGRAM))
    tokens = want.go(PROMPT, 12, loops)
    with Device.open(name, PROGRAM) as device, device.session() as session:
        assert list(session.tokens(PROMPT, 12, DRAW, loops=loops)) == tokens
        assert np.array_equal(session.state, want.state[0])
        logits = session.step(tokens[-1], loops)
        assert np.array_equal(logits, want.executor.step(want.state, [tokens[-1]], loops=loops)[0])


def test_other_loops_say_other_things() -> None:
    """Else the tests here could not fail."""
    for program in (PROGRAM, NARROW):
        assert len({tuple(Text(NumpyExecutor(program)).go(PROMPT, 12, loops)) for loops in (1, 2, 3, 4)}) == 4
    assert Text(NumpyExecutor(PROGRAM)).go(PROMPT, 12, None) == Text(NumpyExecutor(PROGRAM)).go(PROMPT, 12, 2)


@pytest.mark.parametrize("journal", [1, 4, 512])
@pytest.mark.parametrize("rows", [True, False])
def test_a_session_may_ask_for_other_loops_every_time(
    rows: bool, journal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams that are left in the middle, requests that fail, a session that is recalled: none of the
    tokens is fed again with the loops of another request.
    """
    monkeypatch.setattr(local, "JOURNAL", journal)
    program = PROGRAM if rows else without_rows()
    want, one = Text(NumpyExecutor(program)), LocalBackend(NumpyExecutor(program))
    one.chunk = 5
    session = Session(one)
    for loops in (3, None, 1, 1, 4, 2):
        stream = session.tokens([7], 12, DRAW, loops=loops)
        got = [next(stream) for _ in range(7)]
        assert got == want.go([7], 7, loops)
        assert np.array_equal(session.state, want.state[0])
        with pytest.raises(UsageError, match="loops is 5"):
            session.tokens([7], 3, DRAW, loops=5)
        fail_once(one, monkeypatch)
        with pytest.raises(RuntimeError):
            list(session.tokens([8, 9], 3, DRAW, loops=1 if loops == 4 else 4))
        point = one.recall(1)
        other = LocalBackend(NumpyExecutor(program))
        again = other.open()
        other.set_state(again, point.state)
        other.run(again, Run(point.tokens, loops=point.loops))
        assert np.array_equal(other.get_state(again), want.state[0])


def without_rows() -> Program:
    """A program with a loop and a state, and no memory: its sessions have no journal."""
    program = text_loop_program()
    ops = [op for op in program.ops if op.kind not in ("MEM_UPDATE", "MEM_READ")]
    changed = []
    for op in ops:
        if op.out == "o":
            op = type(op)("REQUANT", "o", ("old",), {"shift": 1, "dtype": "i16"})
        if op.kind == "LOOP":
            op = type(op)("LOOP", op.out, op.ins, {**op.attrs, "length": 7})
        changed.append(op)
    return Program(
        "text-loop", 256, tuple(changed), program.consts, program.states, "logits", program.logit_scale_bits
    )


def fail_once(one: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next ``generate`` of a back end's executor fails when it has fed half of it."""
    real = one.executor.generate

    def generate(*args: object, **kwargs: object) -> object:
        one.executor.generate = real  # type: ignore[method-assign]
        real(*args, **kwargs)  # type: ignore[arg-type]
        raise RuntimeError("half-way")

    one.executor.generate = generate  # type: ignore[method-assign, assignment]


def test_runs_with_different_loops_are_not_one_batch() -> None:
    one = LocalBackend(open_executor("native" if not why_missing("native") else "numpy", PROGRAM))
    sessions = [one.open(), one.open()]
    if one.together < 2:
        pytest.skip("this executor runs one session at a time")
    with pytest.raises(UsageError, match="same count, sampling and loops"):
        one.run_together(sessions, [Run([1], 2, DRAW, 1, 3), Run([1], 2, DRAW, 1, 4)])
    found = one.run_together(sessions, [Run([1], 4, DRAW, 5, 3), Run([2], 4, DRAW, 6, 3)])
    for first, rng, (tokens, _) in zip((1, 2), (5, 6), found, strict=True):
        text = Text(NumpyExecutor(PROGRAM))
        text.rng = rng
        assert tokens == text.go([first], 4, 3)


def test_texts_together_have_the_loops_asked_for() -> None:
    with Device.open("auto", PROGRAM) as device:
        found = device.generate_together([b"Hello", b"Hell"], 6, loops=3)
        for prompt, text in zip((b"Hello", b"Hell"), found, strict=True):
            with device.session() as session:
                assert b"".join(session.generate(prompt, 6, loops=3)) == text


def test_a_snapshot_carries_no_loops() -> None:
    """They are the request's: a session that goes on without them runs as the program says."""
    want = Text(NumpyExecutor(PROGRAM))
    with Device.open("numpy", PROGRAM) as device, device.session() as session, device.session() as other:
        assert list(session.tokens(PROMPT, 4, DRAW, loops=4)) == want.go(PROMPT, 4, 4)
        other.restore(session.snapshot())
        rest = want.go([], 4, None)
        assert list(other.tokens((), 4, DRAW)) == list(session.tokens((), 4, DRAW)) == rest
        assert session.snapshot() == other.snapshot()


@pytest.mark.parametrize(
    "program, loops, words",
    [
        (memory_program(), 1, "loops is 1, and memory has no LOOP whose runs can be chosen"),
        (loop_program(levels=1), 2, "loops is 2, and loop has no LOOP whose runs can be chosen"),
        (PROGRAM, 5, "loops is 5, text-loop runs 1..4"),
        (PROGRAM, 0, "loops is 0, text-loop runs 1..4"),
        (PROGRAM, True, "loops is True, text-loop runs 1..4"),
    ],
)
def test_loops_that_a_program_has_not_are_refused_at_once(program: Program, loops: int, words: str) -> None:
    backend = LocalBackend(NumpyExecutor(program))
    session = Session(backend)
    for call in (
        lambda: session.tokens([1], 1, loops=loops),
        lambda: session.step(1, loops),
        lambda: backend.run(1, Run([1], 1, loops=loops)),
        lambda: backend.run_together([1], [Run([1], 1, loops=loops)]),
        lambda: backend.step(1, 1, loops),
    ):
        with pytest.raises(UsageError, match=words):
            call()
    assert session.new
    assert not session.state.any()


def looping_board(program: Program = NARROW) -> tuple[Line, BoardBackend]:
    """A board in Python with an engine with rows; and its line."""
    image = compile_program(program, ENGINE)
    line = Line(make_board(image))
    client = LinkClient(line, FAST)
    board = BoardBackend(client, client.hello(), program, image, chunk=4)
    board.load(progress=False)
    return line, board


def test_a_board_runs_the_loops_that_a_request_asks_for() -> None:
    """Sessions ask for others every time, streams take turns, and a session is written and fed again."""
    _, board = looping_board()
    texts = [Text(NumpyExecutor(NARROW)) for _ in range(2)]
    sessions = [Session(board), Session(board)]
    for ours, theirs in ((3, None), (1, 4), (None, 2), (4, 4)):
        streams = [
            session.tokens(PROMPT, 9, DRAW, loops=loops)
            for session, loops in zip(sessions, (ours, theirs), strict=True)
        ]
        found = [[next(stream) for stream in streams] for _ in range(9)]
        for at, (text, loops) in enumerate(zip(texts, (ours, theirs), strict=True)):
            assert [pair[at] for pair in found] == text.go(PROMPT, 9, loops)
        board.slots.drop_all()  # as after a restart: their journals are fed again with their loops
        for session, text in zip(sessions, texts, strict=True):
            assert np.array_equal(session.state, text.state[0])
        point = board.recall(1)
        other = LocalBackend(NumpyExecutor(NARROW))
        again = other.open()
        other.set_state(again, point.state)
        other.run(again, Run(point.tokens, loops=point.loops))
        assert np.array_equal(other.get_state(again), texts[0].state[0])
        logits = sessions[0].step(9, 2)
        assert np.array_equal(logits, texts[0].executor.step(texts[0].state, [9], loops=2)[0])
        texts[0].pending = []


def test_texts_of_one_batch_have_the_loops_of_their_request() -> None:
    _, board = looping_board()
    assert board.together > 1
    for loops in (3, None, 1):
        sessions = [board.open(), board.open()]
        found = board.run_together(sessions, [Run([1], 4, DRAW, 5, loops), Run([2], 4, DRAW, 6, loops)])
        for first, rng, (tokens, _) in zip((1, 2), (5, 6), found, strict=True):
            text = Text(NumpyExecutor(NARROW))
            text.rng = rng
            assert tokens == text.go([first], 4, loops)


@pytest.mark.parametrize("faults", [0.0, 0.15])
def test_a_line_with_faults_leaves_no_other_loops_behind(faults: float) -> None:
    line, board = looping_board()
    line.faults = faults
    for loops in (4, None, 1, None):
        session, text = board.open(), Text(NumpyExecutor(NARROW))
        assert board.run(session, Run(PROMPT, 12, DRAW, text.rng, loops)).tokens == text.go(PROMPT, 12, loops)
        board.release(session)


def test_what_a_killed_host_left_in_the_microcode_is_written_over() -> None:
    line, board = looping_board()
    board.run(board.open(), Run([1], 2, DRAW, 1, 4))
    held = line.board.identity
    client = LinkClient(line, FAST)
    again = BoardBackend(client, client.hello(), NARROW, board.image, chunk=4)
    assert again.identity.program_hash == held.program_hash and not again.load(progress=False)
    text = Text(NumpyExecutor(NARROW))
    assert again.run(again.open(), Run(PROMPT, 12, DRAW, text.rng)).tokens == text.go(PROMPT, 12, None)


def test_closing_a_device_puts_the_loops_back() -> None:
    line, board = looping_board()
    words = board.image.loop_words(0)
    before = [int(line.board.engine.memories[Mem.PROGRAM][w % 2, w // 2]) for w in words]
    board.run(board.open(), Run([1], 2, DRAW, 1, 4))
    asked = [int(line.board.engine.memories[Mem.PROGRAM][w % 2, w // 2]) for w in words]
    board.close()
    after = [int(line.board.engine.memories[Mem.PROGRAM][w % 2, w // 2]) for w in words]
    assert set(asked) == {4} and before == after != asked


def test_words_that_are_not_put_back_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, board = looping_board()
    board.run(board.open(), Run([1], 2, DRAW, 1, 4))
    monkeypatch.setattr(LoopCounts, "set", lambda self, loops: None)
    text = Text(NumpyExecutor(NARROW))
    assert board.run(board.open(), Run(PROMPT, 12, DRAW, text.rng)).tokens != text.go(PROMPT, 12, None)


def test_a_board_refuses_loops_of_a_program_without_any() -> None:
    board = board_backend()
    session = board.open()
    for call in (
        lambda: board.run(session, Run([1], 1, GREEDY, 1, 2)),
        lambda: list(board.stream(session, Run([1], 1, GREEDY, 1, 2))),
        lambda: board.run_together([session], [Run([1], 1, GREEDY, 1, 2)]),
        lambda: board.step(session, 1, 2),
    ):
        with pytest.raises(UsageError, match="loops is 2, and .* has no LOOP whose runs can be chosen"):
            call()
    board.run(session, Run([1], 1, GREEDY, 1))
