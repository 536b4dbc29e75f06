"""Shipped bitstreams and their manifests, bitstreams/<board>/<geometry>/manifest.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ternac.errors import UsageError

BITSTREAMS = Path(__file__).parent / "bitstreams"


def folder(board: str, geometry: str) -> Path:
    """Folder of the shipped bitstream for a board and geometry, whether or not it exists."""
    return BITSTREAMS / board / geometry


def read_manifest(board: str, geometry: str) -> dict[str, Any] | None:
    """The manifest of a shipped bitstream, or None when none is shipped.

    Raises:
        UsageError: if the manifest is there but cannot be read.
    """
    path = folder(board, geometry) / "manifest.json"
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", f"make it again: ternac build --board {board}"
        ) from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} is not a manifest", f"make it again: ternac build --board {board}")
    return data
