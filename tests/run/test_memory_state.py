"""Rows in the state of a session: opened, changed where they lie, saved and restored, also many of them."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import SnapshotError, UsageError
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.snapshot import Snapshot
from tests.program.memory_toy import memory_program

HEADER = 58
"""Bytes before the words of a snapshot."""


def large_program(kib: int) -> Program:
    """``kib``, a power of two from 64, of rows of 32 i8: 8 or 16 heads, two digits, written and read."""
    rows = kib * 1024 // 32
    heads = 8 if rows.bit_length() % 2 == 0 else 16
    bits = (rows // heads).bit_length() // 2
    ops = (
        Op("GATHER16", "a", (), {"embed": "A"}),
        Op("GATHER16", "b", (), {"embed": "B"}),
        Op("GATHER", "v", (), {"embed": "V", "shift": 8}),
        Op("MEM_READ", "o.acc", ("a", "b"), {"rows": "M", "bits": bits, "shared": 0}),
        Op("REQUANT", "o", ("o.acc",), {"shift": heads.bit_length() - 1, "dtype": "i16"}),
        Op("SUB", "e", ("o", "v"), {"dtype": "i8"}),
        Op("MEM_UPDATE", "write", ("a", "b", "e"), {"memory": "M", "bits": bits, "keep": 0}),
        Op("ADD", "logits", ("o", "v"), {"dtype": "i16"}),
    )
    rng = np.random.default_rng(0)
    consts: dict[str, Any] = {
        name: rng.integers(-32768, 32768, (32, heads)).astype(np.int16) for name in "AB"
    }
    consts["V"] = rng.integers(-127, 128, (32, 32)).astype(np.int8)
    return Program("large", 32, ops, consts, {}, "logits", 4, memories={"M": Memory(rows, 32, "i8")})


def test_rows_are_views_of_the_state() -> None:
    """i8 elements two to a word, the even one in the low byte, behind the states."""
    program = memory_program()
    executor = NumpyExecutor(program)
    state = executor.open(2)
    assert state.shape == (2, 10 + 16 * 3)
    rows = executor.state_dict(state)["M"]
    assert (rows.shape, rows.dtype) == ((2, 16, 6), np.int8)
    rows[1, 2, :2] = (-3, 5)
    assert state[1, 10 + 2 * 3] == 5 * 256 + 253
    assert not state[0].any()


def test_a_session_does_not_depend_on_its_neighbours() -> None:
    program = memory_program()
    executor, tokens = NumpyExecutor(program), np.random.default_rng(1).integers(0, 7, (9, 5))
    together, alone, fed = executor.open(5), executor.open(1), executor.open(3)
    for row in tokens:
        logits = executor.step(together, row)
        assert np.array_equal(executor.step(alone, row[2:3])[0], logits[2])
    executor.feed(fed, tokens[:, 2], [1] * 9)
    assert np.array_equal(together[2], alone[0])
    assert np.array_equal(fed[1], alone[0])
    assert not fed[[0, 2]].any()


def test_words_that_do_not_lie_side_by_side_are_refused() -> None:
    executor = NumpyExecutor(memory_program())
    state = executor.open(2)
    for bad in (np.asfortranarray(state), np.repeat(state, 2, axis=1)[:, ::2]):
        with pytest.raises(UsageError, match="the words of a state are 4 bytes apart, needs 2"):
            executor.step(bad, [1, 2])
        assert not bad.any()
    every_other = executor.open(4)
    executor.step(every_other[::2], [1, 2])
    assert every_other[0].any() and not every_other[1::2].any()


@pytest.mark.parametrize("kib", [1024, 8192])
def test_a_step_neither_copies_nor_touches_a_large_memory(kib: int) -> None:
    """What a token needs beside the state is a matter of its own vectors, not of the memory's size."""
    program = large_program(kib)
    assert 2 * program.state_words == kib * 1024
    executor = NumpyExecutor(program)
    state = executor.open(1)
    executor.step(state, [0])
    tracemalloc.start()
    for token in range(32):
        executor.step(state, [token])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert 0 < np.count_nonzero(executor.state_dict(state)["M"].any(axis=2)) <= 32 * 16


def test_large_memories_open_save_and_restore_fast() -> None:
    """8 MiB: a fresh session and one with 32 tokens, each within a second, in a small snapshot."""
    program = large_program(8192)
    executor = NumpyExecutor(program)
    began = time.process_time()
    state = executor.open(1)
    fresh = Snapshot(state[0], 1, None, 0).to_bytes(program)
    for token in range(32):
        executor.step(state, [token])
    data = Snapshot(state[0], 1, None, 32).to_bytes(program)
    found = Snapshot.from_bytes(data, program)
    assert time.process_time() - began < 1
    assert np.array_equal(found.state, state[0])
    rows = program.memories["M"].rows
    assert len(fresh) == HEADER + rows // 8 + 4
    assert len(data) == len(fresh) + 32 * int(np.count_nonzero(executor.state_dict(state)["M"].any(axis=2)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32))
