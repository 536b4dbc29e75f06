"""A board that answers what cannot be: typed errors that name it, and no token of it reaches anybody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ternac.errors import BadFrame
from ternac.host.device import Device
from ternac.link import FRAME_BYTES
from ternac.run.generation import Run
from ternac.sim.link_model import LinkModel
from tests.host.boards import FAST, Line, image_of, make_board, small_program

PROGRAM = small_program()
IMAGE = image_of(PROGRAM)


def open_device(board: LinkModel) -> Device:
    options: Any = {"board": "tiny", "transport": Line(board), "patience": FAST, "progress": False}
    return Device.open("serial:fake", PROGRAM, **options)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"window": 0}, "takes 0 requests in flight, needs at least 1"),
        ({"frame_bytes": 64}, f"takes 64 bytes a frame, needs at least {FRAME_BYTES}"),
    ],
)
def test_a_board_that_takes_no_request_is_refused(lie: dict[str, int], reason: str) -> None:
    board = make_board(IMAGE)
    board.identity = replace(board.identity, **lie)
    with pytest.raises(BadFrame, match=reason):
        open_device(board)


class LyingEngine:
    """Chooses a token outside the vocabulary once, after ``good`` right ones."""

    def __init__(self, engine: Any, good: int) -> None:
        self._engine, self._good = engine, good

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def step(self, token: int, base: int, emit: bool, *more: Any, **named: Any) -> tuple[int, int, int]:
        found: tuple[int, int, int] = self._engine.step(token % PROGRAM.vocab, base, emit, *more, **named)
        self._good -= emit
        return (PROGRAM.vocab, *found[1:]) if emit and self._good == -1 else found


def of_bytes(device: Device) -> bytes:
    with device.session() as session:
        return b"".join(session.generate(b"ab", 12))


def of_run(device: Device) -> bytes:
    session = device.backend.open()
    try:
        return bytes(device.backend.run(session, Run([97, 98], 12)).tokens)
    finally:
        device.backend.release(session)


def together(device: Device) -> bytes:
    return device.generate_together([b"ab"], 12)[0]


@pytest.mark.parametrize("use", [of_bytes, of_run, together])
@pytest.mark.parametrize("good", [0, 5])
def test_a_token_outside_the_vocabulary_is_refused_and_the_board_stays_usable(
    use: Callable[[Device], bytes], good: int
) -> None:
    board = make_board(IMAGE)
    with open_device(board) as device:
        want = use(device)
        board.engine = LyingEngine(board.engine, good)
        with pytest.raises(BadFrame, match=r"answers with token 256, .* has 0\.\.255"):
            use(device)
        assert use(device) == want  # it lies once
