"""What the tests of the mutation runner mutate: some of it is tested by `toy_tests.py`, some is not."""

from __future__ import annotations

LIMIT = 3
UNUSED = 7


def clamp(x: int) -> int:
    """Limit ``x``."""
    return min(x, LIMIT)


def count(x: int) -> int:
    """Count down."""
    steps = 0
    while x > 0:
        x -= 1
        steps += 1
    return steps


def untested(x: int) -> int:
    """Run by no test."""
    return x + 1


class Box:
    """Holds a value."""

    def __init__(self, x: int) -> None:
        self.x = x

    @property
    def double(self) -> int:
        """Twice the value."""
        return self.x * 2
