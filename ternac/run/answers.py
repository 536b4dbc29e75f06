"""Answers that a model gives greedily to questions with one right answer, many questions at a time.

A question is fed from a zero state, behind the end of a line as in the text that a model learns from, and
tokens are chosen by argmax until the line ends. The answer is right if all of it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program.program import Program
from ternac.run.executor import Executor
from ternac.text.tokenizer import tokenizer_of

__all__ = ["BATCH", "LONGEST", "Asked", "answer_of", "ask"]

BATCH = 64
"""Questions that are asked at the same time."""
LONGEST = 48
"""Tokens after which an answer that has not ended is cut off."""


class Asked:
    """Questions as tokens of a program, and what its answers are as text.

    Raises UsageError if a question is empty.
    """

    def __init__(self, program: Program, questions: Iterable[str]) -> None:
        self.tokenizer = tokenizer_of(program, assume_bytes=True)
        said = list(questions)
        if not all(said):
            raise UsageError("a question is empty")
        self.questions = [self.tokenizer.encode(f"\n{one}".encode()).ids.tolist() for one in said]
        self.end = int(self.tokenizer.encode(b"\n").ids.tolist()[-1])

    @property
    def tokens(self) -> int:
        """Return the tokens of all questions."""
        return sum(map(len, self.questions))

    def text(self, answer: Sequence[int]) -> str:
        """Return an answer as text, without the end of its line."""
        return self.tokenizer.decode(answer)


def ask(
    executor: Executor, asked: Asked, progress: Callable[[int], None] = lambda done: None, batch: int = BATCH
) -> list[list[int]]:
    """Return the answer to each question as tokens; ``progress`` is told the questions done."""
    questions = asked.questions
    order = sorted(range(len(questions)), key=lambda at: len(questions[at]))  # those of a batch end together
    found: list[list[int]] = [[] for _ in questions]
    for begin in range(0, len(order), batch):
        some = order[begin : begin + batch]
        together = _together(executor, [questions[at] for at in some], asked.end)
        for at, answer in zip(some, together, strict=True):
            found[at] = answer
        progress(begin + len(some))
    return found


def answer_of(tokens: Iterable[int], end: int) -> list[int]:
    """Return the tokens before ``end``: the answer in what a session generates."""
    found: list[int] = []
    for token in tokens:
        if token == end or len(found) == LONGEST:
            break
        found.append(token)
    return found


def _together(executor: Executor, questions: Sequence[Sequence[int]], end: int) -> list[list[int]]:
    """Feed all questions at once; each is in its answer as soon as it is fed, however long the others are."""
    state = executor.open(len(questions))
    lengths = np.array([len(question) for question in questions])
    given: list[list[int]] = [[] for _ in questions]
    unfinished = np.ones(len(questions), bool)
    tokens: npt.NDArray[np.int64] = np.array([question[0] for question in questions])
    fed = 0
    while unfinished.any():
        chosen = executor.step(state, tokens).argmax(axis=1)
        fed += 1
        for row in np.flatnonzero(unfinished).tolist():
            if fed < lengths[row]:
                tokens[row] = questions[row][fed]
                continue
            tokens[row] = token = int(chosen[row])
            if token == end or len(given[row]) == LONGEST:
                unfinished[row] = False
            else:
                given[row].append(token)
    return given
