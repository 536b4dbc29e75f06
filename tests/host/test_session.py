"""Sessions: generation that can stop anywhere, be saved, moved into another batch, and go on the same."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import SnapshotError, UsageError
from ternac.host.session import Session
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose
from ternac.run.snapshot import Snapshot
from tests.host.boards import numpy_backend

PROGRAM = random_program(np.random.default_rng(11), d=12, m=20, layers=2, vocab=16)
EXECUTOR = NumpyExecutor(PROGRAM)
DRAW = Sampling.from_temperature(1.5, PROGRAM.logit_scale_bits, top_k=9)


def opened(seed: int = 1) -> Session:
    return Session(numpy_backend(PROGRAM), seed)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_generation_in_pieces_is_generation_at_once(pieces: list[int], seed: int) -> None:
    whole = opened(seed)
    want = list(whole.tokens([1, 2, 3], sum(pieces) + 1, DRAW))
    session = opened(seed)
    got = list(session.tokens([1, 2, 3], 1, DRAW))
    for count in pieces:
        got += session.tokens((), count, DRAW)
        saved = session.snapshot()
        session.close()
        session = opened(12345)
        session.restore(saved)
    assert got == want
    assert session.snapshot() == whole.snapshot()


def test_generation_is_step_and_choose() -> None:
    session, rng = opened(3), opened(3).rng
    state, want = EXECUTOR.open(1), []
    logits = [EXECUTOR.step(state, [t])[0] for t in (4, 5)][-1]
    for _ in range(6):
        token, rng = choose(logits, DRAW, rng)
        want.append(token)
        logits = EXECUTOR.step(state, [token])[0]
    assert list(session.tokens([4, 5], 6, DRAW)) == want
    assert (session.rng, session.pending, session.fed) == (rng, want[-1], 7)


def test_a_snapshot_moves_into_a_batch_and_back() -> None:
    session = opened()
    for token in (3, 1, 4):
        session.step(token)
    found = Snapshot.from_bytes(session.snapshot(), PROGRAM)
    batch = EXECUTOR.open(4)
    batch[2] = found.state
    logits = EXECUTOR.step(batch, [9, 9, 5, 9])
    assert session.step(5).tolist() == logits[2].tolist()
    back = opened()
    back.restore(Snapshot(batch[2], found.rng, None, found.fed + 1).to_bytes(PROGRAM))
    assert back.snapshot() == session.snapshot()
    assert back.state.tolist() == session.state.tolist()


def test_abandoned_generation_can_go_on() -> None:
    want = list(opened(1).tokens([1], 9, DRAW))
    session = opened(1)
    started = session.tokens([1], 9, DRAW)
    got = [next(started) for _ in range(4)]
    started.close()  # type: ignore[attr-defined]
    assert got + list(session.tokens((), 5, DRAW)) == want


def test_greedy_leaves_the_generator_alone() -> None:
    session = opened(8)
    before = session.rng
    list(session.tokens([1], 5, GREEDY))
    assert session.rng == before


def test_size_of_a_snapshot_is_constant() -> None:
    session = opened()
    first = session.snapshot()
    list(session.tokens([1], 20))
    assert len(session.snapshot()) == len(first) == 2 * PROGRAM.state_words + 62


def test_damaged_snapshots_are_refused_and_change_nothing() -> None:
    session = opened(4)
    list(session.tokens([1, 2], 3, DRAW))
    good = session.snapshot()
    for size in range(len(good)):
        with pytest.raises(SnapshotError):
            session.restore(good[:size])
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SnapshotError):
            session.restore(bytes(bad))
    with pytest.raises(SnapshotError, match="not a session snapshot"):
        session.restore(b"")
    assert session.snapshot() == good


def reseal(data: bytes, at: int, new: bytes) -> bytes:
    body = data[:at] + new + data[at + len(new) : -4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_sealed_nonsense_is_refused() -> None:
    good = opened().snapshot()
    for at, new, reason in (
        (4, b"\1\0", "saved by an older ternac, which named a program by its whole file"),
        (4, b"\4\0", "version 4 is unknown, this ternac reads 2 and 3"),
        (4, b"\3\0", "contradicts itself"),
        (38, bytes(4), "contradicts itself"),  # generator state 0
        (42, (16).to_bytes(4, "little"), "contradicts itself"),  # pending token outside the vocabulary
        (54, (999).to_bytes(4, "little"), "contradicts itself"),  # words
    ):
        with pytest.raises(SnapshotError, match=reason):
            Snapshot.from_bytes(reseal(good, at, new), PROGRAM)
    assert Snapshot.from_bytes(reseal(good, 42, (15).to_bytes(4, "little")), PROGRAM).pending == 15


def test_another_program_is_refused() -> None:
    other = dataclasses.replace(PROGRAM, logit_scale_bits=PROGRAM.logit_scale_bits + 1)
    with pytest.raises(SnapshotError, match="belongs to program .*, not to") as caught:
        Session(numpy_backend(other)).restore(opened().snapshot())
    assert caught.value.hint


def test_misuse() -> None:
    session = opened()
    with pytest.raises(UsageError, match="prompt of a new session is empty"):
        session.tokens((), 3)
    with pytest.raises(UsageError, match=r"token 16 is outside 0\.\.15"):
        session.tokens([1, 16], 3)
    with pytest.raises(UsageError, match="number of tokens is -1"):
        session.tokens([1], -1)
    assert session.fed == 0
    with session:
        session.step(1)
    session.close()
    for use in (
        lambda: session.step(1),
        session.snapshot,
        lambda: session.tokens([1]),
        lambda: session.state,
    ):
        with pytest.raises(UsageError, match="the session is closed"):
            use()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "text.session"
    session, other = opened(4), opened(9)
    list(session.tokens([1, 2], 5, DRAW))
    session.save(path)
    assert list(tmp_path.iterdir()) == [path]
    other.load(path)
    assert list(other.tokens((), 20, DRAW)) == list(session.tokens((), 20, DRAW))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: b"", "not a session snapshot"),
        (lambda data: b"\x89PNG" + bytes(500), "not a session snapshot"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data[:64], "damaged"),
        (lambda data: data + b"\0", "damaged"),
        (lambda data: data[:70] + bytes((data[70] ^ 1,)) + data[71:], "damaged"),
        (lambda data: data[:54] + b"\xff\xff\xff\xff" + data[58:], "damaged"),
    ],
)
def test_spoiled_files_are_refused_by_name(
    tmp_path: Path, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "text.session"
    session = opened(4)
    list(session.tokens([1, 2], 5, DRAW))
    path.write_bytes(spoil(session.snapshot()))
    before = session.snapshot()
    with pytest.raises(SnapshotError, match=rf"text\.session: .*{reason}"):
        session.load(path)
    assert session.snapshot() == before


def test_files_that_are_not_there(tmp_path: Path) -> None:
    session = opened()
    with pytest.raises(UsageError, match="cannot read .*: No such file"):
        session.load(tmp_path / "none")
    with pytest.raises(UsageError, match="cannot read .*: Is a directory"):
        session.load(tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        session.save(tmp_path / "none" / "at.all")
    assert not list(tmp_path.iterdir())


def test_a_session_goes_on_when_its_program_is_renamed_or_described_anew() -> None:
    want = list(opened(5).tokens([1, 2], 12, DRAW))
    session = opened(5)
    first = list(session.tokens([1, 2], 4, DRAW))
    other = dataclasses.replace(PROGRAM, name="renamed", meta={"card": "another text"})
    moved = Session(numpy_backend(other))
    moved.restore(session.snapshot())
    assert first + list(moved.tokens((), 8, DRAW)) == want
