"""Cut any bytes into tokens and a rest, so that both together give the bytes back.

Lines that are no UTF-8, or that the tokenizer does not restore as they were, go to the rest; where that is
not enough, all does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.text.tokenizer import PIECE, ByteTokenizer, Tokenizer, whole_characters

__all__ = ["TOKENS_A_BYTE", "Parts", "blocks", "join", "split"]

TOKENS_A_BYTE = 8
"""A text of n bytes in more than so many times n tokens is taken for none of this tokenizer."""
MOST_LINES = 4096
"""Lines that are tried one by one; a text with more of them is no text for this tokenizer."""


@dataclass(frozen=True)
class Parts:
    """A text: ``tokens``, and the ``rest``. ``runs`` are bytes from either in turn, from the tokens first;
    none where all is from the tokens.
    """

    tokens: npt.NDArray[Any]
    rest: bytes = b""
    runs: tuple[int, ...] = ()


def split(tokenizer: Tokenizer, vocab: int, data: bytes) -> Parts:
    """Cut a text for a program of ``vocab`` tokens; `join` gives it back."""
    tokens = _exact(tokenizer, vocab, data)
    if tokens is not None:
        return Parts(tokens)
    lines = _lines(data)
    fits = [_readable(tokenizer, vocab, line) for line in lines]
    for thorough in (False, True):
        if thorough:
            if len(lines) > MOST_LINES:
                break
            fits = [
                fit and _exact(tokenizer, vocab, line) is not None
                for fit, line in zip(fits, lines, strict=True)
            ]
        tokens = _exact(
            tokenizer, vocab, b"".join(line for fit, line in zip(fits, lines, strict=True) if fit)
        )
        if tokens is not None and len(tokens):
            rest = b"".join(line for fit, line in zip(fits, lines, strict=True) if not fit)
            return Parts(tokens, rest, _runs(fits, lines))
    return Parts(np.zeros(0, np.int32), data, (0, len(data)))


def join(tokenizer: Tokenizer, parts: Parts) -> bytes:
    """Return the text. Raises ValueError if the runs are not those of the tokens and the rest."""
    text = _bytes(tokenizer, parts.tokens)
    if not parts.runs:
        if parts.rest:
            raise ValueError("there is a rest without runs")
        return text
    sources, at, found = (text, parts.rest), [0, 0], []
    for number, length in enumerate(parts.runs):
        which = number % 2
        found.append(sources[which][at[which] : at[which] + length])
        at[which] += length
    if at != [len(text), len(parts.rest)]:
        raise ValueError("the runs do not add up")
    return b"".join(found)


def blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut a stream into blocks of at most ``size`` bytes, behind a line's end in their last quarter, else
    behind a whole character.
    """
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) > size:
            cut = held.rfind(b"\n", 3 * size // 4, size) + 1 or len(whole_characters(bytes(held[:size])))
            yield bytes(held[:cut])
            del held[:cut]
    if held:
        yield bytes(held)


def _lines(data: bytes) -> list[bytes]:
    """Split behind each line feed, and nowhere else."""
    found = data.split(b"\n")
    ended = [line + b"\n" for line in found[:-1]]
    return [*ended, found[-1]] if found[-1] else ended


def _readable(tokenizer: Tokenizer, vocab: int, line: bytes) -> bool:
    if isinstance(tokenizer, ByteTokenizer):
        return vocab >= ByteTokenizer.vocab or max(line) < vocab
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _exact(tokenizer: Tokenizer, vocab: int, data: bytes) -> npt.NDArray[Any] | None:
    """Return the tokens if they give the text back."""
    if not data:
        return np.zeros(0, np.int32)
    if not _readable(tokenizer, vocab, data):
        return None
    try:
        found = tokenizer.encode(data)
        if (
            not found.lossless
            or len(found.ids) > TOKENS_A_BYTE * len(data)
            or (len(data) > PIECE and _bytes(tokenizer, found.ids) != data)
        ):
            return None
    except UsageError:  # of this text
        return None
    return found.ids


def _bytes(tokenizer: Tokenizer, tokens: npt.NDArray[Any]) -> bytes:
    if isinstance(tokenizer, ByteTokenizer):
        return tokens.astype(np.uint8).tobytes()
    return tokenizer.decode(tokens.tolist()).encode() if len(tokens) else b""


def _runs(fits: list[bool], lines: list[bytes]) -> tuple[int, ...]:
    found = [] if fits[0] else [0]
    for _, run in groupby(zip(fits, lines, strict=True), key=lambda pair: pair[0]):
        found.append(sum(len(line) for _, line in run))
    return tuple(found)
