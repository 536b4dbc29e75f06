"""A board in Python behind a line with faults, for tests of the driver."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, preset
from ternac.compile.image import Image
from ternac.errors import NoAnswer
from ternac.host.backend import Backend
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import Patience
from ternac.host.local import LocalBackend
from ternac.link import WINDOW, Identity
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose, seed_state
from ternac.sim.link_model import LinkModel, MachineEngine

FAST = Patience(base=0.05, step=0.0, retries=8)
BITSTREAM = bytes(range(16))


def numpy_backend(program: Program) -> LocalBackend:
    return LocalBackend(NumpyExecutor(program))


def numpy_tokens(
    program: Program, prompt: Sequence[int], count: int, sampling: Sampling, seed: int
) -> list[int]:
    """What a session gives, by the executor's ``step`` and ``choose`` alone."""
    executor, rng, chosen = NumpyExecutor(program), seed_state(seed), list[int]()
    state = executor.open()
    for token in prompt:
        logits = executor.step(state, [token])[0]
    while len(chosen) < count:
        token, rng = choose(logits, sampling, rng)
        chosen.append(token)
        logits = executor.step(state, [token])[0]
    return chosen


def keep_slots(backend: Backend, count: int) -> None:
    """Let a board have ``count`` slots."""
    assert isinstance(backend, BoardBackend)
    backend.slots.users.clear()
    backend.slots.users.update(dict.fromkeys(range(count)))


def runs(tokens: Sequence[int], count: int, sampling: Sampling, rngs: Sequence[int]) -> list[Run]:
    """One run for each session of `Backend.run_together`."""
    return [Run([token], count, sampling, rng) for token, rng in zip(tokens, rngs, strict=True)]


def small_program(seed: int = 1) -> Program:
    return random_program(np.random.default_rng(seed), d=16, m=24, layers=1, vocab=256)


def make_board(image: Image, program_hash: bytes = bytes(16), window: int = WINDOW) -> LinkModel:
    geometry = image.geometry
    sizes = tuple(geometry.memory(mem).bytes_per_word for mem in geometry.memories)
    identity = Identity(BITSTREAM, geometry.hash, 25_000_000, program_hash, window=window)
    return LinkModel(identity, sizes, MachineEngine(image), geometry.contexts)


class Line:
    """A transport to a LinkModel. ``faults``: chance of a fault a write; cut after ``cut_after`` writes.

    Faults: the request or the answer is dropped, damaged, doubled, delayed until the next write, or mixed
    with garbage.
    """

    name = "a board in Python"
    byte_seconds = 0.0

    def __init__(
        self, board: LinkModel, seed: int = 0, faults: float = 0.0, cut_after: int | None = None
    ) -> None:
        self.board, self.rng, self.faults, self.cut_after = board, random.Random(seed), faults, cut_after
        self.writes = 0
        self.closed = False
        self.out = bytearray()
        self._late = bytearray()

    def _spoil(self, data: bytes) -> bytes:
        if self.rng.random() >= self.faults or not data:
            return data
        kind = self.rng.randrange(5)
        if kind == 0:
            return b""
        if kind == 1:
            damaged = bytearray(data)
            for _ in range(self.rng.randrange(1, 4)):
                damaged[self.rng.randrange(len(damaged))] ^= 1 << self.rng.randrange(8)
            return bytes(damaged)
        if kind == 2:
            return data + data
        if kind == 3:
            return bytes(self.rng.randrange(256) for _ in range(self.rng.randrange(1, 40))) + data
        return data[: self.rng.randrange(len(data))]

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.cut_after is not None and self.writes > self.cut_after:
            raise NoAnswer("cut")
        self.out += self._late
        self._late.clear()
        answer = self._spoil(self.board.feed(self._spoil(data)))
        late = self.rng.random() < self.faults / 4
        (self._late if late else self.out).extend(answer)

    def read(self, timeout: float) -> bytes:
        if not self.out:
            time.sleep(min(timeout, 0.002))
            return b""
        n = self.rng.randrange(1, len(self.out) + 1)
        data, self.out = bytes(self.out[:n]), self.out[n:]
        return data

    def close(self) -> None:
        self.closed = True


def tiny() -> Geometry:
    return preset("tiny")


def image_of(program: Program) -> Image:
    return compile_program(program, tiny())
