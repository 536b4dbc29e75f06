"""A code of five trits per byte that a few lookup tables decode: the trit code of the ASTC texture format.

``ternac.program.packing.pack5`` holds the same five trits as one number in base 3, which costs hardware
more than 100 LUT4 a byte. This code spends the 13 spare bytes of 256 on structure and decodes in 15.

Byte bits t0..t7; c1 c0 = t1 t0. If t4 t3 t2 = 111, then c4 c3 c2 = t7 t6 t5 and trits 4 and 3 are 2; else
c4 c3 c2 = t4 t3 t2, and trits 4, 3 are (2, t7) where t6 t5 = 11, else (t7, t6 t5). Of c4..c0: if c1 c0 = 11,
trits 2, 1, 0 are (2, c4, c3 (c2 & ~c3)); else if c3 c2 = 11, (2, 2, c1 c0); else (c4, c3 c2, c1 (c0 & ~c1)).
Here 0 stands for a zero, 1 for plus, 2 for minus: a zero byte is five zeros.

`NETWORK` is that rule as 15 functions of at most four bits each, the only place where it is written down:
software runs it on arrays of all bytes, ``ternac.hdl.array.decode`` builds it out of lookup tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DECODE", "ENCODE", "NETWORK", "decode_bits", "pack_code5", "unpack_code5"]

NETWORK: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {
    "high": (("t2", "t3", "t4"), lambda a, b, c: a & b & c),
    "c2": (("t2", "t3", "t4", "t5"), lambda a, b, c, d: a & (~(b & c) | d)),
    "c3": (("t2", "t3", "t4", "t6"), lambda a, b, c, d: b & (~(a & c) | d)),
    "c4": (("t2", "t3", "t4", "t7"), lambda a, b, c, d: c & (~(a & b) | d)),
    "neg4": (("high", "t5", "t6"), lambda h, a, b: h | (a & b)),
    "nz4": (("high", "t5", "t6", "t7"), lambda h, a, b, c: h | (a & b) | c),
    "neg3": (("high", "t5", "t6"), lambda h, a, b: h | (b & ~a)),
    "nz3": (("high", "t5", "t6", "t7"), lambda h, a, b, c: h | (a ^ b) | (a & b & c)),
    "neg2": (("t0", "t1", "c2", "c3"), lambda a, b, c, d: (a & b) | (c & d)),
    "nz2": (("neg2", "c4"), lambda n, c: n | c),
    "pair": (("t0", "t1"), lambda a, b: a & b),
    "neg1": (("pair", "c3"), lambda p, c: ~p & c),
    "nz1": (("pair", "c2", "c3", "c4"), lambda p, a, b, c: (p & c) | (~p & (a | b))),
    "neg0": (("t0", "t1", "c3"), lambda a, b, c: b & (~a | c)),
    "nz0": (("t0", "t1", "c2", "c3"), lambda a, b, c, d: (a & b & (c | d)) | (~(a & b) & (a | b))),
}
"""Name of a bit to its inputs and the function of them; ``t0``..``t7`` are the byte. Inputs come first."""


def decode_bits(byte: list[Any], make: Callable[..., Any] | None = None) -> list[tuple[Any, Any]]:
    """(nonzero, negative) of trits 0..4 from eight bits that know ``& | ^ ~``, by `NETWORK`.

    ``make(name, function, inputs)`` makes a bit, where it is more than ``function(*inputs)``.
    """
    bits = {f"t{i}": bit for i, bit in enumerate(byte)}
    for name, (inputs, function) in NETWORK.items():
        values = [bits[source] for source in inputs]
        bits[name] = function(*values) if make is None else make(name, function, values)
    return [(bits[f"nz{i}"], bits[f"neg{i}"]) for i in range(5)]


def _table() -> npt.NDArray[np.int8]:
    codes = np.arange(256)
    pairs = decode_bits([(codes >> i & 1).astype(bool) for i in range(8)])
    return np.stack([nz * np.int8(1) - neg * np.int8(2) for nz, neg in pairs], axis=1).astype(np.int8)


_POWERS = np.array([1, 3, 9, 27, 81], np.int64)

DECODE = _table()
"""int8[256, 5]: the trits of every byte; 13 pairs of bytes say the same."""

ENCODE = np.zeros(243, np.uint8)
"""uint8[243]: the smallest byte of each five trits, at ``sum((trit[i] + 1) * 3**i)``."""
ENCODE[((DECODE[::-1] + 1) * _POWERS).sum(axis=1)] = np.arange(256)[::-1]


def pack_code5(trits: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Five trits per byte of any shape, row-major, the last byte padded with zeros; the smallest code of
    each.

    ValueError on anything but -1, 0, 1.
    """
    flat = np.asarray(trits).reshape(-1)
    if flat.size and (flat.min() < -1 or flat.max() > 1):
        raise ValueError("a trit is not in -1, 0, 1")
    padded = np.zeros(-(-flat.size // 5) * 5, np.uint8)
    padded[: flat.size] = flat + 1
    padded[flat.size :] = 1
    return ENCODE[padded.reshape(-1, 5) @ _POWERS.astype(np.uint8)]


def unpack_code5(data: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int8]:
    """Inverse of `pack_code5`: int8[count]; ValueError on a wrong size, a second code, nonzero padding."""
    if data.dtype != np.uint8 or data.shape != (-(-count // 5),):
        raise ValueError(f"packed trits are {data.dtype}{list(data.shape)}, need uint8[{-(-count // 5)}]")
    trits = DECODE[data].reshape(-1)
    if trits[count:].any():
        raise ValueError("the padding of packed trits is not zero")
    if not np.array_equal(pack_code5(trits), data):
        raise ValueError("a byte of packed trits is not the smallest of its trits")
    return trits[:count]
