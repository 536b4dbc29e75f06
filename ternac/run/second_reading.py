"""Nats of the second reading of a passage: what a session remembers of a text, however far back it read it.

Every stream reads a passage, ``distance`` tokens of other text, and the passage again, from a zero state. A
model without a memory gains nothing at the second reading; one with a memory gains the less, the more it has
read in between. So that a gain is that of the passage and not of a session that has warmed up, other streams
read another passage first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.run.evaluate import nats
from ternac.run.executor import Executor

PASSAGE = 192
"""Tokens of a passage."""
PASSAGES = 32
SKIP = 24
"""Its first tokens are not counted: at first the model cannot know that it reads the passage again."""


@dataclass(frozen=True)
class Reading:
    """Mean nats per token of passages: read first, again ``distance`` later, and there without the first.

    ``error`` is the standard error of the mean gain over the passages.
    """

    distance: int
    first: float
    second: float
    unread: float
    error: float
    passages: int

    @property
    def gain(self) -> float:
        """Return by how much the second reading is better than the first."""
        return self.first - self.second


def second_reading(
    executor: Executor,
    text: npt.NDArray[Any],
    other: npt.NDArray[Any],
    distance: int,
    passages: int = PASSAGES,
    seed: int = 3,
    progress: Callable[[int], None] = lambda done: None,
    *,
    loops: int | None = None,
) -> Reading:
    """Measure passages drawn from tokens ``text``, with tokens of ``other`` between their two readings.

    ``progress`` is told the tokens that each stream has read. ``loops``: runs of the program's loops.
    Raises UsageError if a text is too short.
    """
    if len(text) <= PASSAGE or len(other) <= distance:
        raise UsageError(
            f"passages of {PASSAGE} tokens, {distance} apart, from texts of {len(text)} and {len(other)} "
            "tokens",
            "give longer texts, or a shorter distance",
        )
    rng = np.random.default_rng(seed)
    begins = rng.integers(0, len(text) - PASSAGE, passages)
    between = rng.integers(0, len(other) - distance, passages)
    read = [_passage(text, begin) for begin in begins]
    fill = [other[begin : begin + distance].astype(np.int64) for begin in between]
    streams = [np.concatenate((a, b, a)) for a, b in zip(read, fill, strict=True)]
    # The passage that another stream reads stands in the place of the first reading.
    streams += [np.concatenate((read[i - 1], b, read[i])) for i, b in enumerate(fill)]
    tokens = np.stack(streams)
    found = _nats(executor, tokens, progress, loops)
    counted = slice(SKIP, PASSAGE - 1)
    first, again = found[:, counted], found[:, PASSAGE + distance :][:, counted]
    gains = (first[:passages] - again[:passages]).mean(1)
    return Reading(
        distance,
        float(first[:passages].mean()),
        float(again[:passages].mean()),
        float(again[passages:].mean()),
        float(gains.std(ddof=1) / passages**0.5) if passages > 1 else 0.0,
        passages,
    )


def _passage(text: npt.NDArray[Any], begin: int) -> npt.NDArray[np.int64]:
    return text[begin : begin + PASSAGE].astype(np.int64)


def _nats(
    executor: Executor,
    tokens: npt.NDArray[np.int64],
    progress: Callable[[int], None],
    loops: int | None,
) -> npt.NDArray[np.float64]:
    """Return the cross entropy [streams, length - 1] of tokens [streams, length], each but the first."""
    state = executor.open(len(tokens))
    scale, rows = 2.0**-executor.program.logit_scale_bits, np.arange(len(tokens))
    result = np.empty((len(tokens), tokens.shape[1] - 1))
    for step in range(tokens.shape[1] - 1):
        logits = executor.step(state, tokens[:, step], loops=loops)
        result[:, step] = nats(logits * scale, tokens[:, step + 1], rows)
        progress(step + 1)
    return result
