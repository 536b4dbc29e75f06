"""Progress and tables, as people see them."""

from __future__ import annotations

import io

import pytest

from ternac import progress
from ternac.progress import Progress
from ternac.table import columns, markdown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only where a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def work(stream: io.StringIO, clock: Clock, seconds: float) -> str:
    with Progress(10, "work", "steps", stream) as bar:
        for done in range(1, 11):
            clock.now += seconds
            bar.update(done, "note")
    return stream.getvalue()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_terminal_shows_a_bar(clock: Clock) -> None:
    shown = work(Terminal(), clock, 0.1)
    assert "\r" in shown and "work: 100%" in shown
    assert shown.rstrip().endswith("note]")  # spaces end it over a longer line


def test_elsewhere_a_line_now_and_then(clock: Clock) -> None:
    assert work(io.StringIO(), clock, 0.1) == ""  # over before the first was due
    lines = work(io.StringIO(), clock, 4.0).splitlines()
    assert [line.split()[1] for line in lines] == ["30%", "60%", "90%", "100%"]
    assert "\r" not in "".join(lines) and lines[0].endswith("note]")


def test_what_was_done_before_is_not_in_the_rate(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(100, "load", "bytes", stream, start=50) as bar:
        clock.now += 12.5
        bar.update(75, "resumed")
    assert "75%" in stream.getvalue() and "00:12<00:12,  2.00 bytes/s, resumed" in stream.getvalue()


def test_tables() -> None:
    header, rows = ("name", "count"), [["a", "1,000,000"], ["longer", ""]]
    assert columns(header, rows) == ["name        count", "a       1,000,000", "longer"]
    assert markdown(header, rows) == "| name | count |\n| --- | --- |\n| a | 1,000,000 |\n| longer |  |\n"
