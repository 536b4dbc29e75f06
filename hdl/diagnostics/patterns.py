"""The words that memory tests write: a function of the address or of the place in a sequence."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.run.sampling import xorshift32

__all__ = ["SEED_BITS", "Pattern", "PatternSource", "pattern_words"]

SEED_BITS = 32


class Pattern(IntEnum):
    """What a word is. ``seed`` is a parameter of the pattern; every pattern also comes inverted."""

    CONSTANT = 0
    """``seed``, the same in every word."""
    STRIPES = 1
    """0101.. and 1010.. by turns, by the lowest bit of the address and of ``seed``."""
    WALKING = 2
    """``seed`` in the first word, rotated up by one bit in each that follows."""
    ADDRESS = 3
    """The low bits of the address."""
    HIGH = 4
    """The high bits of the address; equal to ADDRESS where a word holds all of it."""
    RANDOM = 5
    """The low bits of a xorshift generator whose state in the first word is ``seed``, not 0."""


def pattern_words(
    pattern: Pattern,
    bits: int,
    address_bits: int,
    first: int,
    count: int,
    *,
    seed: int = 0,
    invert: bool = False,
    down: bool = False,
) -> npt.NDArray[np.uint32]:
    """Return ``count`` words of ``bits`` bits in the order in which they are visited: address ``first``, then
    the next one up (``down``: the next one down).
    """
    mask = (1 << bits) - 1
    addresses = (first + (-1 if down else 1) * np.arange(count)) & ((1 << address_bits) - 1)
    if pattern == Pattern.CONSTANT:
        words = np.full(count, seed & mask)
    elif pattern == Pattern.STRIPES:
        even = sum(1 << i for i in range(0, bits, 2))
        words = np.where((addresses ^ seed) & 1, mask ^ even, even)
    elif pattern == Pattern.WALKING:
        start = seed & mask
        turns = [(start << n | start >> bits - n) & mask for n in range(bits)]
        words = np.resize(np.array(turns), count)
    elif pattern == Pattern.ADDRESS:
        words = addresses & mask
    elif pattern == Pattern.HIGH:
        words = addresses >> max(0, address_bits - bits) & mask
    else:
        words, state = np.zeros(count, np.int64), seed
        for n in range(count):
            words[n], state = state & mask, xorshift32(state)
    return ((words ^ mask) if invert else words).astype(np.uint32)


class PatternSource(wiring.Component):
    """The words of a pattern, one after the other.

    Parameters
    ----------
    bits : of a word, at most `SEED_BITS`.
    address_bits : of an address.

    Members
    -------
    load : In(1)
        Begin: take ``seed`` and ``first``.
    step : In(1)
        Go on to the next word; not with ``load``.
    kind : In(3)
        The `Pattern`; stays as it is from ``load`` on, as do ``invert``, ``down`` and ``seed``.
    invert : In(1)
        Invert every word.
    down : In(1)
        Addresses go down.
    seed : In(32)
        Parameter of the pattern.
    first : In(address_bits)
        First address.
    address : Out(address_bits)
        Address of the present word, from the cycle after ``load`` on.
    word : Out(bits)
        The word.
    """

    def __init__(self, bits: int, address_bits: int) -> None:
        if not 2 <= bits <= SEED_BITS:
            raise ValueError(f"words have 2 to {SEED_BITS} bits, not {bits}")
        self.bits, self.address_bits = bits, address_bits
        super().__init__(
            {
                "load": In(1),
                "step": In(1),
                "kind": In(3),
                "invert": In(1),
                "down": In(1),
                "seed": In(SEED_BITS),
                "first": In(address_bits),
                "address": Out(address_bits),
                "word": Out(bits),
            }
        )

    def model(self, pattern: Pattern, first: int, count: int, **options: int) -> list[int]:
        """The words of a pattern; ``options`` as in `pattern_words`."""
        return [int(w) for w in pattern_words(pattern, self.bits, self.address_bits, first, count, **options)]  # type: ignore[arg-type]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.bits
        walking = Signal(bits, name="walking")
        state, turned = Signal(SEED_BITS, name="state"), Signal(SEED_BITS, name="turned")
        once, twice = Signal(SEED_BITS, name="once"), Signal(SEED_BITS, name="twice")
        m.d.comb += [
            once.eq(state ^ (state << 13)),
            twice.eq(once ^ (once >> 17)),
            turned.eq(twice ^ (twice << 5)),
        ]
        with m.If(self.load):
            m.d.sync += [self.address.eq(self.first), walking.eq(self.seed), state.eq(self.seed)]
        with m.Elif(self.step):
            m.d.sync += [
                self.address.eq(Mux(self.down, self.address - 1, self.address + 1)),
                walking.eq(Cat(walking[-1], walking[:-1])),
                state.eq(turned),
            ]
        plain, even = Signal(bits, name="plain"), sum(1 << i for i in range(0, bits, 2))
        odd = Signal(name="odd")
        m.d.comb += odd.eq(self.address[0] ^ self.seed[0])
        with m.Switch(self.kind):
            with m.Case(Pattern.STRIPES):
                m.d.comb += plain.eq(Mux(odd, (1 << bits) - 1 ^ even, even))
            with m.Case(Pattern.WALKING):
                m.d.comb += plain.eq(walking)
            with m.Case(Pattern.ADDRESS):
                m.d.comb += plain.eq(self.address)
            with m.Case(Pattern.HIGH):
                m.d.comb += plain.eq(self.address >> max(0, self.address_bits - bits))
            with m.Case(Pattern.RANDOM):
                m.d.comb += plain.eq(state)
            with m.Default():
                m.d.comb += plain.eq(self.seed)
        m.d.comb += self.word.eq(plain ^ self.invert.replicate(bits))
        return m
