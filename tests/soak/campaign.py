"""Rounds of a soak: conversations over a bad line with a board that restarts, against another executor."""

from __future__ import annotations

import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ternac.errors import DeviceError
from ternac.host.backend import Backend, ReplayPoint
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import Patience
from ternac.host.device import Device
from ternac.host.local import LocalBackend
from ternac.host.native.executor import NativeExecutor
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling
from tests.host.adversary import AdverseLine, Clock, Faults, virtual_time
from tests.host.boards import runs
from tests.soak.boards import GEOMETRY, SoakBoard
from tests.upsets.campaign import PROGRAM

__all__ = ["ROUND_SECONDS", "Hang", "round_of", "within"]

PATIENCE = Patience(base=0.05, step=0.0, retries=6)
DRAW = Sampling(False, 200, 4, 50)
SESSIONS, TURNS, OPENS = 5, 30, 4
"""Of a round; times that the board is opened before its sessions go on elsewhere."""
BACK = 0.3
"""Chance at each turn that sessions which went elsewhere come back."""
ROUND_SECONDS = 600
"""Of the real clock, after which a round counts as a hang."""


class Hang(Exception):
    """A round took longer than `ROUND_SECONDS`."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Hang in the body when the time is over."""

    def over(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def draw_faults(rng: random.Random) -> Faults:
    """Bit errors from 1e-6 to 1e-2, and frames that are lost, doubled or late up to one in ten."""
    share = (0.0, 0.003, 0.03, 0.1)
    return Faults(rng.choice(share), rng.choice(share), rng.choice(share), 10 ** rng.uniform(-6, -2))


class Power:
    """A board that is configured again, or loses its program, every ``every`` frames or so, 0: never."""

    def __init__(self, board: SoakBoard, rng: random.Random, every: int, counts: Counter[str]) -> None:
        self._board, self._rng, self._every, self._counts = board, rng, every, counts
        self._left = self._next()

    def _next(self) -> int:
        return self._rng.randrange(1, 2 * self._every) if self._every else 1 << 60

    def feed(self, data: bytes) -> bytes:
        """Take a frame, of which a restart may cut off the beginning."""
        self._left -= 1
        if self._left:
            return self._board.feed(data)
        self._left = self._next()
        cut = self._rng.randrange(len(data))
        before = self._board.feed(data[:cut]) if cut else b""
        if self._rng.random() < 0.7:
            self._counts["restarts"] += 1
            self._board.restart()
        else:
            self._counts["power lost"] += 1
            self._board.power_down()
        return before * self._rng.randrange(2) + self._board.feed(data[cut:])


class Conversation:
    """Sessions on a board and the same ones on another executor."""

    def __init__(self, line: AdverseLine, other: Backend, rng: random.Random, counts: Counter[str]) -> None:
        self.line, self.other, self.rng, self.counts = line, other, rng, counts
        self.theirs = [other.open() for _ in range(SESSIONS)]
        self.wrong: list[str] = []
        self.streams: dict[int, tuple[Generator[int], Generator[int]]] = {}
        self.board: Backend | None = None
        self.ours: list[int] = []
        self._points = [ReplayPoint(np.zeros(PROGRAM.state_words, np.int16), (), None)] * SESSIONS

    def open(self) -> None:
        """Open the board and take the sessions there, or to the native executor if that fails too often."""
        options: Any = {
            "board": GEOMETRY.name,
            "transport": self.line,
            "patience": PATIENCE,
            "progress": False,
        }
        for _ in range(OPENS):
            try:
                backend = Device.open("serial:soak", PROGRAM, **options).board
                self._move(backend)
                return
            except DeviceError as error:
                self._refused(error)
        self.counts["moved to native"] += 1
        self._move(LocalBackend(NativeExecutor(PROGRAM)))

    def _move(self, backend: Backend) -> None:
        ours = [backend.open() for _ in range(SESSIONS)]
        for session, point in zip(ours, self._points, strict=True):
            backend.set_state(session, point.state)
            if point.tokens:
                backend.run(session, Run(list(point.tokens)))
        self.board, self.ours = backend, ours
        if isinstance(backend, BoardBackend):
            backend.tokens_per_answer = lambda: 3  # type: ignore[method-assign]

    def _refused(self, error: DeviceError) -> None:
        self.counts["refused"] += 1
        self.counts[f"refused: {type(error).__name__}"] += 1

    def talk(self) -> None:
        """Take turns until the end of the round; after an error sessions go on from what the host knows."""
        self.open()
        for turn in range(TURNS):
            if not isinstance(self.board, BoardBackend) and self.rng.random() < BACK:
                self._recall()
                self.open()
            try:
                self._turn(turn)
            except DeviceError as error:
                self._refused(error)
                self._recall()
                self.counts["opened again"] += 1
                self.open()
            self.counts["turns"] += 1
        self._recall()

    def _leave(self, session: int) -> None:
        """Close a session's streams now, whoever holds them still: each goes back to its last token."""
        for stream in self.streams.pop(session, ()):
            stream.close()

    def _recall(self) -> None:
        """Ask the host, not the board, where the sessions stand, and compare with the other executor."""
        assert self.board is not None
        for k in range(SESSIONS):
            self._leave(k)
        self._points = [self.board.recall(session) for session in self.ours]
        for k, point in enumerate(self._points):
            check = self.other.open()
            self.other.set_state(check, point.state)
            if point.tokens:
                self.other.run(check, Run(list(point.tokens)))
            if not np.array_equal(self.other.get_state(check), self.other.get_state(self.theirs[k])):
                self.wrong.append(f"state of session {k}, recalled")
            self.other.release(check)
            self.counts["states compared"] += 1

    def _turn(self, turn: int) -> None:
        rng, board, other = self.rng, self.board, self.other
        assert board is not None
        some = rng.sample(range(SESSIONS), rng.randrange(1, 1 + max(1, min(board.together, 3))))
        first, sampling = some[0], rng.choice((GREEDY, DRAW))
        tokens = [rng.randrange(PROGRAM.vocab) for _ in some]
        count, state = rng.randrange(1, 7), rng.randrange(1, 1 << 32)
        kind = rng.randrange(6)
        if kind < 4:
            for k in some:
                self._leave(k)
        got: Any
        want: Any
        match kind:
            case 0:
                got = board.run_together(
                    [self.ours[k] for k in some], runs(tokens, count, sampling, [state] * len(some))
                )
                want = [
                    other.run(self.theirs[k], Run([t], count, sampling, state))
                    for k, t in zip(some, tokens, strict=True)
                ]
            case 1:
                run = Run(tokens * rng.choice((1, 2, 3, 4, 5, 80)), count, sampling, state)
                got = board.run(self.ours[first], run)
                want = other.run(self.theirs[first], run)
            case 2:
                got = board.get_state(self.ours[first]).tolist()
                want = other.get_state(self.theirs[first]).tolist()
                self.counts["states compared"] += 1
            case 3:
                got = board.step(self.ours[first], tokens[0]).tolist()
                want = other.step(self.theirs[first], tokens[0]).tolist()
            case _:
                got, want = self._stream(first, Run(tokens, 60, sampling, state), count)
        if got != want:
            self.wrong.append(f"turn {turn}, kind {kind}: {got} instead of {want}")
        self.counts["tokens compared"] += count * (len(some) if kind == 0 else kind in (1, 4, 5))

    def _stream(self, session: int, run: Run, count: int) -> tuple[list[int], list[int]]:
        """Advance a session's stream on both, token by token: an error leaves both behind the same token."""
        assert self.board is not None
        if session not in self.streams:
            ours, theirs = self.ours[session], self.theirs[session]
            self.streams[session] = self.board.stream(ours, run), self.other.stream(theirs, run)
        mine, other = self.streams[session]
        got: list[int] = []
        want: list[int] = []
        for _ in range(count):
            token = next(mine, None)
            expected = next(other, None)
            if token is None or expected is None:
                del self.streams[session]
                if token != expected:
                    got.append(-1)
                break
            got.append(token)
            want.append(expected)
        return got, want


def round_of(board: SoakBoard, seed: int, number: int, clock: Clock) -> dict[str, Any]:
    """Run a round, which is always that of its seed and number; returns what was counted."""
    rng = random.Random(f"{seed} {number}")
    counts: Counter[str] = Counter()
    faults, every = draw_faults(rng), rng.choice((0, 2000, 300, 40))
    began = time.monotonic()
    board.power_down()
    line = AdverseLine(Power(board, rng, every, counts).feed, rng, faults, clock)
    other = LocalBackend(NumpyExecutor(PROGRAM) if number % 2 else NativeExecutor(PROGRAM))
    conversation = Conversation(line, other, rng, counts)
    found: dict[str, Any] = {"round": number}
    try:
        with virtual_time(clock), within(ROUND_SECONDS):
            conversation.talk()
    except Hang:
        counts["hangs"] += 1
    except Exception:  # any other error than a typed one is what is looked for
        counts["untyped"] += 1
        found["traceback"] = traceback.format_exc()[-2000:]
    counts["wrong"] += len(conversation.wrong)
    if conversation.wrong:
        found["what"] = conversation.wrong[:3]
    for way in line.ways:
        counts.update(way.counts)
    return {**found, **counts, "seconds": round(time.monotonic() - began, 3), "mb": memory_mb()}


def memory_mb() -> float:
    """Return what this process holds in memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)
