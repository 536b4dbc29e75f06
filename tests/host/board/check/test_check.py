"""``board check`` on the simulated board: a good one passes, and every planted fault is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.compile.compiler import compile_program
from ternac.compile.fitting import Model, default_model
from ternac.compile.geometry import Mem, preset
from ternac.compile.loading import program_id
from ternac.host.board.check import check as checks
from ternac.host.board.check import identity, texts
from ternac.host.board.check.check import Extent, check_board
from ternac.host.board.check.report import Report
from ternac.host.board.check.texts import refill
from ternac.host.board.client import Patience
from ternac.host.board.transport import ProcessTransport, Transport
from ternac.link import ANSWER, Command, Frame, Identity
from ternac.program.random import random_program
from ternac.sim.board import build_board
from tests.host.board.check.spoilt import (
    Silent,
    SpoiltLine,
    lossy,
    stuck_bank_bit,
    stuck_loaded_bit,
    wrong_token,
)
from tests.host.boards import small_program

GEOMETRY = preset("tiny")
MODEL = Model(small_program(), None)
SHORT = Extent(minutes=0.0, tokens=6, fills=0)
PATIENCE = Patience(base=20.0, step=2.0, retries=1)
HURRIED = Patience(base=0.3, step=0.05, retries=8)
SILENT = Patience(base=0.02, step=0, retries=2)


def board() -> Transport:
    return ProcessTransport([str(build_board(GEOMETRY))])


def run(line: Transport, extent: Extent = SHORT, patience: Patience = PATIENCE, **options: Any) -> Report:
    options = {"simulated": True, **options}
    return check_board(line, GEOMETRY, "tiny", MODEL, extent, patience=patience, **options)


def found(report: Report, section: str) -> list[str]:
    return [finding.what for finding in report.sections[section].findings]


@pytest.fixture
def banks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer lengths and patterns, where they are not what is tested."""
    monkeypatch.setattr(checks.line, "HELLO_BYTES", 3)
    monkeypatch.setattr(checks.line, "MAX_WORDS", 5)
    few = [one for one in checks.bank_patterns.rounds(1) if not one.seed]
    monkeypatch.setattr(checks.bank_patterns, "rounds", lambda seed: iter(few))


@pytest.mark.usefixtures("banks_only")
def test_a_good_board_passes_and_every_figure_has_its_origin() -> None:
    report = run(board(), Extent(minutes=0.02, tokens=8, fills=0))
    assert report.ok and not report.mismatches
    data = json.loads(json.dumps(report.data(), allow_nan=False))
    states = {s["name"]: s["state"] for s in data["sections"]}
    assert states == dict.fromkeys(checks.SECTIONS, "passed") | {"contents": "left out"}
    figures = [f for section in data["sections"] for f in section["figures"]]
    assert len(figures) > 25 and all(f["origin"] and f["name"] for f in figures)
    assert {f["origin"] for f in figures} >= {"simulated board: not measured on hardware", "HELLO"}
    assert data["simulated"] and data["packages"]["numpy"]


@pytest.mark.slow
def test_all_of_the_check_passes_on_a_good_board() -> None:
    assert run(board(), Extent(minutes=0.2, tokens=40, fills=2)).ok


@pytest.mark.usefixtures("banks_only")
def test_a_stuck_bit_of_a_bank_is_named_with_column_and_word() -> None:
    report = run(SpoiltLine(board(), answer=stuck_bank_bit(2, 300, 9)))
    assert not report.ok
    (first, *_) = report.sections["banks"].findings
    assert "memory BANK, pattern constant: column 2, word 300 is 0x0200, not 0x0000" in first.what
    assert first.data["bits"] == 0x200 and first.data["words"] == 1
    assert any("march element" in what for what in found(report, "banks"))


@pytest.mark.usefixtures("banks_only")
def test_aliased_bank_words_are_found_by_the_address_pattern() -> None:
    """An address line that is stuck at 0: each word of the upper half is one of the lower half."""

    def request(frame: Frame) -> Frame:
        if frame.kind not in (Command.WRITE, Command.READ):
            return frame
        payload = bytearray(frame.payload)
        if frame.kind == Command.READ or payload[0] == Mem.BANK:
            payload[3] &= ~1  # address bit 8
        return Frame(frame.kind, frame.seq, bytes(payload))

    report = run(SpoiltLine(board(), request=request))
    assert any("pattern address" in what for what in found(report, "banks"))


