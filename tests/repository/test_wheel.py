"""The wheel works away from the repository: all packages, training text, shipped models, harness."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.repository.installed import FOLDERS, ROOT, build_wheel, copy_of_the_tree, wheel_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"))


def test_the_archive_of_the_source_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Same names, same bytes but for what the compiler made; and `make` finds what it needs."""
    (tmp_path / "tree").mkdir()
    copy_of_the_tree(tmp_path / "tree")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "tree", check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    again = wheel_of(source, tmp_path / "again")

    def contents(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
            return {name: b"" if name.endswith((".so", "RECORD")) else packed.read(name) for name in names}

    assert contents(again) == contents(wheel)
    for name in ("Makefile", "tests/conftest.py", "docs/tutorial.md", ".ci/run", "mkdocs.yml"):
        assert (source / name).exists(), name
    for folder in FOLDERS[1:]:
        assert (source / "ternac" / folder).is_symlink()


def test_wheel_without_a_compiler_installs_and_says_so(tmp_path: Path) -> None:
    """The C part is optional: the package is there, the native executor names what is missing."""
    (tmp_path / "source").mkdir()
    (tmp_path / "site").mkdir()
    built = build_wheel(tmp_path / "source", tmp_path, CC="/nowhere/cc")
    zipfile.ZipFile(built).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "ternac.cli", "run", "--device", "native", "--json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "ToolMissing"
    assert "was not compiled" in error["message"]
    assert "gcc" in error["hint"]


def test_wheel_holds_code_and_data_under_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"ternac"}
    for folder in ("model", "hdl", "sim", "host"):
        here = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        assert {f"ternac/{path}" for path in here} <= set(names)
    assert sum(name.startswith("ternac/host/native/_native.") for name in names) == (
        shutil.which("cc") is not None
    )
    data = [*(ROOT / "model" / "data").iterdir(), *(ROOT / "model" / "zoo").glob("*/*")]
    data += [path for path in (ROOT / "bitstreams").rglob("*") if path.is_file()]
    data += [path for path in (ROOT / "sim").iterdir() if path.suffix in (".cpp", ".h")]
    data += [path for path in (ROOT / "host" / "native").iterdir() if path.suffix in (".c", ".h")]
    data += (ROOT / "model").glob("*.cpp")
    data += (ROOT / "host" / "server" / "pages").iterdir()
    for path in data:
        assert f"ternac/{path.relative_to(ROOT).as_posix()}" in names
    assert "ternac/py.typed" in names


def test_installed_wheel_finds_the_shipped_model(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        ).stdout

    assert run("-c", "import ternac.hdl, ternac; print(ternac.__file__)").startswith(str(site))
    assert "example:" in run("-m", "ternac.cli", "eval", "--help")
    where = run(
        "-c", "from ternac.program.zoo import resolve, open_program; open_program(); print(resolve())"
    ).strip()
    assert Path(where).is_relative_to(site)
