"""Files of counts that commands write and pages show: rows of JSON, merged by the command itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ternac.files import write_text

__all__ = ["merge"]

Row = dict[str, Any]


def merge(file: Path, rows: list[Row], keys: Sequence[str]) -> list[Row]:
    """Put ``rows`` into a file in place of those with the same values of ``keys``; returns all that it holds
    then, in the order of the keys.
    """
    held: list[Row] = json.loads(file.read_text()) if file.exists() else []

    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row[name]) for name in keys)

    new = {key(row) for row in rows}
    merged = sorted([row for row in held if key(row) not in new] + rows, key=key)
    write_text(file, json.dumps(merged, indent=1) + "\n")
    return merged
