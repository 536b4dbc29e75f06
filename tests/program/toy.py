"""An op kind that only tests declare, and a program that uses it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ternac.program.numerics import saturate
from ternac.program.ops import Constant, Dtype, Input, Integer, Op, OpKind, Role
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
