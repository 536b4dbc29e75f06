"""Shipped bitstreams and their manifests, ``bitstreams/<board>/<geometry>/manifest.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ternac.files import read_json

BITSTREAMS = Path(__file__).parent / "bitstreams"
DEFAULT_BOARD = "ulx3s-85f"
"""The board where none is named."""


def folder(board: str, geometry: str) -> Path:
    """Return the folder of the shipped bitstream for a board and geometry, whether or not it exists."""
    return BITSTREAMS / board / geometry


def in_checkout() -> bool:
    """Return whether the package is a checkout, whose shipped files a build may replace."""
    return (Path(__file__).resolve().parents[1] / "pyproject.toml").is_file()


def read_manifest(board: str, geometry: str) -> dict[str, Any] | None:
    """Return the manifest of a shipped bitstream, or None if none is shipped.

    Raises UsageError if the manifest is there but cannot be read.
    """
    path = folder(board, geometry) / "manifest.json"
    if not path.exists():
        return None
    return read_json(path, hint=f"make it again: ternac build --board {board}")
