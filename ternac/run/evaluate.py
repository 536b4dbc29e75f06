"""Loss of an integer program on a text: every token but the first is predicted exactly once.

The text is read as parallel streams.  Stream i owns a contiguous run of targets; it starts from a zero state
and is first fed the ``context`` tokens before its run, uncounted (fewer where the text begins).  So every
prediction but those near the beginning of the text has at least ``context`` tokens of history, and the loss
is that of one reader of the whole text, but for what more history would give.

With a tokenizer, the bytes and characters of the first token are not counted either.
A logit is worth ``code * 2**-logit_scale_bits``; log-softmax is taken in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.files import read_bytes as read_text
from ternac.program.program import Program
from ternac.run.executor import Executor
from ternac.text.tokenizer import Encoded, tokenizer_of

__all__ = ["Loss", "Streams", "cut", "encode", "evaluate", "loss_of", "read_text", "split"]

STREAMS, CONTEXT = 64, 256
TRAIN_PART = 0.9
"""Part of a text for training; the rest is for validation."""


@dataclass(frozen=True)
class Loss:
    """Mean loss over ``tokens`` predicted tokens, which stand for ``text_bytes`` bytes.

    ``nats_per_char`` is None where the text is not UTF-8, and with ``bits_per_byte`` where the tokenizer
    cannot write the text as it is.
    """

    nats_per_token: float
    bits_per_byte: float | None
    nats_per_char: float | None
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
        """Steps of the longest stream."""
        return int((self.last - 1 - self.start).max())


def cut(count: int, streams: int = STREAMS, context: int = CONTEXT) -> Streams:
    """Cut a text of ``count`` >= 2 tokens; the runs of targets 1..count-1 differ by at most one in length."""
    if count < 2:
        raise UsageError(f"the text has {count} token(s), a loss needs at least 2")
    streams = max(1, min(streams, (count - 1) // max(1, context)))
    edges = 1 + np.arange(streams + 1, dtype=np.int64) * (count - 1) // streams
    return Streams(np.maximum(edges[:-1] - 1 - context, 0), edges[:-1], edges[1:])


def evaluate(
    executor: Executor,
    text: Encoded | npt.NDArray[Any],
    streams: int = STREAMS,
    context: int = CONTEXT,
    progress: Callable[[int], None] = lambda done: None,
    *,
    loops: int | None = None,
) -> Loss:
    """Return the loss of the executor's program on a text; ``progress`` is told the predictions so far.

    ``loops``: runs of the program's loops (None: as it says). Plain tokens [N] count as one byte each.
    """
    tokens = text.ids if isinstance(text, Encoded) else text
    parts = cut(len(tokens), streams, context)
    state = executor.open(len(parts.start))
    scale = 2.0**-executor.program.logit_scale_bits
    rows = np.arange(len(parts.start))
    total, counted = 0.0, 0
    for step in range(parts.steps):
        at = np.minimum(parts.start + step, len(tokens) - 2)
        logits = executor.step(state, tokens[at], loops=loops)
        live = (parts.start + step == at) & (at + 1 >= parts.first) & (at + 1 < parts.last)
        total += float(nats(logits * scale, tokens[at + 1], rows)[live].sum())
        counted += int(live.sum())
        progress(counted)
    return loss_of(total, counted, text if isinstance(text, Encoded) else None)


def loss_of(total: float, counted: int, text: Encoded | None) -> Loss:
    """Return ``total`` nats over ``counted`` predictions by token, byte and character of ``text``."""
    if text is None:
        return Loss(total / counted, total / counted / math.log(2), total / counted, counted, counted)
    covered = text.bytes - text.head
    chars = None if text.chars is None else text.chars - text.head_chars
    return Loss(
        total / counted,
        total / covered / math.log(2) if covered and text.lossless else None,
        total / chars if chars and text.lossless else None,
        counted,
        covered,
    )


def nats(logits: npt.NDArray[Any], targets: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the cross entropy per row, float64 [B], of float64 logits [B, V]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: npt.NDArray[Any] = np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, targets]
    return result


def encode(program: Program, data: bytes) -> npt.NDArray[Any]:
    """Encode a text with the program's own tokenizer; raises what `ternac.text.tokenizer` raises."""
    return tokenizer_of(program).encode(data).ids


def split(data: bytes, which: str) -> bytes:
    """Return the first 90% (``"train"``) or last 10% (``"val"``) of a text, cut at ``int(0.9 * len)``."""
    edge = int(TRAIN_PART * len(data))
    return data[:edge] if which == "train" else data[edge:]
