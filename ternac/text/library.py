"""The `tokenizers` package on one ``tokenizer.json``: here, or in a process of its own where that may take
any time.

`ternac.text.tokenizer_check` says which. The second costs 0.2 s when it starts and 0.1 ms a call. Whatever
the package raises, panics of Rust included, is UsageError.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Protocol

from ternac.bounded import Worker, serve
from ternac.errors import UsageError
from ternac.text.tokenizer_check import inspect

__all__ = ["Library", "open_library"]

_MODULE = "ternac.text.library"
HINT = "give a tokenizer.json of the Hugging Face tokenizers package"


class Library(Protocol):
    """What is asked of the package. ``vocab``: the highest number of a token, plus one."""

    vocab: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, without those that the file puts around one."""

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of tokens."""

    def head(self, text: str) -> int:
        """Return the characters of ``text`` before what its second token stands for."""

    def front(self) -> list[int]:
        """Return the tokens that the file puts in front of a text."""

    def token_id(self, text: str) -> int | None:
        """Return the token that is written ``text``; None if there is none."""


def open_library(json: bytes, source: str) -> Library:
    """Open a ``tokenizer.json``, called ``source`` in errors.

    Raises UsageError if it is none, OverBudget if it may take more than `ternac.limits` allows.
    """
    found = inspect(json, source)
    return InProcess(json, source) if found.plain else Apart(json, source)


class InProcess:
    """The package in this process."""

    def __init__(self, json: bytes, source: str = "tokenizer.json") -> None:
        from tokenizers import Tokenizer as Rust

        self._source = source
        try:
            self._rust = Rust.from_str(json.decode())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the package raises Exception, or panics outside of it
            raise UsageError(f"{source} is not a tokenizer: {str(error)[:200]}", HINT) from None
        self._rust.no_truncation()
        self._rust.no_padding()
        self.vocab = 1 + max(self._rust.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._call("encode_batch_fast", list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        if len(batch) == 1:  # not on several threads
            return [self._call("decode", batch[0], skip_special_tokens=False)]
        found: list[str] = self._call("decode_batch", batch, skip_special_tokens=False)
        return found

    def head(self, text: str) -> int:
        offsets = self._call("encode", text, add_special_tokens=False).offsets
        return int(offsets[1][0]) if len(offsets) > 1 else len(text)

    def front(self) -> list[int]:
        encoding = self._call("encode", "a", add_special_tokens=True)
        marked = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [token for token, _ in takewhile(lambda pair: pair[1] == 1, marked)]

    def token_id(self, text: str) -> int | None:
        found: int | None = self._call("token_to_id", text)
        return found

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        try:
            return getattr(self._rust, name)(*args, **options)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise UsageError(f"{self._source} fails on this text: {str(error)[:200]}", HINT) from None


class Apart:
    """The package in a process of its own."""

    def __init__(self, json: bytes, source: str) -> None:
        self._worker = Worker(_MODULE, [json.decode(), source], len(json), source)
        self.vocab: int = self._worker.call(["vocab"])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._worker.call(["encode", list(texts)]))

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        return list(self._worker.call(["decode", [list(row) for row in batch]]))

    def head(self, text: str) -> int:
        return int(self._worker.call(["head", text]))

    def front(self) -> list[int]:
        return list(self._worker.call(["front"]))

    def token_id(self, text: str) -> int | None:
        found: int | None = self._worker.call(["token_id", text])
        return found


def _begin(first: list[str]) -> Any:
    json, source = first
    library = InProcess(json.encode(), source)

    def answer(request: list[Any]) -> Any:
        name, *args = request
        return library.vocab if name == "vocab" else getattr(library, name)(*args)

    return answer


if __name__ == "__main__":
    serve(_begin)