def test_snapshots_of_random_programs_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_memory_program(rng)
    executor = NumpyExecutor(program)
    state = executor.open(1)
    for _ in range(int(rng.integers(0, 6))):
        executor.step(state, rng.integers(0, program.vocab, 1))
    data = Snapshot(state[0], 7, 1, 3).to_bytes(program)
    found = Snapshot.from_bytes(data, program)
    assert (found.rng, found.pending, found.fed) == (7, 1, 3)
    assert np.array_equal(found.state, state[0])
    assert found.to_bytes(program) == data
    assert data[4] == (3 if program.memories else 2)


def test_snapshots_are_written_as_the_page_says() -> None:
    """States, then a bit a row with the lowest first, then the rows that are not zero."""
    program = memory_program()
    state = np.zeros(program.state_words, np.int16)
    state[:10] = np.arange(10)
    state[10 + 3 * 9 : 10 + 3 * 10] = (1, 0, 2)
    state[10 : 10 + 3] = (0, 0, -1)
    data = Snapshot(state, 1, None, 0).to_bytes(program)
    words = [*range(10), 1 << 0 | 1 << 9, 0, 0, -1, 1, 0, 2]
    assert data[HEADER:-4] == np.array(words, "<i2").tobytes()
    assert data[54:58] == len(words).to_bytes(4, "little")


def reseal(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def test_sealed_nonsense_is_refused() -> None:
    """Rows without a bit, bits without a row, zero rows that travel, words too many or too few."""
    program = memory_program()
    odd = Program(
        program.name, program.vocab, program.ops, program.consts, program.states, "logits", 4,
        memories={"M": program.memories["M"]},
    )  # fmt: skip
    head = Snapshot(np.zeros(58, np.int16), 1, None, 0).to_bytes(odd)[:54]

    def sealed(*words: int) -> bytes:
        body = np.array(words, np.uint16).astype("<u2").tobytes()
        return reseal(head + len(words).to_bytes(4, "little") + body)

    states = [0] * 10
    assert not Snapshot.from_bytes(sealed(*states, 0), odd).state.any()
    assert Snapshot.from_bytes(sealed(*states, 2, 1, 2, 3), odd).state[10:16].tolist() == [0, 0, 0, 1, 2, 3]
    for bad in (
        sealed(*states),
        sealed(*states[:4]),
        sealed(),
        sealed(*states, 0, 0),
        sealed(*states, 0, 1, 2, 3),
        sealed(*states, 3, 1, 2, 3),
        sealed(*states, 2, 1, 2),
        sealed(*states, 2, 0, 0, 0),
        sealed(*states, *[0] * 48),
    ):
        with pytest.raises(SnapshotError, match="contradicts itself"):
            Snapshot.from_bytes(bad, odd)


def test_bits_behind_the_last_row_are_zero() -> None:
    program = memory_program()
    wide = Memory(4, 6, "i8")
    ops = tuple(
        Op(op.kind, op.out, op.ins, {**op.attrs, "bits": 1}) if "bits" in op.attrs else op
        for op in program.ops
    )
    consts = {**program.consts, "Wa": np.zeros((4, 8), np.int8)}
    ops = tuple(Op(op.kind, op.out, op.ins, {"groups": 2}) if op.kind == "WINNERS" else op for op in ops)
    small = Program("small", 7, ops, consts, {"s.o": 6, "s.w": 2}, "logits", 4, memories={"M": wide})
    data = Snapshot(np.zeros(small.state_words, np.int16), 1, None, 0).to_bytes(small)
    assert Snapshot.from_bytes(data, small).fed == 0
    bad = bytearray(data[:-4])
    bad[HEADER + 2 * 8] |= 1 << 4
    with pytest.raises(SnapshotError, match="contradicts itself"):
        Snapshot.from_bytes(reseal(bytes(bad)), small)


def test_any_flipped_bit_of_a_snapshot_is_refused() -> None:
    program = memory_program()
    executor = NumpyExecutor(program)
    state = executor.open(1)
    executor.feed(state, [1, 2, 3], [0, 0, 0])
    data = Snapshot(state[0], 1, None, 3).to_bytes(program)
    for bit in range(len(data) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotError):
            Snapshot.from_bytes(bytes(bad), program)
