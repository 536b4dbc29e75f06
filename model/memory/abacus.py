"""Abacus: sums of two numbers, digit by digit, in rows that a counter of places addresses.

A text is "a + b = s ." with the digits of each number from the lowest to the highest. The counter says which
place a digit has: every digit adds 1, "+" and "=" make it 0. A row is what was said about a place; a token
reads the row of its place, replaces it, and reads that of the next place. So what is learnt about one place
holds for all, and numbers may be longer than those of training.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from ternac.model.memory.system import Case, Curves, Figure, Found, System, share_whole
from ternac.program.program import Program

PLUS, EQUALS, END = 10, 11, 12
VOCAB = 13
PLACE_BITS = 7
"""Rows: 128 places, more than 101 digits and the signs need."""
WIDTH, ROW, INNER = 64, 32, 64
BATCH, STEPS, LONGEST = 48, 700, 6
"""Of training: sums a batch, batches, digits of the longest number."""
CASES = 200
DIGITS = (20, 50, 100)
"""Of both numbers."""
INCREASES = [1] * 10 + [0] * 3
KEEPS = [1] * 10 + [0] * 3
"""For each token: the counter becomes (counter + increase) * keep."""


def number(digits: int, rng: random.Random) -> int:
    """Return a number of so many digits, the first of them not 0."""
    return rng.randrange(10 ** (digits - 1), 10**digits)


def digits_of(value: int) -> list[int]:
    """Return the digits from the lowest to the highest."""
    return [int(digit) for digit in reversed(str(value))]


def text(a: int, b: int) -> tuple[list[int], list[int]]:
    """Return the tokens of "a + b = s .", and the positions behind which s and the end stand."""
    tokens = [*digits_of(a), PLUS, *digits_of(b), EQUALS]
    first = len(tokens) - 1
    tokens += [*digits_of(a + b), END]
    return tokens, list(range(first, len(tokens) - 1))


class Abacus(System):
    """Long sums, see the module."""

    name = "abacus"
    title = "sums of 100 digits after training on at most 6, in rows addressed by a counter"
    parts = ("abacus",)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """Sums of two numbers of 20, 50 and 100 digits; of 100 and fewer; and with a carry through 100."""
        rng = random.Random(11)
        pairs = [
            (f"{digits} digits", number(digits, rng), number(digits, rng))
            for digits in DIGITS
            for _ in range(CASES)
        ]
        pairs += [
            ("100 and fewer digits", number(100, rng), number(rng.randint(1, 99), rng))
            for _ in range(CASES // 4)
        ]
        for _ in range(CASES // 4):
            a = number(100, rng)
            pairs.append(("a carry through 100 digits", a, 10**100 - a))
        return [Case.of(*text(a, b), group) for group, a, b in pairs]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        results, program = found["abacus"], programs["abacus"]
        return [
            Figure("sums of 20 digits, exact", share_whole(results, "20 digits"), 0.99),
            Figure("sums of 50 digits, exact", share_whole(results, "50 digits")),
            Figure("sums of 100 digits, exact", share_whole(results, "100 digits"), 0.99),
            *(
                Figure(f"{group}, exact", share_whole(results, group))
                for group in ("100 and fewer digits", "a carry through 100 digits")
            ),
            Figure("bytes of rows a session", sum(2 * memory.words for memory in program.memories.values())),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Exact sums by the digits of the numbers; digits of the longest sums that are right, by place."""
        results, longest = found["abacus"], f"{DIGITS[-1]} digits"
        exact = [share_whole(results, f"{digits} digits") for digits in DIGITS]
        right = [one.right[: DIGITS[-1]] for one in results if one.case.groups[0] == longest]
        places = np.mean(right, 0).tolist() if right else []
        return [
            Curves("digits of both numbers", "share of sums exact", {"exact": (DIGITS, exact)}),
            Curves("place", "share of digits right", {longest: (range(1, len(places) + 1), places)}),
        ]


SYSTEM = Abacus()
