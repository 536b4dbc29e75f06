"""Random small programs of the MMfreeLM shape: every wide op, sizes and scales of all kinds."""

from __future__ import annotations

import math

import numpy as np

from ternac.program.import_ops import CURVE_POINTS, INVERSE_BITS, ROOT_BITS, UNIT
from ternac.program.mmfree import I16, Factor, Gain, Layer, Linear, Norms, Rms, build_mmfree
from ternac.program.program import Program

STATE_BITS = 12


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

    def trits(rows: int, columns: int) -> np.ndarray:
        zeros = rng.uniform(0.1, 0.6)
        return rng.choice(
            np.array([-1, 0, 1], np.int8), (rows, columns), p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2]
        )

    def factor() -> Factor:
        if per_token:
            return Factor(int(rng.integers(1 << 12, 1 << 24)), 38 + int(rng.integers(-3, 3)))
        return Factor(int(rng.integers(1 << 12, 1 << 18)), 14 + int(rng.integers(-3, 3)))

    def linear(columns: int, *rows: int) -> Linear:
        fixed = None if per_token else Factor(int(rng.integers(1, 300)), 14)
        return Linear(gain(columns), fixed, tuple((trits(count, columns), factor()) for count in rows))

    def layer() -> Layer:
        closed = rng.uniform(0.02, 1.0, d) * UNIT
        return Layer(
            norm1=norms(), i=linear(d, d), f=linear(d, d), g=linear(d, d),
            candidate=curve("silu", int(rng.integers(10, 14)), STATE_BITS),
            forget=curve("closed", int(rng.integers(11, 14)), 15),
            open=Gain(np.clip(closed, 0, 32767).astype(np.int16), 15) if rng.random() < 0.7 else None,
            gate_norm=rms(d), gate_gain=gain(d), swish=curve("silu", STATE_BITS, 12),
            mix_shift=int(rng.integers(8, 14)), o_norm=rms(d), o=linear(d, d),
            shift1=int(rng.integers(0, 2)), norm2=norms(), gate=linear(d, m, m),
            act=curve("silu", int(rng.integers(10, 14)), 12), z_shift=int(rng.integers(8, 14)),
            down_norm=rms(m), down=linear(m, d), shift2=int(rng.integers(0, 2)),
        )  # fmt: skip

    return build_mmfree(
        f"random-mmfree-{d}x{m}x{layers}-{vocab}",
        rng.integers(-32768, 32768, (vocab, d)).astype(np.int16),
        (layer() for _ in range(layers)),
        norms(),
        linear(d, vocab),
        int(rng.integers(4, 12)),
    )
