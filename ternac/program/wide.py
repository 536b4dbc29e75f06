"""The integer arithmetic of the wide ops, for models trained elsewhere (16-bit vectors, scales per token).

Normative like :mod:`ternac.program.numerics`, whose conventions hold here: integer arrays of any shape with
the vector on the last axis, arithmetic right shifts that round half up, saturation after rounding.  All
functions compute in int64, which provably suffices; a scalar of a session (the ``m`` of :func:`quant` and
:func:`rescale`) is a vector of one element, ``[..., 1]``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.numerics import I16_MAX, IntArray, rshift_round, sat8, sat16, saturate

MAX_EPS = (1 << 46) - 1
MAX_RMS_SHIFT = 40
MAX_WIDE_SHIFT = 62
MAX_RESCALE = (1 << 24) - 1
ROOT_BITS, INVERSE_BITS = 8, 47  # fraction bits of a root; numerator of its inverse
QUANT_BITS = 24
CURVE_POINTS = 1025  # 1024 segments of 64 codes each over the whole range of i16
UNIT = 1 << 15  # what a weight of BLEND is a fraction of


def _wide(x: Any) -> npt.NDArray[np.int64]:
    return np.asarray(x, np.int64)


def _narrow(x: Any) -> IntArray:
    out: IntArray = np.asarray(x).astype(np.int32)
    return out


def inverse_root(ss: int) -> int:
    """``2**47 // isqrt(ss << 16)``, 0 for ``ss == 0``; ``0 <= ss < 2**47``.

    ``|x| * inverse_root(ss) <= 2**39`` for every ``x`` with ``x*x <= ss``.
    """
    return (1 << INVERSE_BITS) // math.isqrt(ss << (2 * ROOT_BITS)) if ss else 0


def rmsnorm(x: Any, eps: int, shift: int) -> IntArray:
    """RMSNORM: ``sat16(rshift_round(x * R, shift))``, ``R = inverse_root(sum(x*x) + eps)``; x i16[..., n].

    So a result of ``2**(39 - shift)`` stands for an element that alone makes up the whole vector.
    """
    x = _wide(x)
    ss = np.sum(x * x, axis=-1)
    inverse = [inverse_root(int(v) + eps) for v in ss.reshape(-1)]
    return _narrow(sat16(rshift_round(x * np.array(inverse, np.int64).reshape(ss.shape)[..., None], shift)))


def scale(x: Any, gain: Any, shift: int) -> IntArray:
    """SCALE: ``sat16(rshift_round(x * gain, shift))`` for i16 x and a constant i16 gain per element."""
    return _narrow(sat16(rshift_round(_wide(x) * _wide(gain), shift)))


def peak(x: Any) -> IntArray:
    """PEAK: ``[min(max |x|, 32767)]``, i16[..., n] to i16[..., 1]."""
    return _narrow(np.minimum(np.abs(_wide(x)).max(axis=-1, keepdims=True), I16_MAX))


def quant(x: Any, m: Any) -> IntArray:
    """QUANT: ``sat8(rshift_round(x * R, 24))``, ``R = (127 << 24) // m``, 0 for ``m == 0``; m 0..32767."""
    m = _wide(m)
    inverse = np.where(m > 0, (127 << QUANT_BITS) // np.maximum(m, 1), 0)
    return _narrow(sat8(rshift_round(_wide(x) * inverse, QUANT_BITS)))


def rescale(x: Any, m: Any, multiplier: int, shift: int, dtype: str) -> IntArray:
    """RESCALE: ``sat(rshift_round(x * m * multiplier, shift))``; x acc or i16, m 0..32767 of the session."""
    return _narrow(saturate(rshift_round(_wide(x) * (_wide(m) * multiplier), shift), dtype))


def interp(x: Any, curve: Any) -> IntArray:
    """INTERP: piecewise linear function of an i16: ``t[i] + rshift_round((t[i+1] - t[i]) * r, 6)``.

    ``i = (x + 32768) >> 6``, ``r = (x + 32768) & 63``, ``t`` the curve i16[1025]; the result lies between the
    two points.
    """
    at, points = _wide(x) + 32768, _wide(curve)
    i = at >> 6
    low = points[i]
    return _narrow(low + rshift_round((points[i + 1] - low) * (at & 63), 6))


def mul16(a: Any, b: Any, shift: int, dtype: str) -> IntArray:
    """MUL16: ``sat(rshift_round(a * b, shift))``; a, b i8 or i16."""
    return _narrow(saturate(rshift_round(_wide(a) * _wide(b), shift), dtype))


def blend(h: Any, c: Any, e: Any) -> IntArray:
    """BLEND: ``h + rshift_round(e * (c - h), 15)``; h, c i16, e 0..32767; the result lies between h and c."""
    h = _wide(h)
    return _narrow(h + rshift_round(_wide(e) * (_wide(c) - h), 15))
