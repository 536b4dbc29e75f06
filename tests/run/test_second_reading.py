"""The second reading of a passage is measured against the first, and against none."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.executor import ExecutorBase, State
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.second_reading import PASSAGE, SKIP, second_reading

RNG = np.random.default_rng(1)
TEXT, OTHER = RNG.integers(0, 100, 3000), RNG.integers(100, 200, 3000)


class Recalling(ExecutorBase):
    """Expects what followed when the last two tokens were read before; logits 0 and 2048."""

    name = "recalling"

    def __init__(self, program: Program, capacity: int) -> None:
        self.program, self.capacity = program, capacity
        self.read: list[list[int]] = []

    def open(self, batch: int = 1) -> State:
        self.read = [[] for _ in range(batch)]
        return super().open(batch)

    def step(
        self,
        state: State,
        tokens: Any,
        trace: MutableMapping[str, npt.NDArray[np.int32]] | None = None,
        *,
        loops: int | None = None,
    ) -> npt.NDArray[np.int32]:
        logits = np.zeros((len(tokens), self.program.vocab), np.int32)
        for row, (read, token) in enumerate(zip(self.read, tokens, strict=True)):
            read.append(int(token))
            kept = read[-self.capacity :]
            for i in range(len(kept) - 3, 0, -1):
                if kept[i - 1 : i + 1] == kept[-2:]:
                    logits[row, kept[i + 1]] = 2048
                    break
        return logits


def test_a_reader_with_a_long_memory_gains_and_one_with_a_short_one_does_not() -> None:
    program = open_program("shakespeare-small")
    certain = second_reading(Recalling(program, 10_000), TEXT, OTHER, 300, passages=4)
    assert certain.first == pytest.approx(np.log(256), rel=0.01)
    assert certain.second < 0.4 and certain.unread == pytest.approx(certain.first, rel=0.02)
    assert certain.gain == certain.first - certain.second > 5 * certain.error
    forgotten = second_reading(Recalling(program, 300), TEXT, OTHER, 300, passages=4)
    assert abs(forgotten.gain) < 0.2


def test_the_protocol_is_token_by_token_from_a_zero_state() -> None:
    program = open_program("shakespeare-small")
    found = second_reading(NumpyExecutor(program), TEXT, OTHER, 5, passages=2, seed=8)
    rng = np.random.default_rng(8)
    begins, between = rng.integers(0, len(TEXT) - PASSAGE, 2), rng.integers(0, len(OTHER) - 5, 2)
    nats: dict[str, list[float]] = {"first": [], "second": [], "unread": []}
    for i in range(2):
        passages = [TEXT[b : b + PASSAGE] for b in begins]
        for start in (passages[i], passages[i - 1]):
            executor = NumpyExecutor(program)
            state = executor.open(1)
            tokens = np.concatenate((start, OTHER[between[i] : between[i] + 5], passages[i]))
            for t, token in enumerate(tokens[:-1]):
                logits = executor.step(state, [token])[0] * 2.0**-program.logit_scale_bits
                loss = float(
                    np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[tokens[t + 1]]
                )
                if start is passages[i] and SKIP <= t < PASSAGE - 1:
                    nats["first"].append(loss)
                if t >= PASSAGE + 5 + SKIP:
                    nats["second" if start is passages[i] else "unread"].append(loss)
    for key, values in nats.items():
        assert getattr(found, key) == pytest.approx(np.mean(values), rel=1e-12), key


def test_texts_that_are_too_short_are_refused() -> None:
    executor = NumpyExecutor(open_program("shakespeare-small"))
    with pytest.raises(UsageError, match=r"300 apart, from texts of 3000 and 299 tokens"):
        second_reading(executor, TEXT, OTHER[:299], 300)


def test_eval_measures_second_readings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "shakespeare-small", "--again", "0,8", "--passages", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["distance"] for one in found["readings"]] == [0, 8]
    assert all(abs(one["gain"]) < 0.1 for one in found["readings"])  # it has no memory
    assert main(["eval", "shakespeare-small", "--again", "0,x"]) == 2
    assert "--again is '0,x'" in capsys.readouterr().err
