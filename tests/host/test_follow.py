"""A log is read as it grows, behind rotations; metrics are what Prometheus reads."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.host.follow import MOST_LINE, follow, lines_of
from ternac.host.surprise_metrics import Counts, Page, metrics_place
from ternac.run.coding import UNIT
from ternac.run.surprise import Line


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_lines_are_those_of_the_whole(pieces: list[bytes]) -> None:
    found = list(lines_of(iter(pieces)))
    whole = b"".join(pieces)
    assert b"".join(found) == whole
    assert all(line.endswith(b"\n") for line in found[:-1])
    assert all(line.count(b"\n") <= 1 for line in found)


def test_a_line_without_an_end_is_cut() -> None:
    found = list(lines_of(iter([b"x" * (MOST_LINE + 5), b"y\nz"])))
    assert [len(line) for line in found] == [MOST_LINE, 7, 1]


def followed(path: Path, steps: list[Callable[[], object]], at: int = 0) -> tuple[list[bytes], list[str]]:
    """Follow a log; each time that there is nothing more to read the next step is done."""
    left: Iterator[Callable[[], object]] = iter(steps)
    told: list[str] = []
    over = False

    def idle() -> None:
        nonlocal over
        step = next(left, None)
        over = step is None
        if step is not None:
            step()

    found = list(follow(path, at, poll=0.001, stop=lambda: over, idle=idle, rotated=told.append))
    return found, told


def append(path: Path, data: bytes) -> Callable[[], object]:
    def step() -> None:
        with path.open("ab") as sink:
            sink.write(data)

    return step


def test_a_log_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\none")
    steps = [append(path, b" two\n"), append(path, b"three\nfo"), append(path, b"ur\nend")]
    assert followed(path, steps, 4) == ([b"one two\n", b"three\n", b"four\n", b"end"], [])


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    path.write_bytes(b"a\n")

    def rotate() -> None:
        path.rename(old)
        append(old, b"late\n")()
        path.write_bytes(b"b\n")

    def cut() -> None:
        os.truncate(path, 0)
        append(path, b"\n")()

    found, told = followed(path, [rotate, append(path, b"c\n"), cut, append(path, b"d\n")])
    assert found == [b"a\n", b"late\n", b"b\n", b"c\n", b"\n", b"d\n"]
    assert told == ["replaced", "cut short"]


def test_a_moment_without_the_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n")

    def come_back() -> None:
        path.write_bytes(b"b\n")

    found, told = followed(path, [path.unlink, lambda: None, come_back])
    assert (found, told) == ([b"a\n", b"b\n"], ["replaced"])


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        next(follow(tmp_path / "none", 0, poll=0.01))


def counted() -> Counts:
    counts = Counts('a "model"')
    counts.add(Line(10, 5, 20 * UNIT, 9 * UNIT, True), False)
    counts.add(Line(3, 0, 2000 * UNIT, 8 * UNIT, False), True)
    return counts


def test_metrics_are_prometheus_text() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    families = {one.name: one for one in parser.text_string_to_metric_families(counted().text())}
    values = {sample.name: sample for family in families.values() for sample in family.samples}
    assert values["ternac_watch_anomalies_total"].value == 1
    assert values["ternac_watch_unreadable_total"].value == 1
    assert values["ternac_watch_line_bits_sum"].value == 2020
    assert values["ternac_watch_line_bits_count"].labels == {"model": 'a "model"'}
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families["ternac_watch_line_bits"].samples
        if sample.name.endswith("_bucket")
    }
    assert (buckets["16"], buckets["32"], buckets["1024"], buckets["+Inf"]) == (0, 1, 1, 2)


def test_metrics_in_a_file_and_at_an_address(tmp_path: Path) -> None:
    counts = counted()
    file = tmp_path / "watch.prom"
    Page(metrics_place(str(file)), counts).close()
    assert file.read_text() == counts.text()
    page = Page(metrics_place(":0"), counts)
    counts.add(Line(1, 1, 1, 1, True), False)
    page.update()
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics") as answer:
        assert answer.read().decode() == counts.text()
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    with pytest.raises(UsageError, match="name another port|cannot serve"):
        Page(("127.0.0.1", page.port or 0), counts)
    page.close()


@pytest.mark.parametrize("given_", ["", "watch", "host:", "host:x", ":70000"])
def test_no_place_for_metrics(given_: str) -> None:
    with pytest.raises(UsageError, match="no place for metrics"):
        metrics_place(given_)
