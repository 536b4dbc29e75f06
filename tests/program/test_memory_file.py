"""Program files of version 2: memories and loops survive, and nothing that was tampered with gets through."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import BadProgramFile, IllegalProgram, ProgramError
from ternac.program.file import dumps, loads
from ternac.program.ops import Memory, Op
from ternac.program.random_memory import random_memory_program
from tests.program.memory_toy import loop_program, memory_program, with_op
from tests.program.test_file import BASE as PLAIN
from tests.program.test_file import Header, put_together, same, seal, take_apart

BASE = loop_program(levels=1)
GOOD = dumps(BASE)


def version(data: bytes) -> str:
    header, _, _ = take_apart(data)
    return str(header["__metadata__"]["version"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_round_trip_is_canonical(seed: int) -> None:
    program = random_memory_program(np.random.default_rng(seed))
    data = dumps(program)
    again = loads(data)
    assert same(program, again)
    assert list(again.memories.items()) == list(program.memories.items())
    assert dumps(again) == data
    assert (again.hash, again.file_hash) == (program.hash, program.file_hash)


def test_only_programs_that_need_it_have_version_2() -> None:
    plain = dumps(PLAIN)
    assert (version(plain), version(GOOD)) == ("1", "2")
    assert b"memories" not in plain
    other = Op("SUB", "none", (PLAIN.logits, PLAIN.logits), {"dtype": "i16"})
    assert version(dumps(dataclasses.replace(PLAIN, ops=(*PLAIN.ops, other)))) == "2"


def test_the_identity_covers_memories_and_loops() -> None:
    memory = memory_program()
    programs = [
        memory,
        dataclasses.replace(memory, memories={"M": Memory(16, 6, "i16")}),
        with_op(memory, "write", attrs={"keep": 1}),
        BASE,
        loop_program(levels=1, times=3),
        *(loop_program(times=times, most=most) for times, most in ((2, 4), (1, 4), (2, 5))),
        with_op(loop_program(), "again", ins=()),
    ]
    assert len({program.hash for program in programs}) == len(programs)
    assert dataclasses.replace(memory, name="other").hash == memory.hash
    two = Op("MEM_READ", "more", ("w",), {"rows": "N", "bits": 2, "shared": 0})
    orders = [
        {"M": memory.memories["M"], "N": Memory(16, 6, "i8")},
        {"N": Memory(16, 6, "i8"), "M": memory.memories["M"]},
    ]
    first, second = (
        dataclasses.replace(memory, ops=(*memory.ops, two), memories=memories) for memories in orders
    )
    assert first.hash != second.hash
    assert list(loads(dumps(second)).memories) == ["N", "M"]


def test_any_truncation_is_refused() -> None:
    for size in range(0, len(GOOD), 3):
        with pytest.raises(BadProgramFile):
            loads(GOOD[:size])


def test_any_flipped_bit_is_refused() -> None:
    places = np.random.default_rng(0).choice(len(GOOD) * 8, 2000, replace=False)
    for bit in places:
        data = bytearray(GOOD)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            loads(bytes(data))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 1 << 32))
def test_resealed_mutations_are_refused_or_mean_the_same_file(seed: int) -> None:
    """A random byte of the header replaced, the hash made good: typed error, or a legal canonical program."""
    rng = np.random.default_rng(seed)
    size = int.from_bytes(GOOD[:8], "little")
    text = bytearray(GOOD[8 : 8 + size].replace(BASE.file_hash.encode(), b"0" * 64))
    text[rng.integers(0, size)] = rng.integers(32, 127)
    data = seal(bytes(text), GOOD[8 + size :])
    try:
        program = loads(data)
    except ProgramError:
        return
    assert dumps(program) == data


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 32))
def test_resealed_changes_of_values_are_refused_or_legal(seed: int) -> None:
    """Any value of the description replaced by another of any type: typed error, or a legal program."""
    rng = np.random.default_rng(seed)
    header, program, body = take_apart(GOOD)
    others = [0, 1, 2, -1, 7, 1 << 40, "M", "h", "next", "", None, True, 1.5, [], ["M"], {}, {"a": 1}]
    at: Any = program
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.1:
            at[key] = others[rng.integers(len(others))]
            break
        at = at[key]
    try:
        found = loads(put_together(header, program, body))
    except ProgramError:
        return
    assert loads(dumps(found)).file_hash == found.file_hash


def field(key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: program.__setitem__(key, value)


def about(key: str, value: Any) -> Callable[[Header, Header], None]:
    return lambda header, program: header["__metadata__"].__setitem__(key, value)


BAD = {
    "version 1 with memories": (about("version", "1"), "program: unknown field 'memories'"),
    "version 1 with loops": (
        lambda h, p: about("version", "1")(h, p) or (p.pop("memories") and None),
        "memory or constant 'M' does not exist",
    ),
    "version 2 without memories": (lambda h, p: p.pop("memories") and None, "field memories is missing"),
    "memories": (field("memories", {}), "memories: not a list"),
    "many memories": (field("memories", [0] * 4097), "memories: 4097 items, limit 4096"),
    "memory": (field("memories", ["M"]), r"memories: an entry is not \[name, rows, width, dtype\]"),
    "memory rows": (field("memories", [["M", "16", 8, "i16"]]), "memories: an entry is not"),
    "memory flag": (field("memories", [["M", True, 8, "i16"]]), "memories: an entry is not"),
    "memory twice": (field("memories", [["M", 16, 8, "i16"]] * 2), "memories: 'M' stands twice"),
    "memory dtype": (field("memories", [["M", 16, 8, "i4"]]), "memory M: dtype is 'i4'"),
    "huge memory": (field("memories", [["M", 1 << 60, 8, "i16"]]), "memory M: rows is 1152921504606846976"),
    "memory another": (field("memories", [["M", 32, 8, "i16"]]), "M has 16 rows, the address reaches 8"),
}


@pytest.mark.parametrize("case", BAD)
def test_sealed_nonsense_is_refused_with_the_reason(case: str) -> None:
    change, reason = BAD[case]
    header, program, body = take_apart(GOOD)
    change(header, program)
    with pytest.raises(ProgramError, match=reason):
        loads(put_together(header, program, body))


def test_a_file_has_the_version_that_its_program_needs() -> None:
    header, program, body = take_apart(dumps(PLAIN))
    header["__metadata__"]["version"] = "2"
    with pytest.raises(BadProgramFile, match="not canonical"):
        loads(put_together(header, program | {"memories": []}, body))
    header, program, body = take_apart(dumps(with_op(loop_program(), "again", attrs={"times": 1, "most": 1})))
    assert json.dumps(program["memories"]) == '[["M", 8, 8, "i16"]]'
    program["ops"][10]["in"] = ["r"]
    with pytest.raises(IllegalProgram, match="needs pairs"):
        loads(put_together(header, program, body))
    other = Op("SUB", "none", (PLAIN.logits, PLAIN.logits), {"dtype": "i16"})
    header, program, body = take_apart(dumps(dataclasses.replace(PLAIN, ops=(*PLAIN.ops, other))))
    assert program.pop("memories") == []
    header["__metadata__"]["version"] = "1"
    with pytest.raises(BadProgramFile, match="not canonical"):
        loads(put_together(header, program, body))
