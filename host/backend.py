"""What a session runs on, as `ternac.host.session` and the server see it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ternac.program.program import Program
from ternac.run.executor import State
from ternac.run.sampling import Sampling

__all__ = ["Backend", "Meter", "Recall", "State"]


@dataclass
class Meter:
    """What has been run: tokens fed, engine cycles they took (0 where there are none), seconds spent."""

    steps: int = 0
    cycles: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Recall:
    """A session as this host knows it: a ``state`` that it once had, int16 [program.state_words], and the
    ``tokens`` fed since. To move it: ``other.open()``, ``other.set_state(state)``, feed the tokens."""

    state: State = field(repr=False)
    tokens: tuple[int, ...]


class Backend(Protocol):
    """Sessions by number. A state is int16 [program.state_words], in the order of the program's states.

    `run`, `run_together` and `step` happen to a session whole or not at all: when one raises, whatever it is,
    the session is what it was before, also where nobody knows what a board has executed.
    """

    name: str
    program: Program
    meter: Meter
    chunk: int
    """Tokens worth asking for at a time."""

    def open(self) -> int:
        """A new session with a zero state."""

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """Feed ``tokens`` (at least one), choose ``count``, feeding all but the last: (chosen, generator)."""

    def stream(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> Generator[int]:
        """As `run`, every chosen token as soon as it is known.

        Whenever a token has been handed out, the session has been fed ``tokens`` and those handed out before
        it, and from there it goes on when the generator is closed or fails; before the first one it has not
        changed. Close it before anything else is done with this session; others may run meanwhile.
        """

    @property
    def together(self) -> int:
        """Sessions that can run at the same time."""

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """`run` with one token for each of up to `together` different sessions, and what it returns for
        each."""

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Feed one token: logits int32 [vocab]."""

    def get_state(self, session: int) -> State:
        """A copy of the state."""

    def set_state(self, session: int, state: State) -> None:
        """Replace the state."""

    def recall(self, session: int) -> Recall:
        """The session as this host knows it. No board is asked: works after the line is cut, and after
        `close`."""

    def release(self, session: int) -> None:
        """Forget the session."""

    def close(self) -> None:
        """Let go of the executor or the line; only `recall` and `release` may follow."""
