"""UART, 8N1: byte streams to and from two wires, any bit rate up to a quarter of the clock."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.rate import rate_increment


class UartTx(wiring.Component):
    """Bytes out on a wire: start bit 0, eight data bits from the lowest, stop bit 1.

    A byte takes ten bit times and up to two cycles. Parameters are those of `rate_increment`.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes to send.
    tx : Out(1)
        The line, 1 at rest.
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self.phase_bits, self.increment = rate_increment(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    @staticmethod
    def model(data: bytes) -> list[int]:
        """The line, one level a bit time."""
        return [level for byte in data for level in (0, *(byte >> i & 1 for i in range(8)), 1)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        phase, tick = Signal(self.phase_bits, name="phase"), Signal(name="tick")
        shift = Signal(9, name="shift")
        left = Signal(4, name="left")
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(left == 0):
            m.d.sync += [phase.eq(self.increment), tick.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += [self.tx.eq(0), shift.eq(Cat(self.i.payload, 1)), left.eq(10)]
        with m.Else():
            m.d.sync += Cat(phase, tick).eq(phase + self.increment)
            with m.If(tick):
                m.d.sync += [self.tx.eq(shift[0]), shift.eq(Cat(shift[1:], Const(1, 1))), left.eq(left - 1)]
        return m


class UartRx(wiring.Component):
    """Bytes in from a wire, each bit sampled in its middle, behind a two-stage synchroniser.

    Parameters are those of `rate_increment`. A start bit that is gone by its middle is taken as noise; a byte
    whose stop bit is 0 is dropped, and what follows is noise until the line has rested; a byte that comes
    while the one before still waits is dropped too. The frame check finds all of it.

    Members
    -------
    rx : In(1)
        The line, asynchronous.
    o : Out(stream.Signature(8))
        The bytes received.
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self.phase_bits, self.increment = rate_increment(clock_hz, baud)
        super().__init__({"rx": In(1, init=1), "o": Out(stream.Signature(8))})

    @staticmethod
    def model(line: list[int]) -> bytes:
        """The bytes in a line of one level a bit time."""
        data, i = bytearray(), 0
        while i < len(line):
            if line[i]:
                i += 1
                continue
            bits = (line[i + 1 : i + 10] + [1] * 9)[:9]
            if bits[8]:
                data.append(sum(level << n for n, level in enumerate(bits[:8])))
            i += 10
        return bytes(data)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1, name="line")
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        phase, tick = Signal(self.phase_bits, name="phase"), Signal(name="tick")
        shift, left = Signal(8, name="shift"), Signal(4, name="left")
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(left == 0):
            # Half a bit ahead, and two cycles for the way from the edge to here and from overflow to sample.
            m.d.sync += [phase.eq((1 << self.phase_bits - 1) + 2 * self.increment - 1), tick.eq(0)]
            with m.If(~line):
                m.d.sync += left.eq(10)
        with m.Else():
            m.d.sync += Cat(phase, tick).eq(phase + self.increment)
            with m.If(tick):
                m.d.sync += [left.eq(left - 1), shift.eq(Cat(shift[1:], line))]
                with m.If((left == 10) & line):
                    m.d.sync += left.eq(0)
                with m.If((left == 1) & line & ~(self.o.valid & ~self.o.ready)):
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(shift)]
        return m
