"""The bit rate of a serial line, as a phase accumulator makes it from the clock."""

from __future__ import annotations

__all__ = ["TOLERANCE", "rate_increment"]

TOLERANCE = 0.002
"""Accepted error of the bit rate; the line itself stands some 4%."""


def rate_increment(clock_hz: int, baud: int) -> tuple[int, int]:
    """(bits, increment) of the smallest phase accumulator whose overflows come at ``baud`` within TOLERANCE.

    Bit edges are placed to the nearest cycle, so a ratio that is not whole costs jitter of one cycle,
    never drift. ValueError unless 4 * baud <= clock_hz <= 2**20 * baud.
    """
    if not 4 * baud <= clock_hz <= baud << 20:
        raise ValueError(f"a clock of {clock_hz} Hz cannot carry {baud} baud: needs 4 to 2**20 cycles a bit")
    for bits in range(3, 32):
        increment = round((baud << bits) / clock_hz)
        if increment and abs(increment * clock_hz / (baud << bits) - 1) < TOLERANCE:
            return bits, increment
    raise AssertionError("31 bits are enough for any ratio allowed above")
