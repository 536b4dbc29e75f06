"""Ternac as a user has it: a wheel, built from a copy of the tree, in an environment of its own.

The interpreters are those of ``TERNAC_PYTHONS``, names or paths, which ``make docs-check PYTHONS="python3.11
python3.13"`` sets; else the one that runs the tests and every supported ``python3.N`` on PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from ternac import cache

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("ternac", "model", "hdl", "sim", "host", "bitstreams")
OTHERS = ("docs", "tests", ".ci")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "Makefile", "CHANGELOG.md",
         "CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml", ".pre-commit-config.yaml")  # fmt: skip
EXTRAS = ("train", "serve", "cuda", "test")
"""Extras that the pages use."""

PROBE = """
import importlib.util, json, platform, sys
spec = importlib.util.find_spec
folder = spec("numpy") and spec("numpy").submodule_search_locations[0].removesuffix("/numpy")
whole = all(spec(name) for name in ("torch", "fastapi", "amaranth", "setuptools", "openai"))
print(json.dumps([list(sys.version_info[:2]), platform.python_version(), folder if whole else None]))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python: its executable, version (also as numbers), and the folder of packages if it has them all."""

    executable: str
    version: str
    numbers: tuple[int, int]
    packages: str | None


def supported() -> list[tuple[int, int]]:
    """The versions that pyproject.toml names, oldest first."""
    found = re.findall(r"Python :: (\d+)\.(\d+)", "\n".join(PROJECT["classifiers"]))
    return sorted((int(major), int(minor)) for major, minor in found)


def probe(executable: str) -> Interpreter | None:
    """Return what an interpreter is, or None if it does not run."""
    path = shutil.which(executable)
    if path is None:
        return None
    path = str(Path(path).absolute())
    done = subprocess.run([path, "-c", PROBE], capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        return None
    numbers, version, packages = json.loads(done.stdout)
    return Interpreter(path, version, tuple(numbers), packages)


def interpreters() -> list[Interpreter]:
    """Every interpreter that the tests of an installed wheel use, this one first.

    Raises ValueError if one that ``TERNAC_PYTHONS`` names does not run.
    """
    named = os.environ.get("TERNAC_PYTHONS", "").split()
    here = probe(sys.executable)
    assert here is not None
    if named:
        found = {name: probe(name) for name in named}
        missing = [name for name, interpreter in found.items() if interpreter is None]
        if missing:
            raise ValueError(f"TERNAC_PYTHONS names {', '.join(missing)}, which does not run")
        return [here if one.numbers == here.numbers else one for one in found.values() if one is not None]
    others = [probe(f"python{major}.{minor}") for major, minor in supported()]
    return [here, *(one for one in others if one is not None and one.numbers != here.numbers)]


def copy_of_the_tree(source: Path) -> None:
    """Copy what wheel and archive are built from, without what was compiled here."""
    for folder in (*FOLDERS, *OTHERS):
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignore)
    for file in FILES:
        shutil.copy(ROOT / file, source)


def build_wheel(source: Path, out: Path, python: str = sys.executable, **environment: str) -> Path:
    """Build a wheel from a copy of the tree, with the setuptools that is there: no network."""
    pytest.importorskip("setuptools", reason="setuptools is not installed: make env-test")
    copy_of_the_tree(source)
    return wheel_of(source, out, python, **environment)


def wheel_of(source: Path, out: Path, python: str = sys.executable, **environment: str) -> Path:
    """Build a wheel of an unpacked source, into an empty folder."""
    command = [sys.executable, "-m", "pip", "--python", python, "wheel", "-q", "-w", str(out), str(source)]
    command += ["--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("ternac-*.whl")
    return built


def packages(interpreter: Interpreter) -> str:
    """Return a folder with all that Ternac and its extras depend on; installed once, into the cache."""
    if interpreter.packages:
        return interpreter.packages
    wanted = [*PROJECT["dependencies"], "setuptools>=77,<81"]
    for extra in EXTRAS:
        wanted += [one for one in PROJECT["optional-dependencies"][extra] if not one.startswith("ternac[")]

    def make(folder: Path, log: Path) -> None:
        command = [sys.executable, "-m", "pip", "--python", interpreter.executable, "install", "-q"]
        with log.open("w") as out:
            subprocess.run(
                [*command, "--target", str(folder), *wanted],
                check=True,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    return str(cache.cached("docs-packages", [interpreter.version, *sorted(wanted)], make))


def environment(interpreter: Interpreter, folder: Path) -> Path:
    """Make ``folder/.venv`` with the wheel in it, and beside it all that it depends on; return it.

    The dependencies are a folder on its path: so it is made in seconds, and has no link to the repository.
    """
    (folder / "source").mkdir(parents=True)
    at = folder / ".venv"
    subprocess.run([interpreter.executable, "-m", "venv", "--without-pip", str(at)], check=True)
    python = at / "bin" / "python"
    (site,) = at.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(packages(interpreter) + "\n")
    wheel = build_wheel(folder / "source", folder / "dist", str(python))
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--ignore-installed"]
    subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
    shutil.rmtree(folder / "source")
    return at
