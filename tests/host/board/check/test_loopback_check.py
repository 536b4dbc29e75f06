"""``board loopback`` on the loopback in Python: a good one passes, and every planted fault is found and
named.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ternac.cli.main import main
from ternac.hdl.boards.boards import board
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.design import phase_steps
from ternac.host.board.check import line as lines
from ternac.host.board.check import loopback
from ternac.host.board.check.loopback import check_loopback, sections_of
from ternac.host.board.check.report import Report
from ternac.host.board.client import Patience
from ternac.link import Identity
from ternac.manifest import read_manifest
from ternac.sim.loopback_model import LoopbackModel
from tests.host.board.check.spoilt import LoopbackLine, Silent

_ICE, _ULX = board("icebreaker"), board("ulx3s-85f")
PLAIN = replace(_ICE, chip=replace(_ICE.chip, resources={"bram": 12, "spram": 1}))
WITH_SDRAM = replace(_ULX, chip=replace(_ULX.chip, tech=Technology.ICE40, resources={"bram": 12}))
"""Boards with little memory."""
WORDS = 512
QUICK = Patience(base=0.02, step=0, retries=3)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "HELLO_BYTES", 3)
    monkeypatch.setattr(lines, "MAX_WORDS", 4)
    monkeypatch.setattr(loopback, "RAW_BYTES", 2_000)
    monkeypatch.setattr(loopback, "LINE_SECONDS", 0.002)
    monkeypatch.setattr(loopback, "RETENTION_SECONDS", 0.0)
    monkeypatch.setattr(loopback, "PHASE_WORDS", 16)


def model(target: Any) -> LoopbackModel:
    shipped = read_manifest(target.name, "loopback")
    identity = bytes.fromhex(shipped["bitstream_id"]) if shipped else bytes(16)
    return LoopbackModel.of(target, target.clock_hz, identity)


def run(line: Any, target: Any = PLAIN, **options: Any) -> Report:
    options = {"simulated": False, "patience": QUICK, "words": WORDS, **options}
    return check_loopback(line, target, **options)


def found(report: Report, section: str) -> list[str]:
    return [finding.what for finding in report.sections[section].findings]


@pytest.mark.parametrize("target", [PLAIN, WITH_SDRAM], ids=lambda target: target.name)
def test_a_good_board_passes(target: Any) -> None:
    report = run(LoopbackLine(model(target)), target)
    assert report.ok, report.data()
    assert tuple(report.sections) == sections_of(target)
    if target is WITH_SDRAM:
        figures = {figure.name: figure.value for figure in report.sections["SDRAM phase"].figures}
        period, step = phase_steps(target)
        assert figures["margin, clock earlier"] == round(period // 2 * step, 2)


@pytest.mark.parametrize("memory", [0, 1])
def test_a_stuck_bit_is_named(memory: int) -> None:
    broken = model(PLAIN)
    broken.memories[memory].reads = lambda at, word: word & ~4 if at == 99 else word
    report = run(LoopbackLine(broken))
    name = broken.shapes[memory].name
    (first, *_) = report.sections[name].findings
    assert first.what.startswith(f"{name}, pattern") and "word 0x63 is" in first.what
    assert first.data["bits"] == 4 and first.data["words"] == 1
    assert report.sections[broken.shapes[1 - memory].name].state == "passed"


def test_swapped_address_lines_of_the_sdram_are_found() -> None:
    broken = model(WITH_SDRAM)
    broken.memories[-1].stores = lambda at, word: (at & ~6 | (at & 2) << 1 | (at & 4) >> 1, word)
    report = run(LoopbackLine(broken), WITH_SDRAM)
    assert any("SDRAM, pattern address:" in what for what in found(report, "SDRAM"))
    assert not any("pattern constant" in what for what in found(report, "SDRAM"))


@pytest.mark.parametrize(
    ("window", "messages"),
    [
        (range(-40, 41), []),
        (range(-20, 12), []),
        (range(-2, 12), ["only 2 steps earlier and 11 later"]),
        (range(3, 9), ["at the shipped phase", "the nearest that works is 3 steps away"]),
        ((), ["no phase works"]),
    ],
)
def test_late_data_at_some_phases(window: Any, messages: list[str]) -> None:
    board_model = model(WITH_SDRAM)
    board_model.clear_phase = lambda position: position in window
    report = run(LoopbackLine(board_model), WITH_SDRAM)
    what = " ".join(found(report, "SDRAM phase"))
    assert all(message in what for message in messages)
    assert (report.sections["SDRAM phase"].state == "passed") == (not messages)
    figures = {figure.name: figure.value for figure in report.sections["SDRAM phase"].figures}
    assert figures["phases without an error"] == " ".join(str(p) for p in window if -40 <= p < 40)
    assert board_model.position == 0


def test_a_phase_that_an_interrupted_check_left_is_brought_back() -> None:
    left = model(WITH_SDRAM)
    left.position = -7
    left.clear_phase = lambda position: abs(position) < 6
    assert run(LoopbackLine(left), WITH_SDRAM).ok


@pytest.mark.parametrize("way", ["to", "from"])
def test_wrong_and_lost_bytes_are_counted_each_way(way: str) -> None:
    good = LoopbackLine(model(PLAIN))
    run(good)
    number = good.counts[way == "from"]
    at = _raw_begin(way)

    def spoil(count: int, byte: int) -> bytes:
        return b"" if count == at + 500 else bytes((byte ^ (count == at + 90) * 0x10,))

    spoilt = {"to" if way == "to" else "back": spoil}
    report = run(LoopbackLine(model(PLAIN), **spoilt))
    assert number > at
    what = found(report, "raw line")
    assert any(
        f"raw line {'to' if way == 'to' else 'from'} the board: 1 of 2000 bytes are missing" in w
        for w in what
    )
    assert report.sections["line"].state == "passed"


def _raw_begin(way: str) -> int:
    """The number of the first byte of the raw line test, that way."""

    class Watched(LoopbackLine):
        begin: int | None = None

        def write(self, data: bytes) -> None:
            if len(data) == loopback.ECHO_BYTES and self.begin is None:
                self.begin = self.counts[0] if way == "to" else self.counts[1] - len(self.waiting)
                self.begin = self.begin if way == "to" else max(self.begin, 0)
            super().write(data)

    line = Watched(model(PLAIN))
    run(line)
    assert line.begin is not None
    return line.begin


def test_a_lossy_line_is_counted() -> None:
    line = LoopbackLine(model(PLAIN), to=lambda n, byte: b"" if n % 151 == 150 else bytes((byte,)))
    report = run(line, patience=Patience(base=0.01, step=0, retries=12))
    assert any("had to be sent again" in what for what in found(report, "line"))
    assert not report.ok


def test_an_engine_is_not_the_loopback() -> None:
    engine = LoopbackModel(PLAIN, Identity(bytes(16), b"geometry", 1, bytes(16)))
    report = run(LoopbackLine(engine))
    assert "carries an engine (unknown), not the loopback bitstream" in found(report, "identity")[0]
    assert report.sections["line"].state == "not run"


def test_another_loopback_than_the_shipped_one_is_named() -> None:
    if read_manifest("icebreaker", "loopback") is None:
        pytest.skip("no loopback is shipped")
    report = run(LoopbackLine(LoopbackModel.of(PLAIN, 1, bytes(16))))
    assert "shipped is" in found(report, "identity")[0]


def test_silence_is_no_answer() -> None:
    report = run(Silent())
    assert "not one byte came" in found(report, "identity")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["icebreaker", "ulx3s-85f"])
def test_the_verb_on_the_complete_rtl(name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    words = f"board loopback sim --board {name} --words 256 --json --out {out}"
    assert main(words.split()) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["simulated"] and data["mismatches"] == 0
    assert [section["name"] for section in data["sections"]] == list(sections_of(board(name)))
