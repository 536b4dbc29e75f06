"""JSON as program files use it: one way to write, and a reader that refuses what Python's lets pass."""

from __future__ import annotations

import json
from typing import Any

from ternac.limits import MAX_DEPTH


class BadJson(Exception):
    """A text that is not JSON as program files use it; callers turn it into their typed error."""


def dump(value: Any) -> str:
    """ASCII, sorted keys, no spaces, no NaN; TypeError or ValueError on what JSON cannot say."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def parse(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ASCII ``data``; BadJson on duplicate keys, NaN, deep nesting or anything else."""

    def no_constant(name: str) -> Any:
        raise BadJson(f"{what}: {name} is not a number")

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadJson(f"{what}: a key appears twice")
        return found

    try:
        text = data.decode("ascii")
        value = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "is not valid JSON in ASCII"
        raise BadJson(f"{what}: {reason}") from None
    if not isinstance(value, dict):
        raise BadJson(f"{what}: not an object")
    return value


def fields(value: Any, what: str, names: tuple[str, ...] | None, kind: type | None = None) -> dict[str, Any]:
    """``value`` if it is an object with exactly the keys ``names`` (None: any) and values of ``kind``."""
    if not isinstance(value, dict):
        raise BadJson(f"{what}: not an object")
    if names is not None:
        for name in names:
            if name not in value:
                raise BadJson(f"{what}: field {name} is missing")
        for name in value:
            if name not in names:
                raise BadJson(f"{what}: unknown field {name[:96]!r}")
    if kind is not None and not all(type(item) is kind for item in value.values()):
        raise BadJson(f"{what}: a value is not {kind.__name__}")
    return value


def items(value: Any, what: str, limit: int) -> list[Any]:
    """``value`` if it is a list of at most ``limit`` items."""
    if not isinstance(value, list):
        raise BadJson(f"{what}: not a list")
    if len(value) > limit:
        raise BadJson(f"{what}: {len(value)} items, limit {limit}")
    return value


def integers(value: Any, what: str, least: int, most: int, low: int, high: int) -> list[int]:
    """``value`` if it is a list of ``least`` to ``most`` integers in ``low..high``."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise BadJson(f"{what}: not a list of {least} to {most} integers")
    if not all(type(item) is int and low <= item <= high for item in value):
        raise BadJson(f"{what}: not integers in {low}..{high}")
    return value


def check_data(value: Any, what: str, depth: int = 0) -> None:
    """BadJson unless ``value`` is plain finite JSON data: it survives writing and reading unchanged."""
    if depth > MAX_DEPTH:
        raise BadJson(f"{what}: nested deeper than {MAX_DEPTH}")
    if value is None or type(value) in (bool, str):
        return
    if type(value) is int and abs(value) < 1 << 63:
        return
    if type(value) is float and value - value == 0:
        return
    if type(value) is list:
        for item in value:
            check_data(item, what, depth + 1)
    elif type(value) is dict and all(type(key) is str for key in value):
        for item in value.values():
            check_data(item, what, depth + 1)
    else:
        raise BadJson(f"{what}: {str(value)[:40]!r} is not plain JSON data")
