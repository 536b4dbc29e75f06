"""Op kinds of models trained elsewhere: 16-bit vectors, norm weights, a scale per token; no engine has them.

The arithmetic is normative like :mod:`ternac.program.numerics`, whose conventions hold here: integer arrays
of any shape with the vector on the last axis, arithmetic right shifts that round half up, saturation after
rounding (``dtype`` None: the result before it).  All functions compute in int64, which provably suffices; a
scalar of a session (the ``m`` of :func:`quant` and :func:`rescale`) is a vector of one element, ``[..., 1]``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.numerics import I16_MAX, MAX_SHIFT, IntArray, rshift_round, sat16, saturate
from ternac.program.op_kind import (
    Constant,
    Dtype,
    Input,
    Integer,
    Op,
    OpKind,
    Refused,
    Role,
    Scope,
    Value,
    between_two,
    embedding_row,
    entry_of,
)

MAX_EPS = (1 << 46) - 1
MAX_RMS_SHIFT = 40
MAX_RESCALE_SHIFT = 62
MAX_RESCALE = (1 << 24) - 1
ROOT_BITS, INVERSE_BITS = 8, 47  # fraction bits of a root; numerator of its inverse
QUANT_BITS = 24
CURVE_POINTS = 1025  # 1024 segments of 64 codes each over the whole range of i16
UNIT = 1 << 15  # what a weight of BLEND is a fraction of


def _int64(x: Any) -> npt.NDArray[np.int64]:
    return np.asarray(x, np.int64)


def _result(x: Any, dtype: str | None) -> IntArray:
    out: IntArray = x if dtype is None else saturate(x, dtype).astype(np.int32)
    return out


def gather16(tokens: Any, embed: Any) -> IntArray:
    """GATHER16: rows ``tokens`` of an i16 embedding."""
    out: IntArray = np.asarray(embed)[tokens].astype(np.int32)
    return out


def inverse_root(ss: int) -> int:
    """``2**47 // isqrt(ss << 16)``, 0 for ``ss == 0``; ``0 <= ss < 2**47``.

    ``|x| * inverse_root(ss) <= 2**39`` for every ``x`` with ``x*x <= ss``.
    """
    return (1 << INVERSE_BITS) // math.isqrt(ss << (2 * ROOT_BITS)) if ss else 0


def rmsnorm(x: Any, eps: int, shift: int, dtype: str | None = "i16") -> IntArray:
    """RMSNORM: ``sat16(rshift_round(x * R, shift))``, ``R = inverse_root(sum(x*x) + eps)``; x i16[..., n].

    So a result of ``2**(39 - shift)`` stands for an element that alone makes up the whole vector.
    """
    x = _int64(x)
    ss = np.sum(x * x, axis=-1)
    inverse = [inverse_root(int(v) + eps) for v in ss.reshape(-1)]
    return _result(rshift_round(x * np.array(inverse, np.int64).reshape(ss.shape)[..., None], shift), dtype)


def scale(x: Any, gain: Any, shift: int, dtype: str | None = "i16") -> IntArray:
    """SCALE: ``sat16(rshift_round(x * gain, shift))`` for i16 x and a constant i16 gain per element."""
    return _result(rshift_round(_int64(x) * _int64(gain), shift), dtype)


def peak(x: Any) -> IntArray:
    """PEAK: ``[min(max |x|, 32767)]``, i16[..., n] to i16[..., 1]."""
    return np.minimum(np.abs(_int64(x)).max(axis=-1, keepdims=True), I16_MAX).astype(np.int32)


def quant(x: Any, m: Any, dtype: str | None = "i8") -> IntArray:
    """QUANT: ``sat8(rshift_round(x * R, 24))``, ``R = (127 << 24) // m``, 0 for ``m == 0``; m 0..32767."""
    m = _int64(m)
    inverse = np.where(m > 0, (127 << QUANT_BITS) // np.maximum(m, 1), 0)
    return _result(rshift_round(_int64(x) * inverse, QUANT_BITS), dtype)


def rescale(x: Any, m: Any, multiplier: int, shift: int, dtype: str | None) -> IntArray:
    """RESCALE: ``sat(rshift_round(x * m * multiplier, shift))``; x acc or i16, m 0..32767 of the session."""
    return _result(rshift_round(_int64(x) * (_int64(m) * multiplier), shift), dtype)


def interp(x: Any, curve: Any) -> IntArray:
    """INTERP: piecewise linear function of an i16: ``t[i] + rshift_round((t[i+1] - t[i]) * r, 6)``.

    ``i = (x + 32768) >> 6``, ``r = (x + 32768) & 63``, ``t`` the curve i16[1025]; the result lies between the
    two points.
    """
    at, points = _int64(x) + 32768, _int64(curve)
    i = at >> 6
    low = points[i]
    out: IntArray = (low + rshift_round((points[i + 1] - low) * (at & 63), 6)).astype(np.int32)
    return out


def mul16(a: Any, b: Any, shift: int, dtype: str | None) -> IntArray:
    """MUL16: ``sat(rshift_round(a * b, shift))``; a, b i8 or i16."""
    return _result(rshift_round(_int64(a) * _int64(b), shift), dtype)


def blend(h: Any, c: Any, e: Any) -> IntArray:
    """BLEND: ``h + rshift_round(e * (c - h), 15)``; h, c i16, e 0..32767; the result lies between h and c."""
    h = _int64(h)
    out: IntArray = (h + rshift_round(_int64(e) * (_int64(c) - h), 15)).astype(np.int32)
    return out


# ---- declarations -------------------------------------------------------------------------------------

EMBED16 = Role("embed16", np.int16, (None, None))
GAIN = Role("gain", np.int16, (None,), widened=np.int64)
CURVE = Role("curve", np.int16, (CURVE_POINTS,), f"a curve has {CURVE_POINTS} points", widened=np.int64)

X = Input("x", ("i16",))
WHOLE_X = Input("x", ("i16",), whole=True)
M = Input("m", ("i16",), scalar=True, what="scale")
NARROW = ("i8", "i16")


def _scale(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    gain, (x,) = scope.consts[op.text("gain")], ins
    if gain.shape[0] != x.length:
        raise Refused(f"gain {op.text('gain')} has {gain.shape[0]} elements, input has {x.length}")
    corners = np.multiply.outer([x.low, x.high], [int(gain.min()), int(gain.max())])
    ends = sat16(rshift_round(corners, op.integer("shift")))
    return Value("i16", x.length, int(ends.min()), int(ends.max()))


def _peak(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    return Value("i16", 1, 0, I16_MAX)


IMPORT_OPS = (
    OpKind(
        "GATHER16",
        "The token's row of a 16-bit embedding.",
        attrs={"embed": Constant(EMBED16)},
        result="i16[d]",
        numpy=gather16,
        rule=embedding_row,
        reads_token=True,
    ),
    OpKind(
        "RMSNORM",
        "Divides a vector by the root of its sum of squares plus `eps`, taken with 8 fraction bits.",
        inputs=(WHOLE_X,),
        attrs={"eps": Integer(0, MAX_EPS), "shift": Integer(0, MAX_RMS_SHIFT)},
        numpy=rmsnorm,
        saturates=True,
    ),
    OpKind(
        "SCALE",
        "Multiplies each element by a constant of its own: the weights of a norm.",
        inputs=(X,),
        attrs={"gain": Constant(GAIN), "shift": Integer(0, MAX_SHIFT)},
        numpy=scale,
        rule=_scale,
        saturates=True,
    ),
    OpKind(
        "PEAK",
        "The largest magnitude of a vector: the scale of a token.",
        inputs=(WHOLE_X,),
        result="i16[1]",
        numpy=peak,
        rule=_peak,
    ),
    OpKind(
        "QUANT",
        "Scales a vector so that `m`, its PEAK, becomes 127.",
        inputs=(X, M),
        result="i8[n]",
        numpy=quant,
        saturates=True,
    ),
    OpKind(
        "RESCALE",
        "Undoes QUANT behind a product: multiplies by the token's scale `m` and by `multiplier` / 2^`shift`.",
        inputs=(Input("x", ("acc", "i16")), M),
        attrs={
            "multiplier": Integer(1, MAX_RESCALE),
            "shift": Integer(0, MAX_RESCALE_SHIFT),
            "dtype": Dtype(),
        },
        result="dtype[n]",
        numpy=rescale,
        saturates=True,
    ),
    OpKind(
        "INTERP",
        "Any function of a 16-bit code, by straight lines between the points of `curve`.",
        inputs=(X,),
        attrs={"curve": Constant(CURVE)},
        numpy=interp,
        rule=entry_of("curve"),
    ),
    OpKind(
        "MUL16",
        "Product of two vectors, the second factor of any size.",
        inputs=(Input("a", NARROW), Input("b", NARROW)),
        attrs={"shift": Integer(0, MAX_SHIFT), "dtype": Dtype()},
        result="dtype[n]",
        numpy=mul16,
        saturates=True,
    ),
    OpKind(
        "BLEND",
        "The recurrence with 15-bit weights: from `h` towards `c` by `e` / 2^15.",
        inputs=(
            Input("h", ("i16",)),
            Input("c", ("i16",)),
            Input("e", ("i16",), within=(0, I16_MAX), what="weight"),
        ),
        numpy=blend,
        rule=between_two,
    ),
)
