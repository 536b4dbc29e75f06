"""Tests of `toy.py`, for the tests of the mutation runner."""

from tests.mutants.toy import Box, clamp, count


def test_clamp() -> None:
    assert [clamp(x) for x in (-1, 2, 3, 4)] == [-1, 2, 3, 3]


def test_count() -> None:
    assert [count(x) for x in (0, 1, 4)] == [0, 1, 4]


def test_box() -> None:
    assert Box(5).double == 10
