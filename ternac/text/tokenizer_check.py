"""What a ``tokenizer.json`` may make of a text, found from its description before a library runs it.

A file of a few kilobytes can turn a character into gigabytes (thirty normalizers that each double it), or
hold a regular expression that takes years. `inspect` bounds the first: a character's growth is followed
backwards through the steps, each of which replaces characters by characters. The second cannot be bounded
by looking: a file with an expression that is not one of `KNOWN`, or with a part that is unknown here, is not
``plain``, and runs in a process of its own (`ternac.bounded`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ternac import limits
from ternac.errors import UsageError
from ternac.files import parse_json

ESCAPE = "\u241b"
"""The first of the three characters that stand for a rare byte in tokenizers of `ternac.text.training`; no
byte's own character."""
_SPACE, _LINE = "\u0120", "\u010a"  # how byte-level alphabets write them
WORDS = (
    f"{ESCAPE}..|'(?:s|t|re|ve|m|ll|d)|{_SPACE}?[A-Za-z]+|{_SPACE}?[0-9]+"
    f"|{_SPACE}?[^A-Za-z0-9{_SPACE}{_LINE}{ESCAPE}]+|[{_SPACE}{_LINE}]"
)
"""No merge crosses these words. White space goes before a word or stands alone, so that where a text is cut
into pieces changes no token."""
KNOWN = frozenset(
    {
        WORDS,
        # GPT-2; Llama 3; Qwen 2; cl100k: each match ends after one look at the text.
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    }
)
"""Expressions that are known to take time linear in the text."""
GROWTH = {
    "ByteLevel": 4,
    "Lowercase": 3,
    "NFC": 3,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "BertNormalizer": 12,
}
"""Most characters that a step makes of one. NFKD: U+FDFA; the last: spaces, NFD."""
WORD_CHARACTERS = 1000
"""Longest word of a WordPiece whose time, quadratic in it, does not matter."""

_SAME = frozenset({"Strip", "StripAccents", "Nmt", "Fuse", "ByteFallback", "Metaspace", "CTC", "WordPiece"})
_SPLITS = frozenset(
    {
        "BertPreTokenizer",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "FixedLength",
        "Metaspace",
        "Punctuation",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
    }
)
_MODELS = frozenset({"BPE", "Unigram", "WordLevel", "WordPiece"})


@dataclass(frozen=True)
class Inspected:
    """``plain``: every part is known to take linear time. ``ids``: the highest number of a token, plus one.
    ``growth``: most characters that encoding or decoding makes of one.
    """

    plain: bool
    ids: int
    growth: int


def inspect(json: bytes, source: str) -> Inspected:
    """Look at a ``tokenizer.json``, called ``source`` in errors.

    Raises UsageError if it is none, OverBudget if it may make more of a text than `ternac.limits` allows.
    """
    if len(json) > limits.MAX_TOKENIZER:
        raise UsageError(f"{source} has {len(json):,} bytes, the limit is {limits.MAX_TOKENIZER:,}")
    try:
        data = parse_json(json.decode(), unique=True)
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")
        model, parts = data.get("model"), _Parts()
        if not isinstance(model, dict):
            raise ValueError("it has no model")
        tokens = dict(_tokens(data, model))
        normalizers = list(parts.steps(data.get("normalizer"), "normalizers"))
        decoders = list(parts.steps(data.get("decoder"), "decoders"))
        splits = list(parts.steps(data.get("pre_tokenizer"), "pretokenizers"))
        limits.TOKENIZER_STEPS.require(len(normalizers) + len(decoders) + len(splits), source)
        encoding, decoding = (_Growth(steps, parts).most for steps in (normalizers, decoders))
        parts.splits(splits)
        parts.model(model)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UsageError(
            f"{source} is not a tokenizer: {str(error)[:200]}",
            "give a tokenizer.json of the Hugging Face tokenizers package",
        ) from None
    limits.TOKENIZER_GROWTH.require(max(encoding, decoding), source)
    longest = max(map(len, tokens), default=0)
    limits.TOKENIZER_TEXT.require(longest * decoding, source)
    ids = 1 + max(tokens.values(), default=-1)
    limits.TOKENIZER_IDS.require(ids, source)
    return Inspected(parts.plain, ids, max(encoding, decoding))


def _tokens(data: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield tokens and their numbers; raises ValueError if one is neither."""
    vocab = model.get("vocab", {})
    if isinstance(vocab, dict):
        yield from ((text, _number(number)) for text, number in vocab.items())
    else:  # of Unigram: pairs of token and score
        yield from ((_text(entry[0]), number) for number, entry in enumerate(vocab))
    for entry in data.get("added_tokens") or ():
        yield _text(entry["content"]), _number(entry["id"])


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise ValueError(f"{str(value)[:40]!r} is no number of a token")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value


@dataclass
class _Parts:
    """Finds whether all parts of a tokenizer are ``plain``."""

    plain: bool = True

    def steps(self, part: Any, children: str) -> Iterator[Mapping[str, Any]]:
        """Yield the steps of a part, those of sequences in their place."""
        if part is None:
            return
        if part["type"] == "Sequence":
            for child in part[children]:
                yield from self.steps(child, children)
        else:
            yield part

    def pattern(self, part: Mapping[str, Any]) -> str:
        """Return the text that a part looks for; "" if it is an expression or may match nothing."""
        pattern = part["pattern"]
        if "String" in pattern:
            return _text(pattern["String"])
        self.plain &= pattern["Regex"] in KNOWN
        return ""

    def splits(self, parts: list[Mapping[str, Any]]) -> None:
        for part in parts:
            if part["type"] == "Split":
                self.pattern(part)
            else:
                self.plain &= part["type"] in _SPLITS

    def model(self, model: Mapping[str, Any]) -> None:
        kind = model.get("type")
        words = model.get("max_input_chars_per_word", 0)
        self.plain &= kind in _MODELS and not (kind == "WordPiece" and _number(words) > WORD_CHARACTERS)


@dataclass
class _Growth:
    """Most characters that ``steps`` make of one: ``most``, also of those that they put in front of a text.

    From the last step to the first, ``of`` holds for some characters how many come of them from here on,
    ``other`` for all others.
    """

    steps: list[Mapping[str, Any]]
    parts: _Parts
    of: dict[str, int] = field(default_factory=dict)
    other: int = 1
    front: int = 0

    @property
    def most(self) -> int:
        self.of, self.other, self.front = {}, 1, 0
        for step in reversed(self.steps):
            self._before(step)
        return max(self._any, self.front)

    @property
    def _any(self) -> int:
        return max(self.other, *self.of.values(), 0)

    def _made(self, text: str) -> int:
        return sum(self.of.get(character, self.other) for character in text)

    def _before(self, step: Mapping[str, Any]) -> None:
        kind = step["type"]
        if kind == "Replace":
            pattern, made = self.parts.pattern(step), self._made(_text(step["content"]))
            if not pattern:  # it may match before every character
                self.of = {character: count + made for character, count in self.of.items()}
                self.other, self.front = self.other + made, self.front + made
            elif len(pattern) == 1:
                self.of[pattern] = made
            else:  # laid on the first character, where the others stay as well
                self.of[pattern[0]] = max(self._made(pattern[0]), made)
        elif kind == "Prepend":
            self.front += self._made(_text(step["prepend"]))
        elif kind == "BPEDecoder":
            pass  # a suffix becomes a space
        elif kind in _SAME:
            self.other, self.of = self._any + (kind in ("Metaspace", "WordPiece")), {}
        elif kind in GROWTH:
            self.other, self.of = GROWTH[kind] * self._any, {}
        else:
            self.parts.plain = False
