"""Text as tokens: a file or a folder, split in training and validation, read as parallel streams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.files import read_bytes
from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer

SHAKESPEARE = Path(__file__).parents[1] / "data" / "tinyshakespeare.txt"
SESSION = 16
"""Windows of a session with repeats."""
PASSAGE = (64, 192)
"""Tokens of a passage in it, at least and at most."""
MARK = b" =>"
"""Between a question and its answer, in a line."""
Tokens = npt.NDArray[Any]
"""One token each, of an unsigned type that is wide enough for the vocabulary."""


@dataclass(frozen=True)
class Corpus:
    """A text as tokens, with the ``tokenizer.json`` that made them; without one they are its bytes."""

    tokens: Tokens
    text_bytes: int
    vocab: int = 256
    tokenizer: bytes = b""

    @property
    def digest(self) -> str:
        """Return the sha256 of the tokens, as in checkpoints and recipes."""
        return hashlib.sha256(self.tokens.tobytes()).hexdigest()

    @property
    def bytes_per_token(self) -> float:
        """Return the text's mean: a loss in bits per token divided by this is one in bits per byte."""
        return self.text_bytes / max(1, len(self.tokens))


def read_corpus(
    path: Path, tokenizer: bytes = b"", progress: Callable[[int, int], None] = lambda done, total: None
) -> Corpus:
    """Read a text, or all texts of a folder, as tokens of ``tokenizer`` (the contents of a tokenizer.json).

    ``progress`` is told bytes done and bytes in all.

    Raises:
        UsageError: as :func:`read_text`; if the tokenizer cannot be used, or does not give the text back as
            it is, so that no loss per byte could be told.
    """
    data = read_text(path)
    if not tokenizer:
        return Corpus(data, len(data))
    made = HuggingFaceTokenizer(tokenizer)
    try:
        text = made.encode(data.tobytes(), lambda done: progress(done, len(data)))
    except UsageError as error:
        raise UsageError(f"{path}: {error}", error.hint) from None
    if not text.lossless:
        raise UsageError(
            f"the tokenizer does not give {path} back unchanged",
            "take one that does: ternac tokenizer --help",
        )
    return Corpus(text.ids, text.bytes, made.vocab, tokenizer)


