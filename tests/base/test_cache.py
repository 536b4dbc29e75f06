"""The cache: each entry is made once and whole, and code that others could have put there is never run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ternac import cache
from ternac.errors import BuildFailed, UnsafeCache, UsageError
from ternac.model.net import kernels

PLANT = """
#include <cstdlib>
__attribute__((constructor)) static void planted() { std::abort(); }
"""
LOAD = "from ternac.model.net.kernels import kernels; kernels(); print('loaded')"


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that ends the process that loads it."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "plant.cpp").write_text(PLANT)
    subprocess.run(
        ["g++", "-shared", "-fPIC", "-o", folder / "step.so", folder / "plant.cpp"], check=True, timeout=120
    )
    return folder / "step.so"


def load_kernels(cwd: Path) -> subprocess.CompletedProcess[str]:
    """Load the training kernels in a process of its own; it would not survive the planted library."""
    return subprocess.run(
        [sys.executable, "-c", LOAD], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def write(scratch: Path, log: Path) -> None:
    (scratch / "made").write_text("whole")


def test_an_entry_is_made_once_for_its_owner_alone(place: Path) -> None:
    made: list[Path] = []

    def make(scratch: Path, log: Path) -> None:
        made.append(scratch)
        write(scratch, log)

    mask = os.umask(0)
    try:
        first = cache.cached("kind", ["a", "b"], make)
    finally:
        os.umask(mask)
    assert cache.cached("kind", ["a", "b"], make) == first and len(made) == 1
    assert (first / "made").read_text() == "whole" and first.parent == place / "kind"
    for path in (place, place / "kind", first, first / "made"):
        assert not path.stat().st_mode & 0o022, path
    assert cache.cached("kind", ["ab"], make) != first and cache.cached("other", ["a", "b"], make) != first
    assert cache.size() > 0


def test_what_fails_or_is_killed_leaves_no_entry(place: Path) -> None:
    def fail(scratch: Path, log: Path) -> None:
        (scratch / "half").write_text("")
        log.write_text("the reason")
        raise BuildFailed(f"see {log}")

    with pytest.raises(BuildFailed, match="see") as caught:
        cache.cached("kind", ["a"], fail)
    assert Path(str(caught.value).removeprefix("see ")).read_text() == "the reason"
    entry = cache.cached("kind", ["a"], write)
    assert [path.name for path in entry.iterdir()] == ["made"]
    shutil.rmtree(entry)
    (place / "kind" / f".{entry.name}.left").mkdir()  # of a process that was killed
    assert cache.cached("kind", ["a"], write) == entry
    assert [path.name for path in (place / "kind").iterdir() if path.is_dir()] == [entry.name]


def test_others_wait_for_the_one_that_makes_it() -> None:
    made, said, started = [], [], threading.Event()

    def make(scratch: Path, log: Path) -> None:
        made.append(scratch)
        started.set()
        time.sleep(0.2)
        write(scratch, log)

    with ThreadPoolExecutor() as pool:
        one = pool.submit(cache.cached, "kind", ["a"], make)
        assert started.wait(10)
        two = pool.submit(cache.cached, "kind", ["a"], make, say=said.append)
        assert one.result() == two.result()
    assert len(made) == 1 and "waiting for it" in said[0]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
@pytest.mark.parametrize("which", ["", "kind", "entry", "file"])
def test_what_others_can_write_is_refused(place: Path, which: str, mode: int) -> None:
    entry = cache.cached("kind", ["a"], write)
    bad = {"": place, "kind": place / "kind", "entry": entry, "file": entry / "made"}[which]
    bad.chmod(mode)
    with pytest.raises(UnsafeCache, match=f"{bad} is writable by others") as caught:
        cache.cached("kind", ["a"], write)
    assert "set TERNAC_CACHE" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("which", ["", "kind", "entry", "file"])
def test_what_another_user_owns_is_refused(place: Path, which: str) -> None:
    entry = cache.cached("kind", ["a"], write)
    bad = {"": place, "kind": place / "kind", "entry": entry, "file": entry / "made"}[which]
    os.chown(bad, 12345, -1)
    with pytest.raises(UnsafeCache, match=f"{bad} belongs to another user"):
        cache.cached("kind", ["a"], write)


def test_nothing_is_made_where_others_can_write(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(UnsafeCache, match="writable by others"):
        cache.cached("kind", ["a"], write)
    assert not list((place / "kind").iterdir())


def test_links_are_followed_to_what_they_hide(place: Path, tmp_path: Path) -> None:
    """A cache moved to another disk by a link is fine, one whose target others can write is not."""
    real = tmp_path / "disk" / "real"
    real.mkdir(parents=True)
    place.symlink_to(real)
    entry = cache.cached("kind", ["a"], write)
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(UnsafeCache, match=f"{tmp_path / 'disk'} is writable by others"):
        cache.cached("kind", ["a"], write)
    (tmp_path / "disk").chmod(0o755)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (entry / "made").rename(tmp_path / "open" / "made")
    (entry / "made").symlink_to("../../../../open/made")
    with pytest.raises(UnsafeCache, match="open is writable by others"):
        cache.cached("kind", ["a"], write)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_link_of_another_user_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    place.symlink_to(tmp_path / "mine")
    os.chown(place, 12345, -1, follow_symlinks=False)
    with pytest.raises(UnsafeCache, match="belongs to another user"):
        cache.cached("kind", ["a"], write)


def test_a_cache_that_cannot_be_made_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERNAC_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UsageError, match="cannot make the cache folder"):
        cache.cached("kind", ["a"], write)


def test_the_users_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TERNAC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    assert cache.root() == tmp_path / "mine" / "ternac"


def test_a_library_planted_in_the_current_folder_is_not_run(tmp_path: Path, planted: Path) -> None:
    """Of every name that the kernels could have there."""
    digest = kernels.build().parent.name
    for folder in ("build/native", "build/kernels", "kernels", "native"):
        (tmp_path / folder / digest).mkdir(parents=True)
        shutil.copy(planted, tmp_path / folder / digest / "step.so")
    shutil.copy(planted, tmp_path / "step.so")
    assert load_kernels(tmp_path).stdout == "loaded\n"


def test_a_library_planted_in_the_cache_of_others_is_not_run(
    tmp_path: Path, place: Path, planted: Path
) -> None:
    library = kernels.build()
    shutil.copy(planted, library)
    assert load_kernels(tmp_path).returncode == -6  # the planted one does run where it is trusted
    library.parent.chmod(0o777)
    done = load_kernels(tmp_path)
    assert done.returncode == 1 and "UnsafeCache" in done.stderr and "loaded" not in done.stdout
