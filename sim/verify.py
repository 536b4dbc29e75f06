"""Compare executors token by token: logits and state must be equal after every one.

The first executor is the reference. On a difference the reference's trace of that token is compared with
the values that the other has, so that the report names the first op that diverged. Where an executor chooses
tokens by itself, its choice (by argmax and by a seeded draw in turn) and its generator must be right too, and
on an engine the number of cycles. Large memories are compared now and then (`rows_due`): reading them over a
link takes longer than a token: a row that is wrong once stays wrong until it is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.program.program import Program
from ternac.run.compare import Divergence, cycle_divergence, first_divergence, scalar_divergence
from ternac.run.executor import Executor, ExecutorBase
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state

__all__ = ["ROWS_EVERY", "ExecutorRunner", "Runner", "TokenResult", "rows_due", "verify"]

SMALL_ROWS = 4096
"""Bytes of a session's memories that are compared after every token."""
ROWS_EVERY = 64
"""Tokens between comparisons of larger ones."""

Vector = npt.NDArray[Any]


@dataclass(frozen=True)
class TokenResult:
    """An executor's logits [vocab] and states by name after a token, with rows of memories if asked for.

    ``chosen`` and ``generator`` where it chooses the next token by itself. From an engine also the ``cycles``
    that the token took and those of the closed form (`ternac.hdl.engine.schedule`), which are a lower bound
    unless they are ``exact``.
    """

    logits: Vector
    states: dict[str, Vector]
    chosen: int | None = None
    generator: int | None = None
    cycles: int | None = None
    closed_form: int | None = None
    exact: bool = True


class Runner(Protocol):
    """An executor with one session."""

    name: str

    @property
    def cycles(self) -> int:
        """Clock cycles of all tokens so far; 0 where there is no clock."""

    def step(self, token: int, sampling: Sampling, rng: int, *, rows: bool = True) -> TokenResult:
        """Feed a token, and choose the next by ``sampling`` from generator state ``rng`` if it can.

        ``rows``: whether the result has the rows of memories among its states.
        """

    def values(self) -> dict[str, Vector]:
        """Return the values of the last token by name, as far as they are known."""

    def close(self) -> None:
        """Free processes and devices."""


class ExecutorRunner:
    """A `Runner` on any executor; replays the last token for its trace. ``loops``: at every token."""

    def __init__(self, executor: Executor, name: str | None = None, loops: int | None = None) -> None:
        self.name, self.executor, self.loops = name or executor.name, executor, loops
        self._state = executor.open()
        self._before, self._token = self._state.copy(), 0
        self._chooses = type(executor).generate is not ExecutorBase.generate

    @property
    def cycles(self) -> int:
        return self.executor.cycles

    def step(self, token: int, sampling: Sampling, rng: int, *, rows: bool = True) -> TokenResult:
        self._before, self._token = self._state.copy(), token
        logits = self.executor.step(self._state, [token], loops=self.loops)[0]
        memories = self.executor.program.memories
        states = {
            name: words[0].copy()
            for name, words in self.executor.state_dict(self._state).items()
            if rows or name not in memories
        }
        if not self._chooses:
            return TokenResult(logits, states)
        # The state that choosing leaves is the one that the next token sees: both ways are compared.
        self._state = self._before.copy()
        generate = self.executor.generate
        (chosen,), (following,) = generate(self._state, [token], 1, sampling, [rng], loops=self.loops)
        return TokenResult(logits, states, int(chosen[0]), following)

    def values(self) -> dict[str, Vector]:
        trace: dict[str, npt.NDArray[np.int32]] = {}
        self.executor.step(self._before.copy(), [self._token], trace=trace, loops=self.loops)
        return {name: value[0] if value.ndim == 2 else value for name, value in trace.items()}

    def close(self) -> None:
        self.executor.close()


def rows_due(program: Program, index: int, count: int) -> bool:
    """Return whether memories are compared after token ``index`` of ``count``: of a session with more than
    `SMALL_ROWS` bytes of them after the first, every `ROWS_EVERY` and the last.
    """
    words = sum(part.stop - part.start for part in program.memory_slices().values())
    return 2 * words <= SMALL_ROWS or index % ROWS_EVERY == 0 or index == count - 1


def verify(
    program: Program, runners: Sequence[Runner], tokens: Sequence[int], progress: Callable[[int], None]
) -> list[Divergence]:
    """Run ``tokens`` on all ``runners``; returns the first divergence of each from the first one.

    An empty list says that all are equal. A runner that diverged is not run further.
    """
    reference, others = runners[0], list(runners[1:])
    draw = Sampling.from_temperature(1.0, program.logit_scale_bits, 0)
    found: list[Divergence] = []
    for index, token in enumerate(tokens):
        sampling, rng = (draw if index % 2 else GREEDY), seed_state(index + 1)
        rows = rows_due(program, index, len(tokens))
        expected = reference.step(int(token), sampling, rng, rows=rows)
        for other in list(others):
            got = other.step(int(token), sampling, rng, rows=rows)
            pair = (reference.name, other.name)
            here = first_divergence(
                program,
                index,
                {program.logits: expected.logits},
                {program.logits: got.logits},
                states=expected.states,
                got_states=got.states,
                executors=pair,
            )
            if here is not None:  # name the op where it began, not where it ended up
                here = (
                    first_divergence(program, index, reference.values(), other.values(), executors=pair)
                    or here
                )
            else:
                here = _check_choice(index, expected, got, sampling, rng, pair)
            if here is not None:
                found.append(here)
                others.remove(other)
        progress(index + 1)
        if not others:
            break
    return found


def _check_choice(
    index: int,
    expected: TokenResult,
    got: TokenResult,
    sampling: Sampling,
    rng: int,
    executors: tuple[str, str],
) -> Divergence | None:
    """The first difference in what not every executor has: next token, generator, cycles."""
    if got.chosen is None or got.generator is None:
        return None
    token, following = choose(expected.logits, sampling, rng)
    here = scalar_divergence(index, "next token", token, got.chosen, executors) or scalar_divergence(
        index, "generator", following, got.generator, executors
    )
    if here or got.cycles is None or got.closed_form is None:
        return here
    return cycle_divergence(index, got.closed_form, got.cycles, executors[1], exact=got.exact)
