"""Code tokens by a model's logits, with integers only: the same bits on every machine. docs/compress.md is
the page.

A token's *span* is its place among the frequencies of all tokens: ``start``, ``size``, ``total``. The range
coder turns spans into bytes and back; `costs` says how many bits a span takes, in units of 1 / `UNIT` bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import ArchiveError

__all__ = [
    "EXP2",
    "NO_TEXT",
    "UNIT",
    "Spans",
    "RangeDecoder",
    "RangeEncoder",
    "costs",
    "encode",
    "frequencies",
    "spans",
    "uniform",
]

Spans = npt.NDArray[np.uint64]
"""uint64 [n, 3]: start, size, total of each token."""
LOG2_E = 23637
"""round(2**14 * log2(e)): a distance of logits in nats becomes one in bits."""
LOG2_E_SHIFT = 6
"""14 bits less the 8 of a table's index."""
LEAST_SHIFT = 24
"""A token so many bits less likely than the likeliest has frequency 1."""
UNIT = 1 << 16
"""Costs are counted in 1 / UNIT bit."""
NO_TEXT = ("the coded bytes are of no text", "get the archive again")
"""Message and hint of bytes that no encoder makes."""
TOP, BOTTOM = 56, 48
"""The range is 2**BOTTOM to 2**TOP before each token; totals stay below 2**40."""

# EXP2[c] = round(65535 * 2**(-c / 256)); frozen as EXP of ternac.run.sampling is.
EXP2 = np.array(
    [
        65535, 65358, 65181, 65005, 64829, 64654, 64479, 64305, 64131, 63957, 63784, 63612,
        63440, 63268, 63097, 62927, 62757, 62587, 62418, 62249, 62081, 61913, 61745, 61578,
        61412, 61246, 61080, 60915, 60750, 60586, 60422, 60259, 60096, 59933, 59771, 59610,
        59449, 59288, 59127, 58968, 58808, 58649, 58491, 58332, 58175, 58017, 57860, 57704,
        57548, 57392, 57237, 57082, 56928, 56774, 56621, 56468, 56315, 56163, 56011, 55859,
        55708, 55558, 55407, 55258, 55108, 54959, 54811, 54662, 54515, 54367, 54220, 54074,
        53927, 53781, 53636, 53491, 53346, 53202, 53058, 52915, 52772, 52629, 52487, 52345,
        52203, 52062, 51921, 51781, 51641, 51501, 51362, 51223, 51085, 50947, 50809, 50671,
        50534, 50398, 50261, 50126, 49990, 49855, 49720, 49586, 49452, 49318, 49184, 49051,
        48919, 48787, 48655, 48523, 48392, 48261, 48131, 48000, 47871, 47741, 47612, 47483,
        47355, 47227, 47099, 46972, 46845, 46718, 46592, 46466, 46340, 46215, 46090, 45965,
        45841, 45717, 45593, 45470, 45347, 45225, 45102, 44980, 44859, 44737, 44617, 44496,
        44376, 44256, 44136, 44017, 43898, 43779, 43660, 43542, 43425, 43307, 43190, 43073,
        42957, 42841, 42725, 42609, 42494, 42379, 42265, 42150, 42036, 41923, 41809, 41696,
        41584, 41471, 41359, 41247, 41136, 41024, 40914, 40803, 40693, 40583, 40473, 40363,
        40254, 40145, 40037, 39929, 39821, 39713, 39606, 39498, 39392, 39285, 39179, 39073,
        38967, 38862, 38757, 38652, 38548, 38443, 38339, 38236, 38132, 38029, 37926, 37824,
        37722, 37620, 37518, 37416, 37315, 37214, 37114, 37013, 36913, 36813, 36714, 36615,
        36516, 36417, 36318, 36220, 36122, 36025, 35927, 35830, 35733, 35637, 35540, 35444,
        35348, 35253, 35157, 35062, 34968, 34873, 34779, 34685, 34591, 34497, 34404, 34311,
        34218, 34126, 34033, 33941, 33850, 33758, 33667, 33576, 33485, 33394, 33304, 33214,
        33124, 33035, 32945, 32856,
    ],
    np.uint16,
)  # fmt: skip
EXP2.setflags(write=False)


def frequencies(logits: Any, logit_scale_bits: int) -> npt.NDArray[np.int64]:
    """Return the frequency of each token, int64 as ``logits`` [..., V] of i16; each is at least 1."""
    z = np.asarray(logits, np.int64)
    distance = z.max(axis=-1, keepdims=True) - z
    code = (distance * LOG2_E) >> (LOG2_E_SHIFT + logit_scale_bits)
    halvings = np.minimum(code >> 8, LEAST_SHIFT)
    return ((EXP2[code & 255].astype(np.int64) << 8) >> halvings) + 1


