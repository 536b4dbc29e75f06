"""CRC-32 of a byte stream, a byte a cycle."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.link import crc32

POLYNOMIAL = 0xEDB88320
RESIDUE = 0xDEBB20E3
"""Register after a frame with a right CRC, whatever its contents."""


class Crc32(wiring.Component):
    """zlib's CRC-32 over bytes, as a shift register: 71 LUT4, where amaranth.lib.crc takes 144.

    Taking ``~low`` shifts the CRC right by a byte, so that four takes read it
    out, little endian. Delay: 2 cycles from ``valid`` to the results; a byte may be taken every cycle.
    ``clear`` drops a byte in work.

    Members
    -------
    clear : In(1)
        Start over.
    valid : In(1)
        Take a byte.
    data : In(8)
        The byte.
    busy : Out(1)
        The byte of the cycle before is being worked in; the outputs below are not valid.
    low : Out(8)
        The low byte of the CRC of the bytes taken since ``clear``.
    match : Out(1)
        The last four bytes were the CRC, little endian, of those before.
    """

    def __init__(self) -> None:
        super().__init__(
            {"clear": In(1), "valid": In(1), "data": In(8), "busy": Out(1), "low": Out(8), "match": Out(1)}
        )

    @staticmethod
    def model(data: bytes) -> int:
        """CRC of ``data``."""
        return crc32(data)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        register = Signal(32, init=0xFFFFFFFF, name="register")
        byte = Signal(8, name="byte")
        following = register
        for i in range(8):
            following = Cat(following[1:], Const(0, 1)) ^ Mux(following[0] ^ byte[i], POLYNOMIAL, 0)
        m.d.comb += [self.low.eq(~register[:8]), self.match.eq(register == RESIDUE)]
        m.d.sync += [self.busy.eq(self.valid), byte.eq(self.data)]
        with m.If(self.clear):
            m.d.sync += register.eq(0xFFFFFFFF)
        with m.Elif(self.busy):
            m.d.sync += register.eq(following)
        return m
