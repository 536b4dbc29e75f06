"""A session begun on one executor goes on on another, by way of a file: the same tokens and state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ternac.host.device import Device
from ternac.run.sampling import Sampling
from tests.host.boards import Line, image_of, make_board, small_program
from tests.host.native.native_here import MISSING

PROGRAM = small_program()
SAMPLING = Sampling(False, 200, 4, 50)
PROMPT = [72, 101, 108]


def torch() -> Device:
    pytest.importorskip("torch")
    return Device.open("gpu:cpu", PROGRAM)


def board() -> Device:
    line = Line(make_board(image_of(PROGRAM)))
    return Device.open("serial:fake", PROGRAM, board="tiny", transport=line, progress=False)


PLACES: dict[str, Callable[[], Device]] = {
    "numpy": lambda: Device.open("numpy", PROGRAM),
    "native": lambda: Device.open("native", PROGRAM),
    "torch": torch,
    "board": board,
    "sim": lambda: Device.open("sim", PROGRAM, board="tiny", progress=False),
}


def travel(stations: list[str], file: Path) -> None:
    """A part of the text on each, and NumPy's text and state at the end."""
    with PLACES["numpy"]() as device, device.session(5) as session:
        want = list(session.tokens(PROMPT, 6 * len(stations), SAMPLING))
        end = session.snapshot()
    got: list[int] = []
    for name in stations:
        with PLACES[name]() as device, device.session() as session:
            if got:
                session.load(file)
            got += session.tokens(() if got else PROMPT, 6, SAMPLING, seed=None if got else 5)
            session.save(file)
    assert got == want
    assert file.read_bytes() == end


def test_there_and_back(tmp_path: Path) -> None:
    stations = ["numpy", "native", "torch", "board", "torch", "numpy", "board", "native", "numpy"]
    travel([s for s in stations if s != "native" or not MISSING], tmp_path / "text.session")


def test_the_simulated_board(tmp_path: Path) -> None:
    """The same with the complete RTL."""
    travel(["numpy", "sim", "torch", "sim", "numpy"], tmp_path / "text.session")
