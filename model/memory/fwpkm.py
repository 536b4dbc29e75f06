"""FwPKM: numbers in a long text, asked for at its end, by a model that was trained to note and to read them.

A document is text of words, names and numbers. Five times it says "KEY a b IS d d d d d d": six digits
under two names. At the end the same five are asked for, "KEY a b IS", and the model says digit by digit what
it was told; a needle is found if all six are right. Rows of the memory are written with every token of the
document, whether it matters or not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.model.memory.system import Case, Curves, Figure, Found, System, share_right
from ternac.program.program import Program

DIGITS, KEY, IS = 10, 10, 11
FIRST_NAME, NAMES = 12, 32
FIRST_WORD, WORDS = FIRST_NAME + NAMES, 212
VOCAB = FIRST_WORD + WORDS
NEEDLES, LENGTH = 5, 6
"""Needles of a document, digits of a needle."""
NUMBER = 3
"""Digits of the numbers in the text around them, at most."""
TOLD = 4 + LENGTH
"""Tokens of a needle."""


@dataclass(frozen=True)
class Setting:
    """Documents of so many tokens, read so many times, and a memory of heads x slots x slots rows."""

    documents: int
    tokens: int
    passes: int
    heads: int
    slots: int
    bar: float

    @property
    def rows(self) -> int:
        """Return the rows of the memory."""
        return self.heads * self.slots * self.slots

    @property
    def words(self) -> str:
        """Return the setting in words."""
        rows = self.rows / self.tokens
        return f"{self.tokens:,} tokens, pass {self.passes}, {rows:g} row{'s' * (rows != 1)} a token"


SETTINGS = {
    "once": Setting(500, 4096, 1, 8, 32, 0.95),
    "twice": Setting(500, 4096, 2, 16, 16, 0.95),
    "long": Setting(20, 131072, 2, 8, 128, 0.90),
}
DEPTHS = 8
"""Parts of a document, from its beginning to its end, that the curves tell apart."""
_WORD_ODDS = np.cumsum(1.0 / np.arange(1, WORDS + 1)).tolist()


def needle(rng: random.Random, names: set[tuple[int, int]]) -> list[int]:
    """Return "KEY a b IS d d d d d d" with a pair of names that is not in ``names`` yet, and add it."""
    while True:
        pair = rng.randrange(NAMES), rng.randrange(NAMES)
        if pair not in names:
            break
    names.add(pair)
    digits = [rng.randrange(DIGITS) for _ in range(LENGTH)]
    return [KEY, *(FIRST_NAME + name for name in pair), IS, *digits]


def filler(length: int, rng: random.Random) -> list[int]:
    """Return text without a needle: words, the first the most frequent, names, and numbers up to 999."""
    words = iter(rng.choices(range(FIRST_WORD, VOCAB), cum_weights=_WORD_ODDS, k=length))
    tokens: list[int] = []
    while len(tokens) < length:
        kind = rng.random()
        if kind < 0.02:
            tokens += [rng.randrange(DIGITS) for _ in range(rng.randint(1, NUMBER))]
        elif kind < 0.06:
            tokens.append(FIRST_NAME + rng.randrange(NAMES))
        else:
            tokens.append(next(words))
    return tokens[:length]


def document(length: int, needles: int, rng: random.Random) -> tuple[list[int], list[list[int]], list[int]]:
    """Return a text of ``length`` tokens, its needles in their order, and where each begins."""
    names: set[tuple[int, int]] = set()
    told = [needle(rng, names) for _ in range(needles)]
    cuts = sorted(rng.randint(0, length - needles * TOLD) for _ in told)
    text = filler(length - needles * TOLD, rng)
    tokens: list[int] = []
    begins = []
    last = 0
    for cut, each in zip(cuts, told, strict=True):
        tokens += text[last:cut]
        begins.append(len(tokens))
        tokens += each
        last = cut
    return tokens + text[last:], told, begins


def case(setting: Setting, rng: random.Random) -> Case:
    """Return a document, read as often as ``setting`` says, and then asked; groups are depths."""
    text, told, begins = document(setting.tokens, NEEDLES, rng)
    tokens = text * setting.passes
    asked: list[int] = []
    groups: list[str] = []
    for at in rng.sample(range(NEEDLES), NEEDLES):
        asked += [len(tokens) + TOLD - LENGTH - 1 + digit for digit in range(LENGTH)]
        groups += [str(begins[at] * DEPTHS // setting.tokens)] * LENGTH
        tokens += told[at]
    return Case.of(tokens, asked, groups)


def needles_found(one: Found) -> npt.NDArray[np.bool_]:
    """Return for each question whether all digits of its answer are right, bool [NEEDLES]."""
    return np.all(one.right.reshape(-1, LENGTH), axis=-1)


class Needles(System):
    """Numbers in a long text, see the module."""

    name = "fwpkm"
    title = "numbers told once in a long text are found at its end"
    parts = tuple(SETTINGS)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        rng = random.Random(list(SETTINGS).index(part))
        return [case(SETTINGS[part], rng) for _ in range(SETTINGS[part].documents)]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        result = []
        for part, setting in SETTINGS.items():
            share = float(np.mean([needles_found(one) for one in found[part]]))
            result.append(Figure(f"needles found, {setting.words}", share, setting.bar))
            result.append(Figure(f"digits right, {setting.words}", share_right(found[part])))
        return result

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Needles found by where in the document they were told."""
        lines = {}
        for part, setting in SETTINGS.items():
            met: dict[int, list[bool]] = {}
            for one in found[part]:
                for depth, right in zip(one.case.groups[::LENGTH], needles_found(one), strict=True):
                    met.setdefault(int(depth), []).append(bool(right))
            lines[setting.words] = (
                [100.0 * (depth + 0.5) / DEPTHS for depth in sorted(met)],
                [float(np.mean(met[depth])) for depth in sorted(met)],
            )
        return [Curves("where in the document the needle is, percent", "share of needles found", lines)]


SYSTEM = Needles()
