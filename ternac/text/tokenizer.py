"""Tokenizers of programs: bytes, or the Hugging Face tokenizer that a program file carries.

A text is encoded in pieces of at most `PIECE` characters, cut behind the last line end in them, so that a
text of any length takes little memory and the same text always gives the same tokens. What a
``tokenizer.json`` puts around a text is not added; `encode_prompt` puts the program's own token in front.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import BadProgramFile, UsageError
from ternac.program.program import Program
from ternac.text.library import Library, open_library

Tokens = npt.NDArray[Any]
PIECE = 1 << 16
_GROUP = 16  # pieces that are encoded at a time, on all cores
_HOLD = 16  # tokens that may wait for the rest of a character: twelve are enough for any


@dataclass(frozen=True)
class Encoded:
    """A text as tokens.

    ``ids`` int [N], as small as the vocabulary allows. ``head`` bytes and ``head_chars`` characters come
    before what the second token stands for: a model that predicts every token but the first does not predict
    them.
    ``chars`` is None if the text is not UTF-8. ``lossless``: the tokens decode to the text.
    """

    ids: Tokens
    bytes: int
    chars: int | None
    head: int
    head_chars: int
    lossless: bool


class TextStream(Protocol):
    """Tokens in, text out as soon as its characters are whole."""

    def feed(self, token: int) -> str: ...

    def finish(self) -> str: ...


class Tokenizer(Protocol):
    """Text to tokens and back; ids are 0..vocab-1. `stream` decodes tokens that come one by one."""

    name: str
    vocab: int

    def encode(self, data: bytes, progress: Callable[[int], None] = ...) -> Encoded: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def stream(self, before: Sequence[int] = ()) -> TextStream: ...


class ByteTokenizer:
    """A token is a byte; takes any data. Bytes that are no UTF-8 are shown as U+FFFD."""

    name = "bytes"
    vocab = 256

    def encode(self, data: bytes, progress: Callable[[int], None] = lambda done: None) -> Encoded:
        """Return the bytes themselves, uint8."""
        chars, head_chars = None, 0
        try:
            text = data.decode()
            chars, head_chars = len(text), int(bool(text) and len(text[0].encode()) == 1)
        except UnicodeDecodeError:
            pass
        progress(len(data))
        return Encoded(np.frombuffer(data, np.uint8), len(data), chars, min(1, len(data)), head_chars, True)

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def stream(self, before: Sequence[int] = ()) -> TextStream:
        return _ByteStream()


class _ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        return self._decoder.decode(bytes((token,)))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class HuggingFaceTokenizer:
    """A ``tokenizer.json``, run by the `tokenizers` package; takes UTF-8 only. Where it has parts that may
    take any time, they run in a process of their own (`ternac.text.library`).

    Raises UsageError if the text of the file is not a tokenizer, OverBudget if it may take more of this
    machine than `ternac.limits` allows, here or in a method.
    """

    name = "huggingface"

    def __init__(self, json: bytes, source: str = "tokenizer.json") -> None:
        self._library = _opened(json, source)
        self.vocab = self._library.vocab
        if self.vocab < 1:
            raise UsageError(f"{source} has an empty vocabulary")

    def encode(self, data: bytes, progress: Callable[[int], None] = lambda done: None) -> Encoded:
        """Encode UTF-8; ``progress`` gets the bytes done. Raises UsageError at the first byte that is not."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"the text is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
                "this model's tokenizer needs UTF-8; convert the text, or use a model over bytes",
            ) from None
        dtype = np.uint8 if self.vocab <= 256 else np.uint16 if self.vocab <= 1 << 16 else np.int32
        found: list[Tokens] = []
        head, lossless, done = len(text), True, 0
        for pieces in _groups(_pieces(text), _GROUP):
            if not found:
                head = self._library.head(pieces[0])
            batch = self._library.encode(pieces)
            lossless = lossless and self._library.decode(batch) == pieces
            found += [np.array(ids, dtype) for ids in batch]
            done += sum(len(piece.encode()) for piece in pieces)
            progress(done)
        whole = np.concatenate(found) if found else np.zeros(0, dtype)
        return Encoded(whole, len(data), len(text), len(text[:head].encode()), head, lossless)

    def token_id(self, text: str) -> int | None:
        """Return the token that is written ``text``; None if there is none."""
        return self._library.token_id(text)

    def front(self) -> list[int]:
        """Return the tokens that ``tokenizer.json`` itself would put in front of a text."""
        return self._library.front()

    def decode(self, ids: Iterable[int]) -> str:
        return self._library.decode([[int(i) for i in ids]])[0]

    def stream(self, before: Sequence[int] = ()) -> TextStream:
        """Decode tokens one by one; the text of some depends on the last of those ``before``."""
        return _HeldStream(self.decode, list(before[-_HOLD:]))


