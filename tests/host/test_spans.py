"""Spans that a board reports: the costs of every executor, refused by name where the engine has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.errors import BadFrame, DeviceError
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient
from ternac.host.coder import BackendSessions
from ternac.host.device import Device
from ternac.link import READ_SPAN
from ternac.run.surprise import Surprise
from ternac.run.texts import StepCoder
from ternac.sim.link_model import MachineEngine
from tests.host.archives import archive_of, plain_coder, program, text_of
from tests.host.boards import FAST, Line, make_board

SPANS = replace(PRESETS["tiny"], name="tiny-spans", spans=1)
LINES = [b"a line of text\n", b"another\n", b"\n", b"\xff\x00\n", b"no end"]


def board(geometry: Geometry = SPANS, faults: float = 0.0) -> BoardBackend:
    """Return a board in Python that holds the program."""
    image = compile_program(program(), geometry)
    client = LinkClient(Line(make_board(image), faults=faults), FAST)
    backend = BoardBackend(client, client.hello(), program(), image, chunk=4)
    backend.load(progress=False)
    return backend


def scores(backend: BoardBackend) -> list[object]:
    surprise = Surprise(StepCoder(BackendSessions(backend, spans=True)))
    return [surprise.read(line) for line in LINES]


def plain_scores() -> list[object]:
    surprise = Surprise(plain_coder())
    return [surprise.read(line) for line in LINES]


@pytest.mark.parametrize("faults", [0.0, 0.02])
def test_a_board_scores_lines_as_numpy_does(faults: float) -> None:
    assert scores(board(faults=faults)) == plain_scores()


def test_a_token_costs_one_short_read_and_not_its_logits() -> None:
    backend = board()
    before = backend.client.bytes_received
    scores(backend)
    with_spans = backend.client.bytes_received - before
    plain = board(PRESETS["tiny"])
    before = plain.client.bytes_received
    surprise = Surprise(StepCoder(BackendSessions(plain)))
    assert [surprise.read(line) for line in LINES] == plain_scores()
    assert 8 * with_spans < plain.client.bytes_received - before


def test_an_archive_that_is_written_by_spans_is_the_same() -> None:
    text = b"It is a truth universally acknowledged"
    coder = StepCoder(BackendSessions(board(), spans=True))
    made = archive_of(text, coder)
    assert made == archive_of(text, plain_coder()) and text_of(made, coder) == text
    assert "the span of every token" in coder.origin


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of a size changes the score; a size above the total is refused."""
    read = MachineEngine.read

    def spoil(word: int, change: int) -> None:
        def spoilt(self: MachineEngine, block: int, addr: int) -> int:
            found = read(self, block, addr)
            return found ^ change if block >= READ_SPAN and addr % 8 == word else found

        monkeypatch.setattr(MachineEngine, "read", spoilt)

    spoil(3, 0x1000)
    surprise = Surprise(StepCoder(BackendSessions(board())))
    assert surprise.read(LINES[0]) != plain_scores()[0]
    spoil(4, 0x8000)
    with pytest.raises(BadFrame, match="has the span"):
        scores(board())


def test_a_board_without_spans_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backend = board(PRESETS["tiny"])
    with pytest.raises(DeviceError, match="the engine 'tiny' reports no spans"):
        BackendSessions(backend, spans=True)
    with pytest.raises(DeviceError, match="'tiny' reports no spans"):
        backend.span(backend.open(), 1, 2)
    (tmp_path / "log").write_bytes(LINES[0])
    assert main(["score", str(tmp_path / "log"), "--spans"]) == 2
    assert "--spans has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spans": 2}, "spans must be 0 or 1"),
        ({"logit_slots": 4096}, "at most 8192 tokens, not 16384"),
        ({"rows": 256, "list_slots": 16, "row_ram": "sdram"}, "rows in SDRAM has no spans"),
    ],
)
def test_a_geometry_that_cannot_have_spans_says_why(changes: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(SPANS, **changes)  # type: ignore[arg-type]


def test_spans_are_a_choice_in_the_hash_of_a_geometry() -> None:
    assert SPANS.hash != replace(SPANS, spans=0).hash
    assert replace(SPANS, name="tiny", spans=0).hash == PRESETS["tiny"].hash


@pytest.mark.slow
def test_the_simulated_board_scores_lines_as_numpy_does() -> None:
    """The RTL of the whole engine, through the driver."""
    device = Device.open("sim", program(), geometry=SPANS, progress=False)
    assert isinstance(device.backend, BoardBackend)
    assert scores(device.backend) == plain_scores()
    device.close()
