"""Tokens that begin and end a text: one way to write them, refused where they are outside the vocabulary."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.errors import BadProgramFile, IllegalProgram, ProgramError
from ternac.program.file import dumps, loads
from ternac.program.legality import check
from ternac.program.random import random_program
from ternac.program.special import SpecialTokens
from tests.program.test_file import put_together, take_apart

BASE = random_program(np.random.default_rng(5), d=5, m=7, layers=1, vocab=6)


def of(entry: Any) -> dict[str, Any]:
    return {"special_tokens": entry}


@given(st.none() | st.integers(0, 5), st.lists(st.integers(0, 5), max_size=6, unique=True), st.booleans())
def test_they_are_read_as_they_are_written(bos: int | None, eos: list[int], add: bool) -> None:
    special = SpecialTokens.of(bos, eos, add_bos=add and bos is not None)
    program = dataclasses.replace(BASE, meta={"a": 1, **special.meta})
    again = loads(dumps(program))
    assert again.special == special
    assert again.special.eos == tuple(sorted(eos))
    assert ("special_tokens" in again.meta) == (bos is not None or bool(eos))


def test_a_program_without_them_has_none() -> None:
    assert (BASE.special, BASE.special.meta) == (SpecialTokens(), {})


BAD = {
    "no object": ([], "not an object of add_bos, bos and eos"),
    "a key is missing": ({"bos": 1, "eos": [2]}, "not an object of"),
    "a key too many": ({"add_bos": False, "bos": 1, "eos": [2], "pad": 0}, "not an object of"),
    "bos outside": ({"add_bos": False, "bos": 6, "eos": []}, r"token 6 is outside 0\.\.5"),
    "bos negative": ({"add_bos": False, "bos": -1, "eos": []}, "token -1 is outside"),
    "bos true": ({"add_bos": False, "bos": True, "eos": []}, "token True is outside"),
    "eos outside": ({"add_bos": False, "bos": None, "eos": [2, 50256]}, r"token 50256 is outside 0\.\.5"),
    "eos no list": ({"add_bos": False, "bos": None, "eos": 2}, "eos is not a list of at most 64"),
    "eos fraction": ({"add_bos": False, "bos": None, "eos": [2.0]}, "token 2.0 is outside"),
    "eos twice": ({"add_bos": False, "bos": None, "eos": [2, 2]}, "eos is not ascending"),
    "eos descending": ({"add_bos": False, "bos": None, "eos": [3, 2]}, "eos is not ascending"),
    "nothing": ({"add_bos": False, "bos": None, "eos": []}, "or there is no token"),
    "add_bos of none": ({"add_bos": True, "bos": None, "eos": [2]}, "add_bos is True, bos None"),
    "add_bos a number": ({"add_bos": 1, "bos": 1, "eos": [2]}, "add_bos is 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_others_are_refused_with_the_reason(case: str) -> None:
    entry, reason = BAD[case]
    program = dataclasses.replace(BASE, meta=of(entry))
    with pytest.raises(IllegalProgram, match=reason):
        check(program)
    header, text, body = take_apart(dumps(BASE))
    with pytest.raises(ProgramError, match=reason) as caught:
        loads(put_together(header, {**text, "meta": of(entry)}, body))
    assert not isinstance(caught.value, BadProgramFile)


def test_where_a_text_begins() -> None:
    special = SpecialTokens.of(1, [2], add_bos=True)
    assert special.begin([3, 4]) == special.begin([1, 3, 4]) == [1, 3, 4]
    assert special.begin([]) == [1]
    assert SpecialTokens.of(1, [2]).begin([3]) == [3]
