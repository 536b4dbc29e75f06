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
    streams = read_twice(text, other, distance, passages, seed)
    # The passage that another stream reads stands in the place of the first reading.
    unread = np.concatenate((np.roll(streams[:, :PASSAGE], 1, 0), streams[:, PASSAGE:]), 1)
    found = _nats(executor, np.concatenate((streams, unread)), progress, loops)
    first, again = (found[:, at] for at in counted(distance))
    gains = (first[:passages] - again[:passages]).mean(1)
    return Reading(
        distance,
        float(first[:passages].mean()),
        float(again[:passages].mean()),
        float(again[passages:].mean()),
        standard_error(gains),
        passages,
    )


def read_twice(
    text: npt.NDArray[Any], other: npt.NDArray[Any], distance: int, passages: int = PASSAGES, seed: int = 3
) -> npt.NDArray[np.int64]:
    """Return streams [passages, 2 * PASSAGE + distance] that read a passage of ``text`` twice.

    ``distance`` tokens of ``other`` stand in between. Raises UsageError if a text is too short.
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
    read = [text[begin : begin + PASSAGE].astype(np.int64) for begin in begins]
    fill = [other[begin : begin + distance].astype(np.int64) for begin in between]
    return np.stack([np.concatenate((a, b, a)) for a, b in zip(read, fill, strict=True)])


def counted(distance: int) -> tuple[slice, slice]:
    """Return the positions of a stream behind which a token counts, of the first and the second reading."""
    again = PASSAGE + distance
    return slice(SKIP, PASSAGE - 1), slice(again + SKIP, again + PASSAGE - 1)


def standard_error(values: npt.NDArray[np.float64]) -> float:
    """Return the standard error of the mean of ``values``, 0 of a single one."""
    return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


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
