"""docs/compress.md once more, in plain Python: frequencies, costs and the range coder, for the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

K = 23637
TABLE: list[int] = []
with localcontext() as context:
    context.prec = 50
    TABLE += [int(65535 * Decimal(2) ** (Decimal(-c) / 256) + Decimal("0.5")) for c in range(256)]


def frequencies(logits: Sequence[int], scale_bits: int) -> list[int]:
    found = []
    for logit in logits:
        code = (max(logits) - logit) * K // 2 ** (6 + scale_bits)
        whole, part = divmod(code, 256)
        found.append(1 if whole >= 24 else TABLE[part] * 256 // 2**whole + 1)
    return found


def lg(x: int) -> int:
    """The greatest n with 2**n <= x**65536, as squarings of 32 bits find it."""
    whole = x.bit_length() - 1
    mantissa = x * 2 ** (31 - whole) if whole <= 31 else x // 2 ** (whole - 31)
    for _ in range(16):
        mantissa = mantissa * mantissa // 2**31
        whole *= 2
        if mantissa >= 2**32:
            mantissa, whole = mantissa // 2, whole + 1
    return whole


def encode(spans: Sequence[tuple[int, int, int]]) -> bytes:
    """All as one number: no carry is passed on by hand."""
    low, width, digits = 0, 2**56, 7  # of the interval, in units of its last byte
    for start, size, total in spans:
        part = width // total
        low, width = low + part * start, part * size
        while width < 2**48:
            low, width, digits = low * 256, width * 256, digits + 1
    for kept in range(digits + 1):  # the fewest bytes
        unit = 256 ** (digits - kept)
        value = -(-low // unit)
        if value * unit < low + width and kept >= digits - 7:
            return value.to_bytes(kept, "big")
    raise AssertionError("the interval has a number of that many bytes")