@lru_cache(maxsize=8)
def _opened(json: bytes, source: str) -> Library:
    """Several sessions of one program share its library, and its process where it has one."""
    return open_library(json, source)


class _HeldStream:
    """Decodes the tokens since the last whole character, behind those before it that may decide their text.

    U+FFFD at the end may be the beginning of a character; before the last, in tokenizers made by
    `ternac.text.training`, that of an escape. Both wait, for at most `_HOLD` tokens.
    """

    def __init__(self, decode: Callable[[Iterable[int]], str], before: list[int]) -> None:
        self._decode = decode
        self._before = before
        self._held: list[int] = []

    def feed(self, token: int) -> str:
        self._held.append(token)
        text = self._decode(self._before + self._held)
        if len(self._held) < _HOLD and "\ufffd" in text[-2:]:
            return ""
        return self._take(text)

    def finish(self) -> str:
        return self._take(self._decode(self._before + self._held)) if self._held else ""

    def _take(self, text: str) -> str:
        new = text[len(self._decode(self._before)) if self._before else 0 :]
        self._before, self._held = self._held, []
        return new


def whole_characters(data: bytes) -> bytes:
    """Return ``data`` without an incomplete UTF-8 character at its end."""
    for short in range(1, min(4, len(data))):
        tail = data[-short:]
        if tail[0] >= 0xC0:
            try:
                tail.decode()
            except UnicodeDecodeError as error:
                # The error spans the whole of an incomplete character, but only one byte of a wrong one.
                cut = 0xC2 <= tail[0] <= 0xF4 and (error.start, error.end) == (0, short)
                return data[:-short] if cut else data
            return data
    return data


def _groups(pieces: Iterator[str], size: int) -> Iterator[list[str]]:
    while group := list(islice(pieces, size)):
        yield group


def _pieces(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        end = at + PIECE
        if end < len(text):
            end = text.rfind("\n", at, end) + 1 or end
        yield text[at:end]
        at = end


def encode_prompt(program: Program, tokenizer: Tokenizer, text: str | bytes, *, begins: bool) -> list[int]:
    """Return the tokens of a prompt; one that ``begins`` a session gets what the program puts in front.

    Raises UsageError if the tokenizer cannot read the text.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise UsageError("the text contains an unpaired surrogate and cannot be encoded as UTF-8") from None
    tokens: list[int] = tokenizer.encode(data).ids.tolist()
    return program.special.begin(tokens) if begins else tokens


def tokenizer_of(program: Program, *, assume_bytes: bool = False) -> Tokenizer:
    """Return the tokenizer of a program; with ``assume_bytes`` one of at most 256 tokens need not name it.

    Raises UsageError if the program names no tokenizer, BadProgramFile if its tokenizer cannot be used or has
    tokens that the program does not know.
    """
    if program.tokenizer:
        try:
            found = HuggingFaceTokenizer(program.tokenizer, f"the tokenizer in program {program.name}")
        except UsageError as error:
            raise BadProgramFile(str(error), "export the model again with its tokenizer") from None
        if found.vocab > program.vocab:
            raise BadProgramFile(
                f"program {program.name} has {program.vocab} tokens, its tokenizer {found.vocab}",
                "export the model again with its own tokenizer",
            )
        return found
    if program.meta.get("tokenizer") == "bytes" or (assume_bytes and program.vocab <= 256):
        return ByteTokenizer()
    raise UsageError(
        f"program {program.name} has {program.vocab} tokens and no tokenizer to read text with",
        "export it with its tokenizer.json",
    )
