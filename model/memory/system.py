"""The interface of a memory system: its task as cases, its figures with their bars, its models.

A system says what is fed and which answers count (:class:`Case`, NumPy only), how a model is trained (torch)
and what the results amount to (:class:`Figure`). Who runs the cases is none of its business: `run_cases`
feeds them to any executor, and two executors are compared by what they found.
"""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.file import load
from ternac.program.program import Program
from ternac.run.executor import Executor

FOLDER = Path(__file__).parent
SHIPPED = FOLDER / "shipped"
NAMES = tuple(sorted(path.stem.removesuffix("_model") for path in FOLDER.glob("*_model.py")))
"""Systems: the module NAME of this package is the task, NAME_model the model and how it is trained."""
BATCH_BYTES = 256 << 20
"""States of the sessions that run at the same time."""
Ints = npt.NDArray[np.int64]
Report = Callable[[int, int, str], None]
"""Called with (done, of how many, what) while a model is trained or cases run."""


@dataclass(frozen=True, eq=False)
class Case:
    """A session: ``tokens`` [T] are fed; after each position of ``asked`` the next token is chosen.

    ``answers`` [len(asked)] are right. ``groups``: for each, what it is counted with. ``loops``: runs of the
    loops.
    """

    tokens: Ints
    asked: Ints
    answers: Ints
    groups: Sequence[str]
    loops: int | None = None

    @classmethod
    def of(
        cls,
        tokens: Sequence[int],
        asked: Sequence[int],
        groups: Sequence[str] | str,
        loops: int | None = None,
    ) -> Case:
        """A case whose answers are the tokens that follow; one group for all answers, or one for each."""
        fed, at = np.asarray(tokens, np.int64), np.asarray(asked, np.int64)
        return cls(fed, at, fed[at + 1], [groups] * len(at) if isinstance(groups, str) else groups, loops)


@dataclass(frozen=True, eq=False)
class Found:
    """What an executor made of a case: logits int32 [asked, V], and a digest of logits and last state."""

    case: Case
    logits: npt.NDArray[np.int32]
    digest: str

    @property
    def chosen(self) -> Ints:
        """The largest logit at each position that is asked, the lowest token on ties."""
        return self.logits.argmax(-1)

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which answers are right."""
        return self.chosen == self.case.answers


@dataclass(frozen=True)
class Figure:
    """A figure, and the bar that it must reach: at least that much, or at most if ``most``.

    Without a bar it is told and nothing else.
    """

    name: str
    value: float
    bar: float | None = None
    most: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """True if there is no bar, or it is reached."""
        if self.bar is None:
            return True
        return self.value <= self.bar if self.most else self.value >= self.bar

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        data: dict[str, Any] = {"name": self.name, "value": self.value, "met": self.met}
        if self.bar is not None:
            data["bar"] = {"at most" if self.most else "at least": self.bar}
        return data | ({"note": self.note} if self.note else {})


@dataclass(frozen=True)
class Curves:
    """One panel of a picture: lines by name, each as values ``across`` and ``up``, whose labels these are."""

    across: str
    up: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]


class System(ABC):
    """A memory system; a subclass for each, and one instance of it in ``SYSTEM`` of its module.

    ``name``: of the module; ``title``: what it shows, in one line; ``parts``: names of its models.
    ``draws``: it has `curves`.
    """

    name: str
    title: str
    parts: Sequence[str]
    draws = False

    def train(self, part: str, seed: int, report: Report) -> Program:
        """Train the model ``part``; the same seed gives the same program on the same machine.

        The module NAME_model has it as ``train(part, seed, report)``: it needs torch, the task does not.
        """
        model = importlib.import_module(f"ternac.model.memory.{self.name}_model")
        program: Program = model.train(part, seed, report)
        return program

    @abstractmethod
    def cases(self, part: str, program: Program) -> list[Case]:
        """Return the cases for the model ``part``; the same ones for every executor and seed."""

    @abstractmethod
    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        """Return the figures of what was found, by part."""

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Return the panels of the picture of what was found, by part; none unless ``draws``."""
        return []

    def shipped(self, part: str) -> Program:
        """Load the shipped program. Raises UsageError if there is none."""
        path = SHIPPED / self.name / f"{part}.safetensors"
        if not path.is_file():
            raise UsageError(
                f"no model {part} of {self.name} is shipped",
                f"train it: ternac memory bench {self.name} --train",
            )
        return load(path)