@pytest.mark.usefixtures("banks_only")
@pytest.mark.parametrize("mem", [Mem.WEIGHT, Mem.EMBED])
def test_a_stuck_bit_of_a_memory_that_is_only_written_is_found_by_what_is_computed(mem: Mem) -> None:
    image = compile_program(refill(MODEL.program, 1), GEOMETRY)
    words = image.memories[mem]
    block, address = 1, 17
    bit = next(b for b in range(8) if not int(words[block, address]) >> b & 1)
    fault = stuck_loaded_bit(mem, block, address, bit, GEOMETRY.memory(mem).bytes_per_word)
    report = run(SpoiltLine(board(), request=fault), Extent(minutes=0, tokens=4, fills=1))
    (first, *_) = found(report, "contents")
    assert first.startswith("contents 1 of 1 (seed 1): first divergence at token")
    assert "op " in first and "element" in first


@pytest.mark.usefixtures("banks_only")
def test_a_wrong_token_is_named_with_its_place() -> None:
    report = run(SpoiltLine(board(), answer=wrong_token(3)))
    (first, *_) = found(report, "program")
    assert "first divergence at token 3, next token" in first
    assert report.sections["banks"].state == "passed"


@pytest.mark.usefixtures("banks_only")
@pytest.mark.parametrize("fault", ["token", "state"])
def test_the_soak_finds_what_is_wrong_only_then(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    soaking = False
    token = wrong_token(0)

    def spoil(frame: Frame, asked: Frame) -> Frame | None:
        if fault == "token" or frame.kind != Command.READ | ANSWER:
            return token(frame, asked) if fault == "token" else frame
        return Frame(frame.kind, frame.seq, frame.payload[:1] + bytes(b | 1 for b in frame.payload[1:]))

    def answer(frame: Frame, asked: Frame) -> Frame | None:
        return spoil(frame, asked) if soaking else frame

    def soak(*words: Any, **options: Any) -> None:
        nonlocal soaking
        soaking = True
        texts.soak(*words, **options)

    monkeypatch.setattr(checks, "soak", soak)
    report = run(SpoiltLine(board(), answer=answer), Extent(minutes=0.1, tokens=4, fills=0))
    assert report.sections["program"].state == "passed"
    what = found(report, "soak")
    assert what and all(text.startswith("soak, step") and "NumPy's" in text for text in what)
    assert any("state word" in text for text in what) == (fault == "state")


@pytest.mark.usefixtures("banks_only")
def test_a_lossy_line_is_counted_and_no_token_is_wrong() -> None:
    request, answer = lossy(1, 0.05)
    report = run(SpoiltLine(board(), request, answer), patience=HURRIED)
    (what,) = found(report, "line")
    assert "had to be sent again" in what
    data = report.sections["line"].findings[0].data
    assert data["resent"] > 0 and data["unanswered"] == data["resent"]
    assert report.sections["program"].state == "passed"


def spoilt_identity(change: Callable[[Identity], Identity]) -> SpoiltLine:
    def answer(frame: Frame, asked: Frame) -> Frame:
        if frame.kind != Command.HELLO | ANSWER:
            return frame
        return Frame(frame.kind, frame.seq, b"\0" + change(Identity.decode(frame.payload[1:])).encode())

    return SpoiltLine(board(), answer=answer)


@pytest.mark.usefixtures("banks_only")
def test_another_program_is_named() -> None:
    line = spoilt_identity(lambda it: replace(it, program_hash=b"another program!"))
    report = run(line)
    (what, *_) = found(report, "identity")
    assert b"another program!".hex() in what and "neither" in what
    assert any("was loaded, the board says that it holds" in what for what in found(report, "program"))
    assert line.closed


@pytest.mark.usefixtures("banks_only")
def test_what_the_board_holds_is_run_as_it_is() -> None:
    """The right hash in front of other weights: found before anything is loaded."""
    held = program_id(compile_program(MODEL.program, GEOMETRY))
    report = run(spoilt_identity(lambda it: replace(it, program_hash=held)))
    (what, *_) = found(report, "identity")
    assert "no program is loaded" in what  # the board itself knows better than its HELLO
    assert report.sections["line"].state == "not run"


def test_another_model_than_the_named_one_is_a_mismatch(monkeypatch: pytest.MonkeyPatch) -> None:
    other = random_program(np.random.default_rng(9), 16, 24, 1, 256)
    held = program_id(compile_program(other, GEOMETRY))
    monkeypatch.setattr(identity, "names", lambda: ("other",))
    monkeypatch.setattr(identity, "open_program", lambda name: other)
    report = run(spoilt_identity(lambda it: replace(it, program_hash=held)), named=True)
    assert f"program: the board holds {other.name}, not {MODEL.program.name}" in found(report, "identity")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"geometry_hash": preset("icebreaker").hash},
            "carries the engine icebreaker; expected is the engine tiny",
        ),
        ({"geometry_hash": b"whatever"}, "an engine that this version does not know"),
        ({"version": 2}, "speaks link version 2, this host 4"),
    ],
)
def test_another_engine_ends_the_check(change: dict[str, Any], message: str) -> None:
    report = run(spoilt_identity(lambda it: replace(it, **change)))
    assert message in found(report, "identity")[0]
    assert [s.state for s in report.sections.values()] == ["failed", *["not run"] * 5]


