"""Trits as bytes: 2 bits each (nonzero, negative) or five to a byte in base 3.

Both packings are exact, dense in row-major order and have one encoding per content: unpacking refuses codes
that packing never makes, padding included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Trits = npt.NDArray[np.int8]

_POWERS = np.array([1, 3, 9, 27, 81], np.uint8)
_DIGITS = (np.arange(243)[:, None] // _POWERS.astype(int) % 3 - 1).astype(np.int8)


def packed2_size(count: int) -> int:
    """Bytes that :func:`pack2` makes of ``count`` trits."""
    return -(-count // 4)


def packed5_size(count: int) -> int:
    """Bytes that :func:`pack5` makes of ``count`` trits."""
    return -(-count // 5)


def _flat(trits: npt.NDArray[Any], per_byte: int) -> Trits:
    """All trits in row-major order, padded with zeros to whole bytes, as [bytes, per_byte]."""
    flat = np.asarray(trits).reshape(-1)
    if flat.size and (flat.min() < -1 or flat.max() > 1):
        raise ValueError("a trit is not in -1, 0, 1")
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.int8)
    padded[: flat.size] = flat
    return padded.reshape(-1, per_byte)


def pack2(trits: npt.NDArray[Any]) -> Bytes:
    """Four trits per byte: trit i of a byte has bit 2i = nonzero, bit 2i + 1 = negative.

    Any shape, row-major; the last byte is padded with zero trits.  ValueError on anything but -1, 0, 1.
    """
    quads = _flat(trits, 4)
    codes = ((quads != 0) | ((quads < 0) << 1)).astype(np.uint8) << np.array([0, 2, 4, 6], np.uint8)
    return np.bitwise_or.reduce(codes, axis=1).astype(np.uint8)


def unpack2(data: Bytes, count: int) -> Trits:
    """Inverse of :func:`pack2`: int8[count]; ValueError on a wrong size, negative zero, nonzero padding."""
    data = _sized(data, packed2_size(count))
    codes = (data[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    if (codes == 2).any():
        raise ValueError("a trit is a negative zero")
    return _cut(np.array([0, 1, 0, -1], np.int8)[codes].reshape(-1), count)


def pack5(trits: npt.NDArray[Any]) -> Bytes:
    """Five trits per byte: ``sum((trit[i] + 1) * 3**i)``, 0..242.

    Any shape, row-major; the last byte is padded with zero trits.  ValueError on anything but -1, 0, 1.
    """
    digits = (_flat(trits, 5) + 1).astype(np.uint8)
    return (digits * _POWERS).sum(axis=1, dtype=np.uint8)


def unpack5(data: Bytes, count: int) -> Trits:
    """Inverse of :func:`pack5`: int8[count]; ValueError on a wrong size, byte over 242, nonzero padding."""
    data = _sized(data, packed5_size(count))
    if data.size and data.max() > 242:
        raise ValueError("a byte of packed trits is over 242")
    return _cut(_DIGITS[data].reshape(-1), count)


def _sized(data: Bytes, size: int) -> Bytes:
    if data.dtype != np.uint8 or data.shape != (size,):
        raise ValueError(f"packed trits are {data.dtype}{list(data.shape)}, need uint8[{size}]")
    return data


def _cut(trits: Trits, count: int) -> Trits:
    if trits[count:].any():
        raise ValueError("the padding of packed trits is not zero")
    return trits[:count]
