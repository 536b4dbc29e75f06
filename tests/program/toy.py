"""Op kinds that only tests declare, and programs that use them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ternac.program.numerics import saturate
from ternac.program.ops import Constant, Dtype, Input, Integer, Op, OpKind, Role, State, Value
from ternac.program.program import Program


def leak(x: Any, offset: Any, shift: int, dtype: str | None) -> Any:
    """LEAK: x - x * 2**-shift + offset, saturated."""
    x = np.asarray(x, np.int64)
    raw = x - (x >> shift) + offset
    return raw if dtype is None else saturate(raw, dtype).astype(np.int32)


LEAK = OpKind(
    "LEAK",
    "Forgets a part of a vector and adds a constant.",
    inputs=(Input("x", ("i8", "i16")),),
    attrs={
        "offset": Constant(Role("offset", np.int16, (None,), widened=np.int64)),
        "shift": Integer(1, 15, default=4),
        "dtype": Dtype(),
    },
    result="dtype[n]",
    numpy=leak,
    saturates=True,
)


def leaky_program(**attrs: Any) -> Program:
    """Token to a state that leaks; logits are the state."""
    rng = np.random.default_rng(1)
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 0}),
        Op("LOAD", "old", ("s",)),
        Op("LEAK", "kept", ("old",), {"offset": "o", "dtype": "i16", **attrs}),
        Op("ADD", "new", ("kept", "r"), {"dtype": "i16"}),
        Op("STORE", "s", ("new",)),
        Op("LEAK", "logits", ("new",), {"offset": "o", "shift": 1, "dtype": "i16"}),
    )
    consts = {
        "E": rng.integers(-128, 128, (6, 6)).astype(np.int8),
        "o": np.full(6, 20000, np.int16),
    }
    return Program("toy", 6, ops, consts, {"s": 6}, "logits", 4)


def tally(x: Any, which: Any = None, *, sums: Any, modulus: int) -> Any:
    """TALLY: what the state holds at the digits of ``which`` (all places without it); then adds x to it."""
    before = sums.astype(np.int32)
    sums[...] = (before + x) % modulus
    return before if which is None else np.take_along_axis(before, which % before.shape[-1], -1)


TALLY = OpKind(
    "TALLY",
    "Reads a state, then adds a vector to it in place.",
    inputs=(Input("x", ("i8",)), Input("which", ("i16",), own_length=True, optional=True)),
    attrs={"sums": State(writes=True), "modulus": Integer(1, 32768)},
    numpy=tally,
    rule=lambda op, ins, scope: Value.full("i16", ins[-1].length),
)


def tallying_program(**attrs: Any) -> Program:
    """Adds a row for each token to a state; logits are what it held before, at places the token names."""
    ops = (
        Op("GATHER16", "places", (), {"embed": "P"}),
        Op("GATHER", "row", (), {"embed": "E", "shift": 8}),
        Op("REQUANT", "x", ("row",), {"shift": 0, "dtype": "i8"}),
        Op("TALLY", "before", ("x", "places"), {"sums": "s", "modulus": 1000, **attrs}),
        Op("TALLY", "logits", ("x",), {"sums": "t", "modulus": 32768}),
        Op("ADD", "unused", ("before", "before"), {"dtype": "i16"}),
    )
    rng = np.random.default_rng(4)
    consts = {"E": rng.integers(-128, 128, (5, 5)).astype(np.int8), "P": np.ones((5, 3), np.int16)}
    return Program("tally", 5, ops, consts, {"s": 5, "t": 5}, "logits", 4)