def read_text(path: Path) -> npt.NDArray[np.uint8]:
    """Read a text, or all ``*.txt`` and ``*.txt.xz`` below a folder in order of their paths, as u8."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.name.endswith((".txt", ".txt.xz")))
        if not files:
            raise UsageError(f"no *.txt file below {path}")
    elif path.is_file():
        files = [path]
    else:
        raise UsageError(f"no such file or folder: {path}", hint="name a text file or a folder of them")
    return np.frombuffer(b"".join(read_bytes(file) for file in files), dtype=np.uint8)


def split(tokens: Tokens, val_fraction: float) -> tuple[Tokens, Tokens]:
    """Return (train, validation): validation is the last ``val_fraction`` of the text."""
    cut = int(len(tokens) * (1.0 - val_fraction))
    if cut < 2 or len(tokens) - cut < 2:
        raise UsageError(f"a text of {len(tokens)} tokens is too short to split")
    return tokens[:cut], tokens[cut:]


def question_weights(tokens: Tokens, tokenizer: bytes, weight: float) -> npt.NDArray[np.float32] | None:
    """Return how often each token counts as a target: ``weight`` in a line's question, `MARK` included.

    In its answer, the line's end included, each counts once. None: all do.

    Raises UsageError if no line has an answer.
    """
    if weight == 1.0:
        return None
    made = HuggingFaceTokenizer(tokenizer) if tokenizer else ByteTokenizer()
    mark, end = (made.encode(text).ids for text in (MARK, b"\n"))
    places = np.arange(len(tokens))
    ends_mark = np.ones(len(tokens), bool)
    for back, token in enumerate(reversed(mark.tolist())):
        ends_mark &= np.roll(tokens, back) == token
    before = [np.maximum.accumulate(np.where(at, places, -1)) for at in (ends_mark, tokens == end[-1])]
    inside = np.zeros(len(tokens), bool)
    inside[1:] = before[0][:-1] > before[1][:-1]
    if not inside.any():
        raise UsageError(
            f"a question weight of {weight} needs lines with {MARK.decode()!r} in the text",
            hint="leave --question-weight out",
        )
    return np.where(inside, 1.0, weight).astype(np.float32)


@dataclass(frozen=True)
class Streams:
    """Reads a text as ``batch`` parallel streams, ``window`` tokens at a time.

    The text is taken as a ring; every pass starts at another random place, drawn from (seed, pass). The
    window of a step is a pure function of the step number, so that number is the whole data position.

    With ``repeats`` that share of the streams reads sessions of `SESSION` windows instead: passages from
    anywhere in the text, each of which is, at even odds, a passage of the session read again, the nearer the
    more often. The other streams share the text among themselves.
    """

    tokens: Tokens
    batch: int
    window: int
    seed: int
    repeats: float = 0.0
    counts: npt.NDArray[np.float32] | None = None  #: how often each token counts as a target; None: once

    def __post_init__(self) -> None:
        if self.counts is not None and self.repeats:
            raise UsageError("a question weight and repeats do not go together", hint="leave one out")
        if self.windows_per_pass < 1:
            raise UsageError(
                f"a training text of {len(self.tokens)} tokens is too short for {self.batch} streams "
                f"of {self.window} tokens",
                hint="use a longer text, or a smaller batch or window",
            )
        if self.repeats and len(self.tokens) <= PASSAGE[1]:
            raise UsageError(
                f"a training text of {len(self.tokens)} tokens has no passages of {PASSAGE[1]} to repeat",
                hint="use a longer text, or no --repeats",
            )

    @property
    def _repeating(self) -> npt.NDArray[np.bool_]:
        """Which streams read sessions, spread evenly: bool [batch]."""
        edges = np.floor(np.arange(self.batch + 1) * self.repeats)
        return edges[1:] > edges[:-1]

    @property
    def windows_per_pass(self) -> int:
        """Return the number of steps in which every token is read about once."""
        return (len(self.tokens) // int((~self._repeating).sum()) - 1) // self.window

    def fresh(self, step: int) -> npt.NDArray[np.bool_]:
        """Return which streams begin at ``step``, so that their state must be zero: bool [batch]."""
        lanes = np.arange(self.batch)
        return np.where(self._repeating, (step + lanes) % SESSION == 0, step % self.windows_per_pass == 0) | (
            step == 0
        )

    def window_at(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (inputs, targets) of a step, both int64 [window, batch]."""
        plain = np.flatnonzero(~self._repeating)
        picked = np.empty((self.window + 1, self.batch), np.int64)
        picked[:, plain] = self.tokens[self._places(step, len(plain))]
        for lane in np.flatnonzero(self._repeating):
            session, part = divmod(step + int(lane), SESSION)
            picked[:, lane] = self._session(int(lane), session)[part * self.window :][: self.window + 1]
        return picked[:-1], picked[1:]

    def _places(self, step: int, lanes: int) -> npt.NDArray[np.int64]:
        """Return the places of a step's tokens in the text, and of one more: [window + 1, lanes]."""
        number, index = divmod(step, self.windows_per_pass)
        origin = int(np.random.default_rng((self.seed, number)).integers(len(self.tokens)))
        begins = np.arange(lanes) * (len(self.tokens) // lanes) + origin
        times = np.arange(self.window + 1)[:, None] + index * self.window
        return (begins + times) % len(self.tokens)

    def weights_at(self, step: int) -> npt.NDArray[np.float32] | None:
        """Return how often the targets of a step count: float32 [window, batch], mean 1. None: once each."""
        if self.counts is None:
            return None
        weights = self.counts[self._places(step, self.batch)[1:]]
        return np.asarray(weights / max(float(weights.mean()), 1e-9), np.float32)

    def _session(self, lane: int, number: int) -> npt.NDArray[np.int64]:
        """Return the text of a session, one token longer than its windows, so that the last has a target."""
        size = SESSION * self.window + 1
        rng = np.random.default_rng((self.seed, lane, number, SESSION))
        passages: list[npt.NDArray[np.int64]] = []
        total = 0
        while total < size:
            if passages and rng.random() < 0.5:
                back = int(len(passages) ** rng.random())  # 1 is the last passage; log-uniform
                passages.append(passages[-back])
            else:
                length = int(rng.integers(PASSAGE[0], PASSAGE[1] + 1))
                begin = int(rng.integers(len(self.tokens) - length))
                passages.append(self.tokens[begin : begin + length].astype(np.int64))
            total += len(passages[-1])
        return np.concatenate(passages)[:size]
