"""The identity: what is computed counts, how it is named and described does not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.program import zoo
from ternac.program.file import dumps, load, loads
from ternac.program.ops import Memory
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from tests.program.memory_toy import loop_program, memory_program

BASE = dataclasses.replace(
    random_program(np.random.default_rng(5), d=5, m=7, layers=2, vocab=6),
    meta={"tokenizer": "huggingface", "corpus": "a"},
    tokenizer=b'{"model": 1}',
)
IMPORTED = random_mmfree(np.random.default_rng(2), d=6, m=9, layers=1, vocab=8)
MEMORY, LOOP = memory_program(), loop_program()


def by_the_page(data: bytes) -> str:
    """The identity of the program in a file as docs/program.md defines it, with nothing of Ternac."""

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    program = json.loads(header["__metadata__"]["program"])
    meta = {k: v for k, v in program["meta"].items() if k in ("special_tokens", "tokenizer")}
    header["__metadata__"]["program"] = text(program | {"name": "", "meta": meta})
    header["__metadata__"]["sha256"] = "0" * 64
    made = text(header).encode()
    made += b" " * (-len(made) % 8)
    return hashlib.sha256(len(made).to_bytes(8, "little") + made + data[8 + size :]).hexdigest()


@pytest.mark.parametrize("program", [BASE, IMPORTED, MEMORY, LOOP, *map(load, map(zoo.resolve, zoo.names()))])
def test_the_page_alone_gives_the_identity(program: Program) -> None:
    assert program.hash == by_the_page(dumps(program)) == loads(dumps(program)).hash


def test_a_new_name_or_card_keeps_the_identity_and_changes_the_file() -> None:
    for same in (
        dataclasses.replace(BASE, name="renamed"),
        dataclasses.replace(BASE, meta={**BASE.meta, "corpus": "b"}),
        dataclasses.replace(BASE, meta={**BASE.meta, "card": {"licence": ["MIT"]}}),
        dataclasses.replace(BASE, meta={"tokenizer": "huggingface"}),
    ):
        assert same.hash == BASE.hash
        assert same.file_hash != BASE.file_hash
        assert dumps(same) != dumps(BASE)


@pytest.mark.parametrize("program", [BASE, IMPORTED, MEMORY])
def test_every_constant_is_covered(program: Program) -> None:
    """Trits, embedding, tables, gains and curves: the last element of each counts, for trits each of them."""
    hashes, expected = {program.hash}, 1
    for name, array in program.consts.items():
        places = range(array.size) if program.roles()[name] == "trits" else [array.size - 1]
        for place in places:
            other = array.copy()
            other.flat[place] = 0 if other.flat[place] else 1
            hashes.add(dataclasses.replace(program, consts={**program.consts, name: other}).hash)
            expected += 1
    assert len(hashes) == expected > 100


@pytest.mark.parametrize("program", [BASE, IMPORTED, MEMORY, LOOP])
def test_every_op_attribute_and_input_is_covered(program: Program) -> None:
    hashes, expected = {program.hash}, 1
    for index, op in enumerate(program.ops):
        others = [
            dataclasses.replace(op, attrs={**op.attrs, key: value + 1 if isinstance(value, int) else "i32"})
            for key, value in op.attrs.items()
            if isinstance(value, int) or key == "dtype"
        ]
        if not any(isinstance(value, str) and value in program.consts for value in op.attrs.values()):
            others.append(dataclasses.replace(op, kind="REQUANT" if op.kind != "REQUANT" else "ADD"))
        others.append(dataclasses.replace(op, ins=(*op.ins, "r.e")))
        for other in others:
            ops = (*program.ops[:index], other, *program.ops[index + 1 :])
            hashes.add(dataclasses.replace(program, ops=ops).hash)
            expected += 1
    assert len(hashes) == expected


CHANGES: dict[str, Callable[[Program], Program]] = {
    "vocab": lambda p: dataclasses.replace(p, vocab=p.vocab + 1),
    "logit scale": lambda p: dataclasses.replace(p, logit_scale_bits=p.logit_scale_bits ^ 1),
    "logits": lambda p: dataclasses.replace(p, logits="r.e"),
    "length of a state": lambda p: dataclasses.replace(p, states={k: n + 1 for k, n in p.states.items()}),
    "order of the states": lambda p: dataclasses.replace(p, states=dict(reversed(p.states.items()))),
    "order of the ops": lambda p: dataclasses.replace(p, ops=(p.ops[1], p.ops[0], *p.ops[2:])),
    "bytes of the tokenizer": lambda p: dataclasses.replace(p, tokenizer=p.tokenizer + b" "),
    "kind of tokenizer": lambda p: dataclasses.replace(p, meta={**p.meta, "tokenizer": "bytes"}),
    "no tokenizer": lambda p: dataclasses.replace(p, meta={"corpus": "a"}, tokenizer=b""),
    "special tokens": lambda p: dataclasses.replace(p, meta={**p.meta, "special_tokens": {"eos": [1]}}),
}


def test_what_else_is_computed_is_covered() -> None:
    hashes = {name: change(BASE).hash for name, change in CHANGES.items()}
    assert len({BASE.hash, *hashes.values()}) == 1 + len(CHANGES), hashes


def test_what_a_session_keeps_in_memories_is_covered() -> None:
    (name,), (memory,) = MEMORY.memories, MEMORY.memories.values()
    others = (
        {},
        {"renamed": memory},
        {name: Memory(memory.rows + 1, memory.width, memory.dtype)},
        {name: Memory(memory.rows, memory.width + 2, memory.dtype)},
        {name: Memory(memory.rows, memory.width, "i16")},
        {name: memory, "more": memory},
        {"more": memory, name: memory},
    )
    hashes = {dataclasses.replace(MEMORY, memories=memories).hash for memories in others}
    assert len({MEMORY.hash, *hashes}) == 1 + len(others)
    assert dataclasses.replace(MEMORY, name="renamed", meta={"a": 1}).hash == MEMORY.hash


def test_every_field_of_the_file_counts_but_name_and_meta() -> None:
    """A field that is new here must be decided upon: whatever is not left out is covered."""
    size = int.from_bytes(dumps(MEMORY)[:8], "little")
    description = json.loads(json.loads(dumps(MEMORY)[8 : 8 + size])["__metadata__"]["program"])
    decided = {"name", "meta", "vocab", "logit_scale_bits", "logits", "states", "ops", "trits", "memories"}
    assert set(description) == decided, "docs/program.md: is the new field computed with?"


def test_a_file_never_carries_an_identity_as_its_digest() -> None:
    """Nothing has no name, so the two numbers of a program differ and cannot be mistaken for each other."""
    for program in (BASE, IMPORTED, *map(load, map(zoo.resolve, zoo.names()))):
        assert program.hash != program.file_hash
