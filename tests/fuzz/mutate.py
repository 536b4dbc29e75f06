"""Mutations of bytes and of JSON: what a damaged or a hostile file looks like."""

from __future__ import annotations

import json
import random
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    -1,
    255,
    256,
    4095,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63,
    2**64 - 1,
)
VALUES: tuple[Any, ...] = (
    None, True, False, *NUMBERS, 0.5, -1.5, 1e308, float("nan"), float("inf"), 10**30, "", "0", "a", "\ud800",
    "\0", "../x", "x" * 5000, "(a+)+$", "\ufdfa", [], [[]], {}, {"": None},
    "@deep",
)  # fmt: skip
DEEP, LEVELS = "@deep", 3000
MOST = 1 << 16
"""Bytes to which an input may grow."""


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return ``data`` with one to four changes; ``others`` are inputs to take parts from."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(found) + 1)
        length = min(rng.choice((1, 2, 4, 8, rng.randrange(1, 200))), len(found) - at)
        kind = rng.randrange(8)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[at : at + length]
        elif kind == 2:
            found[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == 3:
            found[at:at] = found[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 4:  # a number of a header
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
            found[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 5 and others:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            found[at : at + length] = other[start : start + rng.randrange(1, 100)]
        elif kind == 6:
            del found[at:]
        else:
            found[at : at + length] = (
                rng.choice((b"\0", b"\xff", b"\xc0", b"\xdb", b"\n", b'"', b"[")) * length
            )
    return bytes(found[:MOST])


def mutated_json(rng: random.Random, value: Any) -> Any:
    """Return a copy of ``value`` with one to three changes in it; each adds `MOST` bytes at most."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        # A copy for each: what is repeated is one object, in which the next change would happen everywhere.
        value = _changed(rng, json.loads(json.dumps(value)))
    return value


def _changed(rng: random.Random, value: Any) -> Any:
    places = list(_places(value))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, name = rng.choice(places)
        if name in other if isinstance(other, dict) else name < len(other):
            holder[key] = json.loads(json.dumps(other[name]))
    elif kind == 2 and isinstance(holder, list):
        room = MOST // len(json.dumps(holder[key]))
        holder[key:key] = [holder[key]] * min(rng.choice((1, 3, 300)), room)
    elif kind == 2:
        holder[rng.choice(("", "x", "type", "\ud800", "0"))] = holder.pop(key)
    elif kind == 3 and type(holder[key]) is int:
        holder[key] += rng.choice((-1, 1, 8, -8, 1000))
    elif kind == 4:
        for _ in range(rng.choice((1, 40))):
            holder[key] = [holder[key]]
    elif kind == 5 and isinstance(holder[key], str):
        text = holder[key]
        holder[key] = rng.choice((text[:-1], text + "x", text * 2, text.upper(), text.swapcase()))
    else:
        holder[key] = rng.choice(VALUES)
    return value


def _places(value: Any) -> Any:
    """Yield (container, key) of everything in ``value``; without recursion, for it may be deep."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict | list):
            for key in list(one) if isinstance(one, dict) else range(len(one)):
                yield one, key
                todo.append(one[key])


def dumped(value: Any) -> str:
    """Return JSON text; NaN and lone surrogates stay what they are, and `DEEP` is nested deep."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).replace(
        f'"{DEEP}"', "[" * LEVELS + "]" * LEVELS
    )
