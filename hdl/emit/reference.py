"""What an emitted engine must answer: tokens, logits and state from NumPy, cycles in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.compile.image import Image
from ternac.compile.layout import row_blocks, to_slots
from ternac.hdl.engine.schedule import schedule
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state

__all__ = ["BankWords", "Reference", "Run", "Step"]

PROMPT = 3
"""Tokens of the prompt."""


@dataclass(frozen=True)
class Step:
    """One token through the engine. ``chosen`` and ``following`` (the generator then) only with ``emit``."""

    token: int
    emit: bool
    sampling: Sampling
    rng: int
    chosen: int
    following: int
    cycles: int


@dataclass(frozen=True)
class Run:
    """Tokens that are fed, and those that are then chosen by one rule: what a RUN of the link does."""

    tokens: tuple[int, ...]
    sampling: Sampling
    rng: int
    steps: tuple[Step, ...]

    @property
    def chosen(self) -> list[int]:
        """The tokens that are chosen."""
        return [step.chosen for step in self.steps if step.emit]

    @property
    def following(self) -> int:
        """The generator's state after the last choice."""
        return self.steps[-1].following

    @property
    def cycles(self) -> int:
        """The engine's cycles of all steps."""
        return sum(step.cycles for step in self.steps)


@dataclass(frozen=True)
class BankWords:
    """What a value's words are in the end, in banks or rows: of column ``block`` from ``address`` on."""

    name: str
    block: int
    address: int
    words: tuple[int, ...]


class Reference:
    """One session of ``image``'s program: a prompt, tokens by argmax, then as many drawn at temperature 1.

    ``count`` tokens are chosen each way, 1 to 255. The prompt is drawn from ``seed``.
    """

    def __init__(self, program: Program, image: Image, count: int, seed: int) -> None:
        self.program, self.image = program, image
        self.slot = min(1, image.sessions - 1)
        self._executor = NumpyExecutor(program)
        self._state = self._executor.open()
        self._trace: dict[str, npt.NDArray[np.int32]] = {}
        rng = np.random.default_rng(seed)
        prompt = [int(token) for token in rng.integers(0, program.vocab, PROMPT)]
        first = self._run(prompt, count, GREEDY, seed_state(seed))
        draw = Sampling.from_temperature(1.0, program.logit_scale_bits)
        self.runs = (first, self._run([first.chosen[-1]], count, draw, seed_state(seed + 1)))

    @property
    def session_base(self) -> int:
        """Where the session's state begins."""
        return self.image.session_base(self.slot)

    def bank_words(self) -> Iterator[BankWords]:
        """Yield logits and state as they are in the end."""
        image = self.image
        logits = np.asarray(self._trace[self.program.logits]).reshape(-1)
        places = {self.program.logits: (image.logits, 0, logits)}
        states = self._executor.state_dict(self._state)
        for name, symbol in image.states.items():
            places[name] = (symbol, self.session_base, np.asarray(states[name][0], np.int32))
        g = image.geometry
        for name, (symbol, base, vector) in places.items():
            each = vector.size // symbol.parts
            for part in range(symbol.parts):
                address = symbol.address + base + part * g.slots(each)
                for block, words in enumerate(to_slots(vector[part * each : (part + 1) * each], g)):
                    # Behind a vector's last element stand zeros, but behind digits what the list had there.
                    count = len(range(block, each, g.columns)) if g.rows else len(words)
                    if count:
                        yield BankWords(name, block, address, tuple(int(word) for word in words[:count]))

    def row_words(self) -> Iterator[BankWords]:
        """Yield the session's memories as they are in the end."""
        image, states = self.image, self._executor.state_dict(self._state)
        for name in self.program.memories:
            symbol = image.rows[name]
            rows = np.asarray(states[name][0], np.int8).reshape(symbol.rows, symbol.width)
            address = symbol.address + (self.session_base << image.row_shift)
            for block, words in enumerate(row_blocks(rows, image.geometry, symbol.step)):
                yield BankWords(name, block, address, tuple(int(word) for word in words))

    def _run(self, tokens: list[int], count: int, sampling: Sampling, rng: int) -> Run:
        steps: list[Step] = []
        given, state = list(tokens), rng
        while len(steps) < len(tokens) + count - 1:
            token, emit = given[len(steps)], len(steps) >= len(tokens) - 1
            self._trace = {}
            logits = self._executor.step(self._state, [token], self._trace)[0]
            chosen, following = choose(logits, sampling, state) if emit else (0, state)
            time = schedule(self.image, emit=emit, greedy=sampling.greedy, top_k=sampling.top_k)
            steps.append(Step(token, emit, sampling, state, chosen, following, time.cycles))
            if emit:
                given.append(chosen)
                state = following
        return Run(tuple(tokens), sampling, rng, tuple(steps))
