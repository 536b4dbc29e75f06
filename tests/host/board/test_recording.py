"""Recorded traffic: files that are none, and a disk that is full, are typed errors that name the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ternac.errors import UsageError
from ternac.host.board.transport import RecordingTransport, ReplayTransport


@pytest.mark.parametrize(
    "line",
    [
        b"a\xe9",
        b"{",
        b"5",
        b"[1]",
        b'["w", 5]',
        b'["w", "0"]',
        b'["x", "00"]',
        b"{}",
        b"[" * 100_000,
        b"\0" * 9,
    ],
    ids=range(10),
)
def test_a_replay_of_garbage_names_the_line(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    path.write_bytes(b'["w", "00"]\n' + line + b"\n")
    with pytest.raises(UsageError, match=f"{path}, line 2: this is not recorded traffic"):
        ReplayTransport(path)


def test_a_replay_of_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}"):
        ReplayTransport(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_named_and_closing_does_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "traffic"
    path.write_bytes(b'["w", "00"]\n')
    line = RecordingTransport(ReplayTransport(path), "/dev/full")
    try:
        with pytest.raises(UsageError, match="cannot write /dev/full: No space left on device"):
            line.write(b"\0")
    finally:
        line.close()
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}"):
        RecordingTransport(ReplayTransport(path), tmp_path)
