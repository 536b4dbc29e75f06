"""Shipped models by name: ``model/zoo/<name>/program.safetensors``."""

from __future__ import annotations

from pathlib import Path

from ternac.errors import UsageError
from ternac.program.file import load
from ternac.program.program import Program

ZOO = Path(__file__).resolve().parents[1] / "model" / "zoo"
DEFAULT = "shakespeare"
PROGRAM = "program.safetensors"
TEXT = Path(__file__).resolve().parents[1] / "model" / "data" / "tinyshakespeare.txt"


def names() -> list[str]:
    """Names of the shipped models, sorted."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{PROGRAM}"))


def resolve(name_or_path: str | Path | None = None) -> Path:
    """Path of a program: a zoo name, a file, or a folder that holds ``program.safetensors``.

    A zoo name wins over a path of the same name (write ``./name`` for the path).  Raises UsageError.
    """
    given = str(name_or_path or DEFAULT)
    if given in names():
        return ZOO / given / PROGRAM
    path = Path(given)
    if path.is_dir() and (path / PROGRAM).is_file():
        return path / PROGRAM
    if path.is_file():
        return path
    if path.is_dir() and any(path.glob("*.safetensors")):
        hint = f"export one: ternac export {path}"
        if (path / "config.json").is_file():
            hint = f"import one: ternac import mmfreelm {path} --out program.safetensors"
        raise UsageError(f"no program in {path}, only checkpoints", hint)
    shipped = ", ".join(names()) or "none"
    raise UsageError(f"no program file or shipped model {given!r}", f"shipped models: {shipped}")


def open_program(name_or_path: str | Path | None = None) -> Program:
    """Load the program that :func:`resolve` finds."""
    return load(resolve(name_or_path))
