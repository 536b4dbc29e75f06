"""Random small programs, for tests that must not depend on one trained model.

:func:`random_program` has the shape of the language model, :func:`random_mmfree` that of an imported MMfreeLM
model, with every op of imports.  Scales are chosen so that values spread over their ranges without all
saturating; shapes, depth, tables and shifts vary.  The same generator state always gives the same program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.builder import NormParams
from ternac.program.import_ops import CURVE_POINTS, INVERSE_BITS, ROOT_BITS, UNIT
from ternac.program.language_model import SHIFTS, WEIGHTS, LayerParams, LMParams, build_lm
from ternac.program.mmfree import I16, Factor, Gain, Layer, Linear, Norms, Rms, build_mmfree
from ternac.program.numerics import norm_constants
from ternac.program.program import Program

GAIN = 32.0
TABLE_SCALE_BITS, STATE_SCALE_BITS = 4, 12


def sigmoid_table() -> npt.NDArray[np.int16]:
    """i16[256]: ``round(256 * sigmoid(code / 16))`` limited to 0..255."""
    x = np.arange(-128, 128) / 2.0**TABLE_SCALE_BITS
    return np.clip(np.floor(256 / (1 + np.exp(-x)) + 0.5), 0, 255).astype(np.int16)


def silu_table() -> npt.NDArray[np.int16]:
    """i16[256]: ``round(4096 * silu(code / 16))``."""
    x = np.arange(-128, 128) / 2.0**TABLE_SCALE_BITS
    return np.floor(x / (1 + np.exp(-x)) * 2.0**STATE_SCALE_BITS + 0.5).astype(np.int16)


def random_program(
    rng: np.random.Generator,
    d: int | None = None,
    m: int | None = None,
    layers: int | None = None,
    vocab: int | None = None,
) -> Program:
    """A legal random program; what is not given is drawn (d 1..40, m 1..64, 1..3 layers, vocab 2..48).

    It has one norm table, one sigmoid and one SiLU table, so that it fits small engines.
    """
    d = int(rng.integers(1, 41)) if d is None else d
    m = int(rng.integers(1, 65)) if m is None else m
    layers = int(rng.integers(1, 4)) if layers is None else layers
    vocab = int(rng.integers(2, 49)) if vocab is None else vocab
    pre = max(4, math.ceil(math.log2(GAIN * math.sqrt(d) / 255)))
    table, post = norm_constants(d, GAIN, pre)
    if rng.random() < 0.5:  # low-bit noise: engines must read the table, not recompute it
        table[64:] = np.clip(table[64:] + rng.integers(-3, 4, 192), 0, 255)

    silu = _vary(rng, silu_table(), -32768, 32767)
    silu_bits = math.log2(1 + silu[96:160].astype(float).std())  # codes -32..31, where most inputs are

    def norm() -> NormParams:
        nudge = int(rng.integers(-1, 2))
        return NormParams(pre + nudge, max(0, post + int(rng.integers(-1, 2))), table)

    def shift(base: float) -> int:
        return int(np.clip(round(base) + rng.integers(-1, 2), 0, 31))

    def layer() -> LayerParams:
        sizes = dict.fromkeys(WEIGHTS, (d, d)) | {"Wgate": (m, d), "Wup": (m, d), "Wdown": (d, m)}
        from_d, from_m = math.log2(math.sqrt(0.65 * d)), math.log2(math.sqrt(0.65 * m))
        base = dict.fromkeys(SHIFTS, from_d) | {"g": silu_bits - 5, "a": silu_bits - 5, "z": 5}
        base |= {"o": silu_bits, "o.res": from_d - 4, "down": from_m - 4}
        return LayerParams(
            norm(),
            norm(),
            {name: _trits(rng, *size) for name, size in sizes.items()},
            {name: shift(base[name]) for name in SHIFTS},
        )

    return build_lm(
        LMParams(
            embed=rng.integers(-128, 128, (vocab, d)).astype(np.int8),
            embed_shift=int(rng.integers(4, 7)),
            layers=[layer() for _ in range(layers)],
            norm=norm(),
            head=_trits(rng, vocab, d),
            head_shift=int(rng.integers(0, 3)),
            sigmoid=_vary(rng, sigmoid_table(), 0, 255),
            silu=silu,
            logit_scale_bits=int(rng.integers(4, 9)),
        ),
        name=f"random-{d}x{m}x{layers}-{vocab}",
    )


def _vary(rng: np.random.Generator, table: npt.NDArray[np.int16], low: int, high: int) -> npt.NDArray[Any]:
    """The table as it is, with noise, or replaced by arbitrary entries in low..high."""
    kind = rng.integers(0, 3)
    if kind == 0:
        return table
    if kind == 1:
        spread = max(1, (high - low) >> 5)
        return np.clip(table + rng.integers(-spread, spread + 1, 256), low, high).astype(np.int16)
    return rng.integers(low, high + 1, 256).astype(np.int16)


def _trits(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.int8]:
    """Random trits, 10 to 60% of them zero."""
    zeros = rng.uniform(0.1, 0.6)
    ones = (1 - zeros) / 2
    return rng.choice(np.array([-1, 0, 1], np.int8), (rows, columns), p=[ones, zeros, ones])


def curve(kind: str, in_bits: int, out_bits: int) -> I16:
    """i16[1025] of ``"silu"``, or ``"closed"``: 1 - sigmoid.

    Codes of ``2**-in_bits`` become codes of ``2**-out_bits``; values that do not fit saturate.
    The points are those of :func:`ternac.program.import_ops.interp`.
    """
    x = (np.arange(CURVE_POINTS) * 64 - 32768) / 2.0**in_bits
    part = 1 / (1 + np.exp(np.minimum(-x if kind == "silu" else x, 700.0)))
    y = np.floor((x * part if kind == "silu" else part) * 2.0**out_bits + 0.5)
    return np.clip(y, 0 if kind == "closed" else -32768, 32767).astype(np.int16)


def random_mmfree(
    rng: np.random.Generator,
    d: int | None = None,
    m: int | None = None,
    layers: int | None = None,
    vocab: int | None = None,
    per_token: bool | None = None,
) -> Program:
    """A legal random program; what is not given is drawn (d 1..40, m 1..64, 1..3 layers, vocab 2..48)."""
    d = int(rng.integers(1, 41)) if d is None else d
    m = int(rng.integers(1, 65)) if m is None else m
    layers = int(rng.integers(1, 4)) if layers is None else layers
    vocab = int(rng.integers(2, 49)) if vocab is None else vocab
    per_token = bool(rng.integers(0, 2)) if per_token is None else per_token

    def rms(n: int) -> Rms:
        eps = int(rng.choice([0, 1, 16 * n, 1 << int(rng.integers(0, 46))], p=[0.3, 0.2, 0.4, 0.1]))
        shift = INVERSE_BITS - ROOT_BITS - 12 - math.ceil(math.log2(math.sqrt(n))) + int(rng.integers(-2, 2))
        return Rms(eps, shift)

    def gain(n: int) -> Gain:
        weights = rng.lognormal(0.0, 0.7, n) * rng.choice([-1, 1], n, p=[0.1, 0.9])
        return Gain(np.clip(weights * 4096, -32768, 32767).astype(np.int16), 12 + int(rng.integers(-1, 2)))

    def norms() -> Norms:
        return Norms(rms(d), gain(d), rms(d))

    def factor() -> Factor:
        if per_token:
            return Factor(int(rng.integers(1 << 12, 1 << 24)), 38 + int(rng.integers(-3, 3)))
        return Factor(int(rng.integers(1 << 12, 1 << 18)), 14 + int(rng.integers(-3, 3)))

    def linear(columns: int, *rows: int) -> Linear:
        fixed = None if per_token else Factor(int(rng.integers(1, 300)), 14)
        return Linear(gain(columns), fixed, tuple((_trits(rng, count, columns), factor()) for count in rows))

    def layer() -> Layer:
        closed = rng.uniform(0.02, 1.0, d) * UNIT
        return Layer(
            norm1=norms(),
            i=linear(d, d),
            f=linear(d, d),
            g=linear(d, d),
            candidate=curve("silu", int(rng.integers(10, 14)), STATE_SCALE_BITS),
            forget=curve("closed", int(rng.integers(11, 14)), 15),
            open=Gain(np.clip(closed, 0, 32767).astype(np.int16), 15) if rng.random() < 0.7 else None,
            gate_norm=rms(d),
            gate_gain=gain(d),
            swish=curve("silu", STATE_SCALE_BITS, 12),
            mix_shift=int(rng.integers(8, 14)),
            o_norm=rms(d),
            o=linear(d, d),
            shift1=int(rng.integers(0, 2)),
            norm2=norms(),
            gate=linear(d, m, m),
            act=curve("silu", int(rng.integers(10, 14)), 12),
            z_shift=int(rng.integers(8, 14)),
            down_norm=rms(m),
            down=linear(m, d),
            shift2=int(rng.integers(0, 2)),
        )

    return build_mmfree(
        f"random-mmfree-{d}x{m}x{layers}-{vocab}",
        rng.integers(-32768, 32768, (vocab, d)).astype(np.int16),
        (layer() for _ in range(layers)),
        norms(),
        linear(d, vocab),
        int(rng.integers(4, 12)),
    )
