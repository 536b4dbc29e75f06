"""Loss of an integer program on a text: every token but the first is predicted exactly once.

The text is read as parallel streams.  Stream i owns a contiguous run of targets; it starts from a zero state
and is first fed the ``context`` tokens before its run, uncounted (fewer where the text begins).  So every
prediction but those near the beginning of the text stands on at least ``context`` tokens of history, and the
loss is, up to what more history would give, that of one reader of the whole text.

A logit is worth ``code * 2**-logit_scale_bits``; log-softmax is taken in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.program import Program

STREAMS, CONTEXT = 64, 256
TRAIN_PART = 0.9  # of the text; the rest is for validation


class Steps(Protocol):
    """What evaluation needs of an executor: the program, and a batched step with its state."""

    @property
    def name(self) -> str: ...

    @property
    def program(self) -> Program: ...

    def open(self, batch: int = 1) -> Any: ...

    def step(self, state: Any, tokens: Any) -> Any: ...


@dataclass(frozen=True)
class Loss:
    """Mean loss over ``tokens`` predicted tokens, which stand for ``text_bytes`` bytes."""

    nats_per_token: float
    bits_per_byte: float
    tokens: int
    text_bytes: int


@dataclass(frozen=True)
class Streams:
    """Stream i of a text is fed from token ``start[i]``; its targets are tokens first[i]..last[i]-1."""

    start: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Steps that the longest stream takes."""
        return int((self.last - 1 - self.start).max())


def cut(count: int, streams: int = STREAMS, context: int = CONTEXT) -> Streams:
    """Cut a text of ``count`` >= 2 tokens; the runs of targets 1..count-1 differ by at most one in length."""
    if count < 2:
        raise UsageError(f"the text has {count} token(s), a loss needs at least 2")
    streams = max(1, min(streams, (count - 1) // max(1, context)))
    edges = 1 + np.arange(streams + 1, dtype=np.int64) * (count - 1) // streams
    return Streams(np.maximum(edges[:-1] - 1 - context, 0), edges[:-1], edges[1:])


def evaluate(
    executor: Steps,
    tokens: npt.NDArray[Any],
    streams: int = STREAMS,
    context: int = CONTEXT,
    progress: Callable[[int], None] = lambda done: None,
) -> Loss:
    """Loss of the executor's program on ``tokens`` [N]; ``progress`` gets the predictions so far."""
    parts = cut(len(tokens), streams, context)
    state = executor.open(len(parts.start))
    scale = 2.0**-executor.program.logit_scale_bits
    rows = np.arange(len(parts.start))
    total, counted = 0.0, 0
    for step in range(parts.steps):
        at = np.minimum(parts.start + step, len(tokens) - 2)
        logits = executor.step(state, tokens[at])
        live = (parts.start + step == at) & (at + 1 >= parts.first) & (at + 1 < parts.last)
        total += float(_nats(logits * scale, tokens[at + 1], rows)[live].sum())
        counted += int(live.sum())
        progress(counted)
    nats = total / counted
    return Loss(nats, nats / math.log(2), counted, counted)


def _nats(logits: npt.NDArray[Any], targets: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cross entropy per row, float64 [B], of float64 logits [B, V]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: npt.NDArray[Any] = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, targets]
    return result


def encode(program: Program, data: bytes) -> npt.NDArray[np.uint8]:
    """The tokens of a text, by the program's own tokenizer; UsageError if it has none."""
    if program.meta.get("tokenizer") != "bytes":
        raise UsageError(f"program {program.name} says of no tokenizer how it reads text")
    return np.frombuffer(data, np.uint8)


def read_text(path: str | Path) -> bytes:
    """Contents of a text file, not empty; UsageError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise UsageError(f"{path} is empty")
    return data


def split(data: bytes, which: str) -> bytes:
    """The first 90% (``"train"``) or the last 10% (``"val"``) of a text, cut at ``int(0.9 * len)``."""
    edge = int(TRAIN_PART * len(data))
    return data[:edge] if which == "train" else data[edge:]
