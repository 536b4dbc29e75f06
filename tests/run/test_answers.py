"""Answers: many questions at a time give what one at a time gives."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.host.device import Device
from ternac.program.zoo import open_program
from ternac.run.answers import LONGEST, Asked, answer_of, ask
from ternac.run.executor import Logits, State, Tokens
from ternac.run.numpy_executor import NumpyExecutor

PROGRAM = open_program("shakespeare-small")
QUESTIONS = ["ROMEO:", "What", "First Citizen:\nBefore we proceed", "a", "To be"]


class Numb(NumpyExecutor):
    """Has its own idea of the tenth token."""

    steps = 0

    def step(self, state: State, tokens: Tokens, *more: object, **named: object) -> Logits:
        logits = super().step(state, tokens)
        self.steps += 1
        if self.steps == 10:
            logits = np.roll(logits, 1, axis=1)
        return logits


def test_a_batch_answers_as_sessions_do() -> None:
    asked = Asked(PROGRAM, QUESTIONS)
    alone = []
    with Device.open("numpy", PROGRAM) as device:
        for question in asked.questions:
            with device.session() as session:
                alone.append(answer_of(session.tokens(question, LONGEST + 1), asked.end))
    done: list[int] = []
    assert ask(NumpyExecutor(PROGRAM), asked, done.append, batch=3) == alone and done == [3, 5]
    assert ask(NumpyExecutor(PROGRAM), asked, batch=1) == alone
    assert ask(Numb(PROGRAM), asked, batch=3) != alone
    assert all(len(answer) <= LONGEST and asked.end not in answer for answer in alone)
    assert any(alone) and asked.tokens == sum(1 + len(question) for question in QUESTIONS)
    assert asked.text(alone[0]) == bytes(alone[0]).decode()


def test_an_answer_ends_with_its_line_or_is_cut_off() -> None:
    assert answer_of(iter([5, 6, 10, 7]), 10) == [5, 6]
    assert answer_of(iter([10]), 10) == []
    assert answer_of(iter([5] * 99), 10) == [5] * LONGEST


def test_an_empty_question_is_refused() -> None:
    with pytest.raises(UsageError, match="a question is empty"):
        Asked(PROGRAM, ["a", ""])
