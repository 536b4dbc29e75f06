"""The cache: what was compiled, synthesized or generated here once is found again by every process.

It belongs to the user: ``$TERNAC_CACHE``, else the platform's folder for caches (``~/.cache/ternac`` on
Linux). An entry is a folder ``<kind>/<hash of all that it is made from>``. It is filled under another name,
synced to disk and renamed, so an entry that exists is whole; a lock makes the others wait for the process
that fills it.

Entries hold programs that will be run. An entry is therefore used only if nobody but the user (and root)
could have written it: see `refuse_foreign`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from ternac.errors import UnsafeCache, UsageError
from ternac.files import sync

VARIABLE = "TERNAC_CACHE"
Say = Callable[[str], None]
Make = Callable[[Path, Path], None]
"""Fills the folder (first argument); may write a log (second), which is kept if it raises."""


def root() -> Path:
    """Return the cache's folder, whether or not it exists."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("ternac")).expanduser().absolute()


def size() -> int:
    """Return the bytes that the cache takes on disk."""
    found = ((Path(at) / name).lstat() for at, _, names in os.walk(root()) for name in names)
    return sum(512 * one.st_blocks for one in found)


def folder(kind: str) -> Path:
    """Return the folder of all entries of a kind; make it, for its owner alone, if it is not there.

    Raises UnsafeCache if others can write there, UsageError if it cannot be made.
    """
    found = root() / kind
    try:
        for path in (*reversed(found.parents), found):
            if not path.is_dir():
                path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the cache folder {found}: {error.strerror}",
            f"set {VARIABLE} to a folder that you may write",
        ) from None
    refuse_foreign(found)
    return found


def cached(kind: str, key: Iterable[str], make: Make, *, say: Say = lambda text: None) -> Path:
    """Return the folder of the entry made from ``key``, filled by ``make(scratch, log)`` unless it exists.

    Raises UnsafeCache if another user could have changed it, and whatever ``make`` raises.
    """
    digest = hashlib.sha256(repr(tuple(key)).encode()).hexdigest()[:32]
    entry = folder(kind) / digest
    if not entry.is_dir():
        with locked(entry, say):
            if not entry.is_dir():
                _fill(entry, make)
    refuse_foreign(entry, *entry.iterdir())
    return entry


def _fill(entry: Path, make: Make) -> None:
    for left in entry.parent.glob(f".{entry.name}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    log = entry.with_name(f"{entry.name}.log")
    log.unlink(missing_ok=True)
    try:
        make(scratch, log)
        for path in (*scratch.rglob("*"), scratch):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o022)  # whatever the umask is
                sync(path)
        scratch.rename(entry)
        sync(entry.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def sources(*names: str) -> str:
    """Return a digest of files of this package, or of all Python files in folders of it."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for at in (package / name for name in names):
        for path in [at] if at.is_file() else sorted(at.rglob("*.py")):
            digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


DESIGN = ("hdl", "compile", "program", "run", "link.py")
"""`sources` that a design's RTL may depend on."""


@contextmanager
def locked(path: Path, say: Say = lambda text: None) -> Iterator[None]:
    """Hold ``path`` against other processes; say so before waiting for one that holds it."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is building {path.name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refuse_foreign(*paths: Path) -> None:
    """Raise UnsafeCache if anybody but the user or root can change a path or replace a folder above it.

    Every folder from ``/`` down must belong to one of the two and be writable by its owner alone; a sticky
    one (``/tmp``) may be writable by all. The same holds along the target of every symbolic link.
    """
    for path in paths:
        for part in (*reversed(path.parents), path):
            _refuse_foreign(part)
            if part.is_symlink():
                refuse_foreign(part.parent / part.readlink())


def _refuse_foreign(part: Path) -> None:
    found = part.lstat()
    sticky_folder = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()):
        reason = f"belongs to another user (uid {found.st_uid})"
    elif found.st_mode & 0o022 and not stat.S_ISLNK(found.st_mode) and not sticky_folder:
        reason = f"is writable by others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise UnsafeCache(
        f"the cache {root()} is not used, as compiled code in it is run: {part} {reason}",
        f"set {VARIABLE} to a new folder, at a place that only you can write",
    )
