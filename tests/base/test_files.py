"""Files are written whole or not at all, and say what is wrong where they cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ternac import files
from ternac.errors import CheckpointError, UsageError
from ternac.files import replacing, write_bytes, write_json, write_text


def test_an_old_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "äöü")
    assert path.read_bytes() == "äöü".encode()
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o604)
    write_json(path, {"a": [1]}, indent=1)
    assert path.read_text() == '{\n "a": [\n  1\n ]\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "link"
    link.symlink_to("data/file")
    write_bytes(link, b"new")
    assert link.is_symlink() and (tmp_path / "data" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_is_what_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "out"
    write_bytes(path, b"old")

    def write_half() -> None:
        with replacing(path) as scratch:
            scratch.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]

    def no(*_: object, **__: object) -> None:
        raise PermissionError("cannot clean up")

    monkeypatch.setattr(Path, "unlink", no)
    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out"
    write_bytes(path, b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot write .*out: No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_contents_and_name_are_on_the_disk_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss before the rename leaves the old file, one after it the new one."""
    done: list[str] = []
    monkeypatch.setattr(files, "sync", lambda path: done.append("folder" if path.is_dir() else "file"))
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("rename"), replace(a, b)))
    write_bytes(tmp_path / "out", b"new")
    assert done == ["file", "rename", "folder"]


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path, other = tmp_path / "out.txt", tmp_path / "other.txt"
    with replacing(path) as scratch, replacing(other) as theirs:
        ours = f"-{os.getpid()}-"
        assert ours in scratch.name
        ended = subprocess.Popen(["true"])
        ended.wait()
        dead = scratch.with_name(scratch.name.replace(ours, f"-{ended.pid}-"))
        lives = scratch.with_name(scratch.name.replace(ours, f"-{os.getppid()}-"))
        elsewhere = scratch.with_name(dead.name.replace(scratch.name.split("-")[1], "00000000"))
        of_other = theirs.with_name(theirs.name.replace(ours, f"-{ended.pid}-"))
        for each in (dead, lives, elsewhere, of_other):
            each.write_text("half")
    write_text(path, "new")
    assert {each.name for each in tmp_path.iterdir()} == {
        each.name for each in (path, other, lives, elsewhere, of_other)
    }


def test_names_of_new_folders_and_of_moved_files_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
    synced.clear()
    files.make_folder(tmp_path / "a" / "b")
    assert synced == []
    one, two = tmp_path / "one", tmp_path / "a" / "two"
    one.write_text("x")
    files.move(one, two)
    assert synced == [one, two.parent] and two.read_text() == "x"


JSON: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON: it is nested too deep"),
    "not UTF-8": (b'{"a": "\xff"}', "is not JSON"),
    "digits": (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
    "a list": (b"[]", "is not a JSON object"),
    "too long": (b" " * 101 + b"{}", "has more than 100 bytes"),
}


@pytest.mark.parametrize("case", JSON)
def test_what_is_no_json_object_is_named(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, reason = JSON[case]
    path = tmp_path / "data.json"
    path.write_bytes(data)
    if case == "too long":
        monkeypatch.setattr(files, "MAX_JSON", 100)
    with pytest.raises(CheckpointError, match=f"{path} {reason}") as found:
        files.read_json(path, CheckpointError, "look")
    assert found.value.hint == "look"
    with pytest.raises(UsageError, match="cannot read .*: No such file"):
        files.read_json(tmp_path / "none")


def test_a_key_that_stands_twice_is_refused_where_it_must_not() -> None:
    assert files.parse_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="a key appears twice"):
        files.parse_json('{"b": {"a": 1, "a": 2}}', unique=True)


def test_a_folder_or_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        write_bytes(tmp_path, b"")
    with pytest.raises(UsageError, match="No such file or directory"):
        write_bytes(tmp_path / "none" / "out", b"")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """As ``--out /dev/stdout`` is."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_bytes(path, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert path.is_fifo()
