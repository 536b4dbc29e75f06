"""The interface of whatever sessions run on: an executor of this process, or a board."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.program import Program
from ternac.run.executor import State
from ternac.run.generation import Chosen, Run

__all__ = ["Backend", "Meter", "ReplayPoint", "Speed", "State", "check_state", "check_together"]


@dataclass
class Meter:
    """Work done: tokens fed, engine cycles they took (0 where there are none), seconds spent.

    ``chosen``: how many of them were followed by the choice of a token, which an engine takes cycles for.
    """

    steps: int = 0
    chosen: int = 0
    cycles: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """None before anything has run."""
        return self.steps / self.seconds if self.seconds else None

    @property
    def data(self) -> dict[str, Any]:
        """For `Speed.data`."""
        return {"tokens_run": self.steps, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Speed:
    """Tokens per second and where the number comes from; ``data`` holds what it was computed from."""

    tokens_per_second: float | None
    origin: str
    data: dict[str, Any]

    def __str__(self) -> str:
        number = "" if self.tokens_per_second is None else f"{self.tokens_per_second:,.0f} tokens/s: "
        return number + self.origin


@dataclass(frozen=True)
class ReplayPoint:
    """A session as this host knows it: a ``state`` that it once had, int16 [program.state_words], and the
    ``tokens`` fed since, all with ``loops``. To move it: ``other.open()``, ``other.set_state(state)``, feed
    the tokens.
    """

    state: State = field(repr=False)
    tokens: tuple[int, ...]
    loops: int | None = None


class Backend(Protocol):
    """Sessions by number. A state is int16 [program.state_words], in the order of the program's states.

    `run`, `run_together` and `step` are atomic: when one raises, the session is what it was before, also
    where nobody knows what a board has executed. A session that is not open raises UsageError, as do loops
    that the program or the back end does not have.
    """

    name: str
    program: Program
    meter: Meter
    chunk: int
    """Tokens worth asking for at a time."""

    @property
    def together(self) -> int:
        """Sessions that can run at the same time."""

    def open(self) -> int:
        """Open a session with a zero state; returns its number."""

    def run(self, session: int, run: Run) -> Chosen:
        """Do ``run`` in a session."""

    def stream(self, session: int, run: Run) -> Generator[int]:
        """Do ``run``, yielding every chosen token as soon as it is known.

        Whenever a token has been yielded, the session has been fed ``run.tokens`` and the tokens yielded
        before it, and stays there when the generator is closed or fails; before the first one it has not
        changed. Close it before anything else is done with this session; others may run meanwhile.
        """

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        """Do a run of one token in each of up to `together` different sessions, at the same time.

        Raises UsageError if there are too many, one session stands twice, or the runs differ in more than
        token and generator.
        """

    def step(self, session: int, token: int, loops: int | None = None) -> npt.NDArray[np.int32]:
        """Feed one token; returns logits int32 [vocab]. ``loops`` as in `Run`."""

    def get_state(self, session: int) -> State:
        """Return a copy of the state."""

    def set_state(self, session: int, state: State) -> None:
        """Replace the state. Raises UsageError if it has another type or length."""

    def recall(self, session: int) -> ReplayPoint:
        """Return the session as this host knows it.

        No board is asked: this works after the line is cut, and after `close`.
        """

    def release(self, session: int) -> None:
        """Close the session, if it is open."""

    def speed(self) -> Speed:
        """Speed of the work so far, and where the number comes from."""

    def close(self) -> None:
        """Free the executor or the line; only `recall` and `release` may follow."""


def check_state(state: npt.NDArray[np.int16], program: Program) -> None:
    """Raises UsageError unless ``state`` is one session's of ``program``."""
    if state.dtype != np.int16 or state.shape != (program.state_words,):
        raise UsageError(
            f"the state is {state.dtype}{list(state.shape)}, needs int16[{program.state_words}]",
            "restore a session only from the state of the same program",
        )


def check_together(sessions: Sequence[int], runs: Sequence[Run], most: int, what: str) -> None:
    """Raises UsageError unless ``runs`` may run at the same time in ``sessions`` (`Backend.run_together`)."""
    if not 1 <= len(sessions) <= most or len(set(sessions)) != len(sessions):
        raise UsageError(f"{len(sessions)} sessions at a time: {what} runs 1 to {most} different ones")
    if len(runs) != len(sessions) or any(
        len(run.tokens) != 1
        or (run.count, run.sampling, run.loops) != (runs[0].count, runs[0].sampling, runs[0].loops)
        for run in runs
    ):
        raise UsageError("sessions run together by one token each, with the same count, sampling and loops")
