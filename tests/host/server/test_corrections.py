"""Facts corrected over the server, by text and by sessions alone, with the shipped session cache."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ternac.host.device import Device
from ternac.host.session import Session
from ternac.model.memory.cache import (
    CLASSES,
    DOT,
    FIRST_CLASS,
    FIRST_ENTITY,
    FIRST_FILLER,
    IS,
    NO,
    SYSTEM,
    text,
    world,
)
from ternac.run.snapshot import Snapshot
from tests.host.native.native_here import needs_native
from tests.host.server.http_server import Running, running
from tests.host.server.test_http import call

PROGRAM = SYSTEM.shipped("cache")
ENTITY = 7
KNOWN, WRONG = world()[ENTITY], (world()[ENTITY] + 5) % CLASSES
QUESTION = [FIRST_FILLER, FIRST_ENTITY + ENTITY, IS]
CORRECTION = [FIRST_FILLER + 3, NO, FIRST_ENTITY + ENTITY, IS, FIRST_CLASS + WRONG, DOT]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(PROGRAM, ["auto"]) as found:
        yield found


def create(server: Running, name: str, data: bytes = b"") -> None:
    assert call(server, "PUT", f"/v1/sessions/{name}", data)[0] in (201, 204)


def snapshot(server: Running, name: str) -> bytes:
    return call(server, "GET", f"/v1/sessions/{name}")[2]


def say(server: Running, name: str, tokens: list[int], count: int = 0) -> list[int]:
    """Continue a session by ``tokens`` and choose ``count``; a token of this model is one byte of text."""
    body = {"prompt": tokens, "max_tokens": count, "temperature": 0, "session": name, "seed": 1}
    status, _, data = call(server, "POST", "/v1/completions", body)
    assert status == 200, data
    found: dict[str, Any] = json.loads(data)
    return list(found["choices"][0]["text"].encode())


def answer(server: Running, name: str) -> int:
    """The class that a session says of the entity."""
    (token,) = say(server, name, QUESTION, 1)
    say(server, name, [DOT])
    return token - FIRST_CLASS


def rows(data: bytes) -> bytes:
    """The rows of all memories in a session."""
    state = Snapshot.from_bytes(data, PROGRAM).state
    return b"".join(state[part].tobytes() for part in PROGRAM.memory_slices().values())


def test_a_correction_lives_for_its_session_only(server: Running) -> None:
    """B asks beside A, request by request at the same time, and is bit for bit B alone."""
    before = PROGRAM.hash
    turns = [[FIRST_FILLER + k, *QUESTION[1:]] for k in range(6)]
    with Device.open("numpy", PROGRAM) as device, device.session(1) as alone:
        want = []
        for turn in turns:
            want += list(alone.tokens(turn, 1))
            list(alone.tokens([DOT], 0))
        last = alone.snapshot()
    assert want == [FIRST_CLASS + KNOWN] * 6
    create(server, "A")
    create(server, "B")

    def corrects() -> list[int]:
        said = [answer(server, "A")]
        say(server, "A", CORRECTION)
        return said + [answer(server, "A") for _ in range(5)]

    def asks() -> list[int]:
        said = []
        for turn in turns:
            said += say(server, "B", turn, 1)
            say(server, "B", [DOT])
        return said

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(corrects), pool.submit(asks)
        assert first.result() == [KNOWN, *[WRONG] * 5]
        assert second.result() == want
    assert snapshot(server, "B") == last
    assert json.loads(call(server, "GET", "/health")[2])["program_hash"] == before
    assert SYSTEM.shipped("cache").hash == before


def test_a_session_opened_behind_a_closed_one_has_empty_rows(server: Running) -> None:
    create(server, "C")
    say(server, "C", CORRECTION)
    assert answer(server, "C") == WRONG
    assert any(rows(snapshot(server, "C")))
    assert call(server, "DELETE", "/v1/sessions/C")[0] == 204
    create(server, "C")
    assert not any(rows(snapshot(server, "C")))
    assert answer(server, "C") == KNOWN


def test_the_correction_is_in_the_session_and_nowhere_else(server: Running) -> None:
    """So where one leaked, the tests above would see it: the same rows in another session say the same."""
    create(server, "D")
    say(server, "D", CORRECTION)
    create(server, "E", snapshot(server, "D"))
    assert call(server, "DELETE", "/v1/sessions/D")[0] == 204
    assert answer(server, "E") == WRONG


@needs_native
def test_a_session_moves_between_numpy_and_native_in_its_middle() -> None:
    """Pieces of one text, in turns on two servers: tokens and the last snapshot are those of NumPy alone."""
    tokens, _, _ = text(300, 0.4, 6, random.Random(3))
    pieces = [tokens[at : at + 50] for at in range(0, 300, 50)]

    def through(session: Session, piece: list[int]) -> list[int]:
        return list(session.tokens(piece, 2))

    with Device.open("numpy", PROGRAM) as device, device.session(1) as alone:
        want = [through(alone, piece) for piece in pieces]
        last = alone.snapshot()
    with running(PROGRAM, ["numpy"]) as one, running(PROGRAM, ["native"]) as other:
        create(one, "moved")
        for number, piece in enumerate(pieces):
            here, there = (one, other) if number % 2 == 0 else (other, one)
            assert say(here, "moved", piece, 2) == want[number]
            data = snapshot(here, "moved")
            assert any(rows(data))
            create(there, "moved", data)
        assert data == last