@pytest.mark.usefixtures("banks_only")
def test_another_bitstream_and_another_clock_are_named() -> None:
    report = run(spoilt_identity(lambda it: replace(it, bitstream_id=bytes(16), clock_hz=7)))
    bitstream, clock = found(report, "identity")
    assert f"carries bitstream {bytes(16).hex()}, shipped is" in bitstream
    assert "clock is 7 Hz" in clock


def test_a_board_that_does_not_answer() -> None:
    report = run(Silent(), patience=SILENT)
    (what,) = found(report, "identity")
    assert "does not answer: not one byte came" in what and not report.ok


@pytest.mark.parametrize("noise", [b"Hello, I am a shell\r\n$ ", b"\xc0garbage\xc0", b"\x00\xff\x55"])
def test_garbage_on_the_line(noise: bytes) -> None:
    report = run(Silent(noise), patience=SILENT)
    (finding,) = report.sections["identity"].findings
    assert "garbage on the line" in finding.what
    assert "baud" in finding.hint


@pytest.mark.usefixtures("banks_only")
def test_ctrl_c_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "check_sessions", stop)
    line = SpoiltLine(board(), answer=stuck_bank_bit(0, 3, 0))
    report = run(line)
    states = {name: section.state for name, section in report.sections.items()}
    assert (states["banks"], states["program"], states["soak"]) == ("failed", "interrupted", "not run")
    assert report.interrupted and report.data()["interrupted"] and line.closed


@pytest.mark.usefixtures("banks_only")
def test_the_verb_writes_the_report(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.json"
    words = "board check sim --geometry tiny --minutes 0 --tokens 4 --fills 0 --json --out"
    assert main([*words.split(), str(out)]) == 0
    printed, err = capsys.readouterr()
    data = json.loads(printed)
    assert data["report"] == str(out) and data["ok"] and data["geometry"] == "tiny"
    assert json.loads(out.read_text()) == {k: v for k, v in data.items() if k != "report"}
    assert "nothing above was measured on hardware" in err
    assert data["model"] == default_model(GEOMETRY).program.name


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    for command, message in (
        ("board check numpy", "unknown executor 'numpy'"),
        ("board check /dev/no-such-port --minutes -1", "--minutes is -1, needs 0 to 10000"),
        ("board check /dev/no-such-port --out /dev/null/x", "cannot make the folder"),
        ("board check /dev/no-such-port --out x.json", "cannot open /dev/no-such-port"),
        ("board loopback /dev/no-such-port --out x.json", "cannot open /dev/no-such-port"),
        ("board loopback sim --words 3", "--words is 3, needs 8"),
        ("build shakespeare --loopback", "MODEL has no effect with --loopback"),
        ("build --loopback --clock 50", "--clock has no effect with --loopback"),
        ("flash --loopback --geometry tiny", "--geometry has no effect with --loopback"),
    ):
        capsys.readouterr()
        assert main([*command.split(), "--json"]) == 2, command
        assert message in json.loads(capsys.readouterr().out)["error"]["message"]
