"""How much a program repeats itself: distinct n-grams of what it writes, by each way of choosing.

A text that goes round in a loop has few distinct n-grams, one that a person wrote has nearly only those.
Texts are written on from passages of a given one; its own next tokens are measured beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.run.executor import Executor
from ternac.run.sampling import Chooser, Reshape, Sampling, seed_state

__all__ = ["GRAMS", "Repetition", "distinct", "looping", "repetition", "ways"]

GRAMS = (2, 3, 4, 8)
"""Lengths of n-grams, in tokens."""
PROMPT = 64
"""Tokens of a passage that is written on."""
LOOP_TAIL, LOOP_PERIOD = 96, 48
"""A text loops if its last tokens, so many, come again and again after at most so many others."""


@dataclass(frozen=True)
class Repetition:
    """``distinct``: part of the n-grams of `GRAMS` that is distinct, a mean over texts; ``loops``: part of
    the texts that end in a loop.
    """

    way: str
    distinct: tuple[float, ...]
    loops: float


def distinct(tokens: Sequence[int], n: int) -> float:
    """Return the distinct n-grams of a text over all of them; 1.0 if it has none."""
    grams = [tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def looping(tokens: Sequence[int]) -> bool:
    """Tell whether the end of a text repeats itself with a period of at most `LOOP_PERIOD`."""
    tail = list(tokens[-LOOP_TAIL:])
    if len(tail) < LOOP_TAIL:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, LOOP_PERIOD + 1))


def ways(logit_scale_bits: int) -> dict[str, tuple[Sampling, Reshape]]:
    """Return the ways of choosing that are compared: greedy, with penalties in nats, and draws."""
    greedy, none = Sampling(), Reshape()
    found = {"greedy": (greedy, none)}
    for penalty in (0.05, 0.2):
        reshape = Reshape.from_real(logit_scale_bits, frequency=penalty)
        found[f"greedy, frequency penalty {penalty}"] = (greedy, reshape)
    for temperature in (0.5, 0.8, 1.0):
        found[f"temperature {temperature}"] = (Sampling.from_temperature(temperature, logit_scale_bits), none)
    return found


def repetition(
    executor: Executor,
    tokens: npt.NDArray[Any],
    count: int,
    texts: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Repetition]:
    """Write ``count`` tokens behind each of ``texts`` passages in each way; the given text itself is first.

    Raises UsageError if the given text is too short.
    """
    whole = PROMPT + count
    if len(tokens) < whole:
        raise UsageError(
            f"the text has {len(tokens)} tokens, a passage of {PROMPT} and {count} behind it need {whole}",
            "give a longer text, or a smaller --distinct",
        )
    starts = np.linspace(0, len(tokens) - whole, texts).astype(np.int64)
    passages = np.stack([tokens[at : at + whole] for at in starts])
    found = [_measure("the text itself", passages[:, PROMPT:].tolist())]
    for number, (way, (sampling, reshape)) in enumerate(ways(executor.program.logit_scale_bits).items()):
        choosers = [Chooser(sampling, reshape) for _ in starts]
        rngs = [seed_state(k + 1) for k in range(texts)]
        state, written = executor.open(texts), [list[int]() for _ in starts]
        for at in range(PROMPT):
            logits = executor.step(state, passages[:, at])
        for at in range(count):
            for row, chooser in enumerate(choosers):
                token, rngs[row] = chooser.choose(logits[row], rngs[row])
                written[row].append(token)
            if at < count - 1:
                logits = executor.step(state, np.array([text[-1] for text in written]))
            progress(number * count + at + 1)
        found.append(_measure(way, written))
    return found


def _measure(way: str, texts: Sequence[Sequence[int]]) -> Repetition:
    parts = tuple(float(np.mean([distinct(text, n) for text in texts])) for n in GRAMS)
    return Repetition(way, parts, float(np.mean([looping(text) for text in texts])))
