"""Read texts, plain or ``.xz``, of at most a limit; write files whole or not at all."""

from __future__ import annotations

import errno
import json
import lzma
import os
import platform
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ternac.errors import TernacError, UsageError
from ternac.limits import MAX_JSON, MAX_TEXT


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """Return the bytes of a file, unpacked if its name ends in ``.xz``; with ``limit`` only the first ones.

    Raises UsageError if the file cannot be read, is no .xz file, is empty, or holds more than `MAX_TEXT`
    bytes.
    """
    path = Path(path)
    most = MAX_TEXT if limit is None else min(limit, MAX_TEXT)
    try:
        with _open(path) as file:
            data = file.read(most)
            more = limit is None and bool(file.read(1))
    except lzma.LZMAError as error:
        raise UsageError(f"{path} is not a whole .xz file: {error}", "get it again, or unpack it") from None
    except EOFError:
        raise UsageError(f"{path} is not a whole .xz file: it ends early", "get it again") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if more:
        raise UsageError(
            f"{path} holds more than {MAX_TEXT} bytes of text", "give --limit, or a part of the text"
        )
    if not data:
        raise UsageError(f"{path} is empty", "name a file with text in it")
    return data


def parse_json(text: str | bytes, *, unique: bool = False) -> Any:
    """Return the value of a JSON text. Raises ValueError if it is none, is nested too deep to be read, or,
    where keys must be ``unique``, if an object has one twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def read_json(path: str | Path, error: type[TernacError] = UsageError, hint: str = "") -> dict[str, Any]:
    """Return the object in a JSON file. Raises ``error`` with ``hint`` if the file cannot be read, has more
    than `MAX_JSON` bytes, or is no JSON object in UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_JSON + 1)
        if len(text) > MAX_JSON:
            raise error(f"{path} has more than {MAX_JSON} bytes, the limit of a JSON file", hint)
        found = parse_json(text.decode())
    except OSError as reason:
        raise error(f"cannot read {path}: {reason.strerror or reason}", hint) from None
    except ValueError as reason:
        raise error(f"{path} is not JSON: {reason}", hint) from None
    if not isinstance(found, dict):
        raise error(f"{path} is not a JSON object", hint)
    return found


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a scratch file of the same suffix that replaces ``path`` when the block ends.

    The file and its folder are synced: a killed process or a power loss leaves the old contents or the new.
    A file that is there keeps its mode, a symbolic link its name; an error in the block leaves the old file.
    What a killed process left of its scratch file goes when the same file is next written.

    Raises UsageError if the file cannot be written.
    """
    path, target = Path(path), Path(os.path.realpath(path))
    scratch = scratch_beside(target)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe
            yield path
            return
        os.close(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE((target if target.exists() else scratch).stat().st_mode)
        yield scratch
        scratch.chmod(mode)  # a library may have created it again
        sync(scratch)
        scratch.replace(target)
        sync(target.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


_HOST = f"{zlib.crc32(platform.node().encode()):08x}"


def scratch_beside(target: Path) -> Path:
    """Return a name beside ``target`` that nothing has; remove what killed processes left under such names,
    files and folders.

    They begin with the file, this machine and the process, so that nothing is removed which another machine,
    in a folder of both, or a process that lives is writing.
    """
    start = f".{zlib.crc32(target.name.encode(errors='surrogateescape')):08x}-{_HOST}-"
    for left in target.parent.glob(f"{start}*"):
        owner = left.name.removeprefix(start).partition("-")[0]
        if owner.isdecimal() and not _lives(int(owner)):
            with suppress(OSError):
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
    return target.with_name(f"{start}{os.getpid()}-{secrets.token_hex(8)}{target.suffix}")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, with their names on the disk. Raises UsageError if that fails."""
    path = Path(path)
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        for each in missing:
            sync(each.parent)
    except FileExistsError:
        raise UsageError(f"{path} is a file, and a folder is needed", "name another one") from None
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {path}: {error.strerror or error}",
            "name a folder in one that you may write",
        ) from None


def cannot_write(path: str | Path, error: OSError) -> UsageError:
    """Return the error to raise where ``path`` could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "make room on that disk, or name a file on another one" if full else ""
    return UsageError(
        f"cannot write {path}: {error.strerror or error}",
        hint or "name a file in a folder that you may write",
    )


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises UsageError if it cannot be written."""
    with replacing(path) as scratch:
        scratch.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all. Raises UsageError if it cannot be written."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, data: Any, indent: int | None = None) -> None:
    """Write plain data as JSON, whole or not at all. Raises UsageError if it cannot be written."""
    write_text(path, json.dumps(data, indent=indent) + "\n")


def write_figure(path: str | Path, figure: Any) -> None:
    """Write a matplotlib figure in the format of the suffix; the same figure gives the same bytes.

    Raises UsageError if it cannot be written.
    """
    import matplotlib

    undated = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "ternac"}), replacing(path) as scratch:
        figure.savefig(scratch, dpi=110, metadata=undated.get(scratch.suffix))


def move(source: Path, target: Path) -> None:
    """Move a file over another in the same file system; its contents and name are on the disk. Raises OSError
    if that cannot be done.
    """
    sync(source)
    source.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open(path: Path) -> IO[bytes]:
    return lzma.open(path) if path.suffix == ".xz" else path.open("rb")