def silent(done: int, total: int, note: str) -> None:
    """Report nothing."""


def open_system(name: str) -> System:
    """Return the system ``name``. Raises UsageError if there is none."""
    if name not in NAMES:
        raise UsageError(f"no memory system is called {name!r}", f"systems: {', '.join(NAMES)}")
    system: System = importlib.import_module(f"ternac.model.memory.{name}").SYSTEM
    return system


def run_cases(
    executor: Executor, cases: Sequence[Case], report: Report, limit: int | None = None
) -> list[Found]:
    """Feed the cases and return what was found, in their order; ``limit``: only so many tokens of each."""
    room = max(1, min(256, BATCH_BYTES // max(1, 2 * executor.program.state_words)))
    found: dict[int, Found] = {}
    total = sum(_length(case, limit) for case in cases)
    done = 0
    for loops in dict.fromkeys(case.loops for case in cases):
        same = [at for at, case in enumerate(cases) if case.loops == loops]
        same.sort(key=lambda at: -len(cases[at].tokens))
        for first in range(0, len(same), room):
            batch = same[first : first + room]
            results = _run(executor, [cases[at] for at in batch], limit)
            found.update(zip(batch, results, strict=True))
            done += sum(_length(cases[at], limit) for at in batch)
            report(done, total, executor.name)
    return [found[at] for at in range(len(cases))]


def _length(case: Case, limit: int | None) -> int:
    return len(case.tokens) if limit is None else min(limit, len(case.tokens))


def _run(executor: Executor, cases: Sequence[Case], limit: int | None) -> list[Found]:
    """Run sessions side by side, the longest first; each ends at its own token."""
    lengths = [_length(case, limit) for case in cases]
    state = executor.open(len(cases))
    kept: list[list[npt.NDArray[np.int32]]] = [[] for _ in cases]
    asked = [set(case.asked.tolist()) for case in cases]
    for t in range(lengths[0]):
        live = sum(length > t for length in lengths)
        tokens = np.array([case.tokens[t] for case in cases[:live]])
        logits = executor.step(state[:live], tokens, loops=cases[0].loops)
        for row in range(live):
            if t in asked[row]:
                kept[row].append(logits[row].copy())
    return [
        Found(case, np.array(rows, np.int32).reshape(-1, executor.program.vocab), _digest(rows, state[row]))
        for row, (case, rows) in enumerate(zip(cases, kept, strict=True))
    ]


def _digest(logits: Sequence[npt.NDArray[np.int32]], state: npt.NDArray[np.int16]) -> str:
    """Hash of all logits that were asked for and of the whole state, rows included."""
    digest = hashlib.sha256()
    for row in logits:
        digest.update(row.tobytes())
    digest.update(np.ascontiguousarray(state).tobytes())
    return digest.hexdigest()


def share_right(found: Sequence[Found], group: str | None = None) -> float:
    """Return the share of answers that are right, in one group or of all; NaN if there is none."""
    right = [
        bool(right)
        for one in found
        for right, its in zip(one.right, one.case.groups, strict=True)
        if group in (None, its)
    ]
    return float(np.mean(right)) if right else float("nan")


def share_whole(found: Sequence[Found], group: str | None = None) -> float:
    """Return the share of cases all of whose answers, or those in one group, are right; NaN without any."""
    whole = []
    for one in found:
        mine = [group in (None, its) for its in one.case.groups]
        if any(mine):
            whole.append(bool(one.right[mine].all()))
    return float(np.mean(whole)) if whole else float("nan")