def spans(logits: Any, logit_scale_bits: int, tokens: Any) -> Spans:
    """Return the spans of ``tokens`` [n] by logits [n, V]."""
    found = frequencies(logits, logit_scale_bits)
    ends, rows = found.cumsum(axis=-1), np.arange(len(found))
    sizes = found[rows, tokens]
    return np.stack([ends[rows, tokens] - sizes, sizes, ends[:, -1]], axis=1).astype(np.uint64)


def uniform(tokens: Any, vocab: int) -> Spans:
    """Return the spans of tokens that nothing predicts."""
    starts = np.asarray(tokens, np.uint64)
    return np.stack([starts, np.ones_like(starts), np.full_like(starts, vocab)], axis=1)


def costs(given: Spans) -> npt.NDArray[np.int64]:
    """Return what each span costs in 1 / `UNIT` bit: lg(total) - lg(size), by integers alone."""
    return _lg(given[:, 2]) - _lg(given[:, 1])


def _lg(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """log2 of integers 1..2**40 in 1 / `UNIT`, rounded down: one bit a squaring."""
    whole = np.zeros(len(x), np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        whole += step * (x >> (whole + step).astype(np.uint64) > 0)
    mantissa = np.where(whole <= 31, x << np.maximum(31 - whole, 0).astype(np.uint64), 0)
    mantissa = np.where(whole > 31, x >> np.maximum(whole - 31, 0).astype(np.uint64), mantissa)
    found = whole
    for _ in range(16):
        mantissa = (mantissa * mantissa) >> np.uint64(31)
        carry = mantissa >> np.uint64(32)
        mantissa >>= carry
        found = 2 * found + carry.astype(np.int64)
    return found


class RangeEncoder:
    """Turns spans into bytes."""

    def __init__(self) -> None:
        self._low, self._range, self._out = 0, 1 << TOP, bytearray()

    def put(self, start: int, size: int, total: int) -> None:
        """Code one token."""
        part = self._range // total
        self._low += part * start
        self._range = part * size
        self._carry()
        while self._range < 1 << BOTTOM:
            self._shift()
            self._range <<= 8

    def finish(self) -> bytes:
        """Return the bytes: of those whose decoding gives the tokens, the fewest. Zeros follow them."""
        for count in range(TOP // 8 + 1):
            free = (1 << (TOP - 8 * count)) - 1
            value = (self._low + free) & ~free
            if value - self._low < self._range:
                self._low = value
                self._carry()
                for _ in range(count):
                    self._shift()
                break
        return bytes(self._out)

    def _carry(self) -> None:
        if self._low >> TOP:
            self._low &= (1 << TOP) - 1
            at = len(self._out) - 1
            while self._out[at] == 255:
                self._out[at] = 0
                at -= 1
            self._out[at] += 1

    def _shift(self) -> None:
        self._out.append(self._low >> BOTTOM)
        self._low = (self._low << 8) & ((1 << TOP) - 1)


class RangeDecoder:
    """Turns bytes back into tokens: ask `position`, find the token whose span has it, `take` that span.

    Raises ArchiveError where the bytes are of no encoder.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, TOP // 8
        self.code = int.from_bytes(data[: self.at].ljust(self.at, b"\0"), "big")
        self.range = 1 << TOP

    def position(self, total: int) -> int:
        """Return the place of the next token, 0..total-1."""
        found = self.code // (self.range // total)
        if found >= total:
            raise ArchiveError(*NO_TEXT)
        return found

    def take(self, start: int, size: int, total: int) -> None:
        """Leave the token behind."""
        part = self.range // total
        self.code -= part * start
        self.range = part * size
        while self.range < 1 << BOTTOM:
            self.code = self.code << 8 | (self.data[self.at] if self.at < len(self.data) else 0)
            self.at += 1
            self.range <<= 8
        if self.at > len(self.data) + TOP // 8:  # no encoder leaves out more
            raise ArchiveError(*NO_TEXT)

    def token(self, ends: npt.NDArray[np.int64]) -> int:
        """Return the next token by the cumulated frequencies [V], and leave it behind."""
        total = int(ends[-1])
        found = int(np.searchsorted(ends, self.position(total), side="right"))
        start = int(ends[found - 1]) if found else 0
        self.take(start, int(ends[found]) - start, total)
        return found

    def evenly(self, vocab: int) -> int:
        """Return the next token where nothing predicts it."""
        found = self.position(vocab)
        self.take(found, 1, vocab)
        return found


def encode(given: Spans) -> bytes:
    """Return the bytes of the tokens with these spans."""
    coder = RangeEncoder()
    for start, size, total in given.tolist():
        coder.put(start, size, total)
    return coder.finish()
