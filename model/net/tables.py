"""The three look-up tables of a model, as integers (NumPy only).

Rules: docs/numerics.md. The tables travel inside the program, so that no executor ever computes a
transcendental function.
"""

from __future__ import annotations

import math

import numpy as np

from ternac.errors import UsageError


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def codes(frac: int) -> list[float]:
    """Return the 256 values of the i8 codes of ``frac`` fraction bits, from code -128 up."""
    return [code * 2.0**-frac for code in range(-128, 128)]


def sigmoid_table(frac: int, bias: float = 0.0) -> np.ndarray:
    """i16[256]: forget gate 0..255 (256 * sigmoid, the top clipped) by i8 code of ``frac`` fraction bits.

    ``bias`` is added before the sigmoid.
    """
    return np.array([min(255, round(256 * _sigmoid(x + bias))) for x in codes(frac)], dtype=np.int16)


def silu_table(frac: int, frac_out: int) -> np.ndarray:
    """i16[256]: SiLU with ``frac_out`` fraction bits by i8 code of ``frac`` fraction bits."""
    values = [round(x * _sigmoid(x) * 2**frac_out) for x in codes(frac)]
    return np.clip(values, -32768, 32767).astype(np.int16)


def sigmoid_slope(frac: int, bias: float = 0.0) -> np.ndarray:
    """float64[256]: derivative of the sigmoid table by its code (units: table value per code)."""
    s = np.array([_sigmoid(x + bias) for x in codes(frac)])
    return 256 * s * (1 - s) * 2.0**-frac


def silu_slope(frac: int, frac_out: int) -> np.ndarray:
    """float64[256]: derivative of the SiLU table by its code (units: table value per code)."""
    x = np.array(codes(frac))
    s = np.array([_sigmoid(v) for v in x])
    return (s + x * s * (1 - s)) * 2.0 ** (frac_out - frac)


def norm_table(n: int, gain_bits: int, pre: int, gain: float = 1.0) -> tuple[np.ndarray, int]:
    """(rsqrt table u8[256], post) of a NORM over ``n`` elements whose RMS 1.0 is G = gain * 2**gain_bits.

    From G * sqrt(n) / 2**pre = M / 2**post with 127.5 < M <= 255: table[idx] = round(M * 8 / sqrt(idx)) for
    64 <= idx <= 255, where idx is the normalised sum of squares, taken at the middle of its step.
    """
    target = gain * 2.0**gain_bits * math.sqrt(n) / 2.0**pre
    post = math.floor(math.log2(255.0 / target))
    if not 0 <= post <= 31:
        raise UsageError(f"no NORM shift for n={n}, gain 2**{gain_bits}, pre {pre} (post would be {post})")
    m = target * 2.0**post
    table = [0 if idx < 64 else min(255, round(m * 8 / math.sqrt(idx + 0.5))) for idx in range(256)]
    return np.array(table, dtype=np.uint8), post
