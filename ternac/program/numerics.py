"""The integer arithmetic of every op, as plain NumPy functions on int32 arrays.

This module is the normative definition; ``docs/numerics.md`` says the same in words.  Every function takes
integer arrays of any shape (the last axis is the vector) and returns int32 arrays of the same shape, unless
stated.  Values named i8, i16 and acc are int32 arrays whose elements lie in the range of that type.  Only
:func:`requant` with a multiplier leaves 32 bits on the way.

Shifts are arithmetic (towards minus infinity); right shifts round half up; what does not fit saturates.
Functions with a ``dtype`` saturate to it; with None they return the result before saturation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]

I8_MIN, I8_MAX = -128, 127
I16_MIN, I16_MAX = -32768, 32767
MAX_SHIFT = 31
MAX_DIM = 65535  # longest vector, and most rows or columns of a matrix


def rshift_round(x: Any, s: Any) -> Any:
    """``(x + ((1 << s) >> 1)) >> s``: divide by ``2**s`` and round half up (towards plus infinity).

    ``s`` is 0..31, an int or an int64 array; ``|x|`` must stay below ``2**30`` for int32 arrays.
    """
    return (x + ((1 << s) >> 1)) >> s


def sat8(x: Any) -> Any:
    """Clamp to -128..127."""
    return np.minimum(np.maximum(x, I8_MIN), I8_MAX)  # several times faster than np.clip on short vectors


def sat16(x: Any) -> Any:
    """Clamp to -32768..32767."""
    return np.minimum(np.maximum(x, I16_MIN), I16_MAX)


def saturate(x: Any, dtype: str | None) -> Any:
    """Clamp to the range of ``dtype``, which is ``"i8"`` or ``"i16"``; None: leave ``x`` as it is."""
    return x if dtype is None else sat8(x) if dtype == "i8" else sat16(x)


def gather(row: Any, shift: int) -> Any:
    """GATHER: ``row * 2**(8 - shift)`` for an int8 embedding row; 0 <= shift <= 8, so the result is exact."""
    return np.asarray(row, np.int32) << (8 - shift)


def norm_exponent(ss: int) -> tuple[int, int]:
    """Exponent ``E`` and table index of a sum of squares ``0 <= ss < 2**32``.

    ``ss == 0`` gives ``(0, 0)``; otherwise ``4**E <= ss < 4**(E+1)`` and the index is the top of ``ss``
    aligned to 64..255.
    """
    if ss == 0:
        return 0, 0
    exponent = (int(ss).bit_length() - 1) // 2
    return exponent, (ss >> (2 * exponent - 6)) if exponent >= 3 else (ss << (6 - 2 * exponent))


def norm(x: Any, pre: int, post: int, table: Any, dtype: str | None = "i8") -> IntArray:
    """NORM: i16[..., n] to i8[..., n] with one mantissa and one exponent per vector.

    ``q = sat8(rshift_round(x, pre))``, ``(E, idx)`` from ``sum(q*q)`` (see :func:`norm_exponent`), then
    ``y = sat(rshift_round(x * table[idx], post + E))``.  ``table`` is u8[256].
    """
    x = np.asarray(x, np.int32)
    q = sat8(rshift_round(x, pre))
    ss = np.sum(q * q, axis=-1, dtype=np.int64)
    pairs = [norm_exponent(int(v)) for v in ss.reshape(-1)]
    exponent = np.array([p[0] for p in pairs], np.int64).reshape(ss.shape)[..., None]
    mant = np.asarray(table, np.int32)[np.array([p[1] for p in pairs], np.intp)].reshape(ss.shape)[..., None]
    out: IntArray = saturate(rshift_round(x * mant, post + exponent), dtype).astype(np.int32)
    return out


def max_norm_exponent(n: int) -> int:
    """Largest ``E`` that a NORM over ``n`` elements can meet (all of them -128)."""
    return norm_exponent(n * 128 * 128)[0]


def norm_constants(n: int, gain: float, pre: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Table and ``post`` of a NORM over ``n`` elements that maps a root mean square of 1 to code ``gain``.

    ``M / 2**post`` approximates ``gain * sqrt(n) / 2**pre`` with ``128 <= M <= 255``; the entries are
    ``round(M * 8 / sqrt(idx))`` for ``idx >= 64`` and 0 below.  Raises ``ValueError`` if ``post`` would be
    negative (use a larger ``pre``) or too large.
    """
    ratio = gain * math.sqrt(n) / 2.0**pre
    post = 7 - math.floor(math.log2(ratio))
    mantissa = round(ratio * 2.0**post)
    if mantissa > 255:
        mantissa, post = 128, post - 1
    if not 0 <= post <= MAX_SHIFT - max_norm_exponent(n):
        raise ValueError(f"norm over {n} elements with gain {gain} and pre {pre} needs post {post}")
    return norm_table(mantissa), post


def norm_table(mantissa: int) -> npt.NDArray[np.uint8]:
    """u8[256]: ``round(mantissa * 8 / sqrt(idx))`` for ``idx >= 64``, 0 below; ``1 <= mantissa <= 255``."""
    if not 1 <= mantissa <= 255:
        raise ValueError(f"norm mantissa {mantissa} is outside 1..255")
    idx = np.arange(64, 256)
    table = np.zeros(256, np.uint8)
    table[64:] = np.floor(mantissa * 8 / np.sqrt(idx) + 0.5).astype(np.uint8)
    return table


def tmatvec(trits: Any, x: Any) -> IntArray:
    """TMATVEC: ``acc[..., m] = sum_k trits[m, k] * x[..., k]``; trits in -1..1, x i8, no bias."""
    out: IntArray = (np.asarray(x, np.int64) @ np.asarray(trits, np.int64).T).astype(np.int32)
    return out


def requant(x: Any, shift: int, dtype: str | None, multiplier: int = 1) -> IntArray:
    """REQUANT: ``sat(rshift_round(x * multiplier, shift))`` for acc or i16; the product has 64 bits."""
    wide = np.asarray(x, np.int32) if multiplier == 1 else np.asarray(x, np.int64) * multiplier
    out: IntArray = saturate(rshift_round(wide, shift), dtype)
    return out if dtype is None else out.astype(np.int32, copy=False)


def table(x: Any, table: Any) -> IntArray:
    """TABLE: ``table[x + 128]`` for i8 codes and an i16[256] table."""
    out: IntArray = np.asarray(table, np.int32)[np.asarray(x) + 128]
    return out


def mul(a: Any, b: Any, shift: int, dtype: str | None) -> IntArray:
    """MUL: ``sat(rshift_round(a * b, shift))``; a is i16 or i8, b lies in -256..255."""
    out: IntArray = saturate(rshift_round(np.asarray(a, np.int32) * np.asarray(b, np.int32), shift), dtype)
    return out


def add(a: Any, b: Any, dtype: str | None) -> IntArray:
    """ADD: ``sat(a + b)``."""
    out: IntArray = saturate(np.asarray(a, np.int32) + np.asarray(b, np.int32), dtype)
    return out


def lerp(h: Any, c: Any, f: Any) -> IntArray:
    """LERP: ``c + rshift_round(f * (h - c), 8)``; h, c i16, f in 0..255; the result lies between c and h."""
    h, c = np.asarray(h, np.int32), np.asarray(c, np.int32)
    out: IntArray = c + rshift_round(np.asarray(f, np.int32) * (h - c), 8)
    return out
