"""Loading an engine from SPI flash at power-up."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.link import END

WAKE, READ = 0xAB, 0x03
ERASED = 0xFF
WAKE_SECONDS = 50e-6
"""Longest time that common flash chips take to leave deep power-down (the iCE40 puts its own there)."""


class FlashBoot(wiring.Component):
    """Plays the wire bytes kept in a SPI flash into the link controller, once after reset.

    The flash holds frames as on the wire, each between two END bytes. Playing stops when the first byte
    is not END (nothing was flashed), when a byte after an END is ERASED (the image is over), or at
    ``abort``: a frame was damaged or refused, and nothing after it may be believed; COMMIT comes last, so
    the engine stays empty.

    A byte takes 16 cycles and waits for its reader; SPI mode 0 at half the clock.

    Parameters
    ----------
    clock_hz : of ``sync``.
    offset : of the image in the flash, below 2**24.

    Members
    -------
    cs : Out(1)
        1: the flash is selected.
    clk : Out(1)
        Its clock.
    copi : Out(1)
        To the flash.
    cipo : In(1)
        From the flash.
    o : Out(stream.Signature(8))
        The bytes.
    abort : In(1)
        Pulse: stop.
    done : Out(1)
        Playing has stopped; it stays 1.
    """

    def __init__(self, clock_hz: int, offset: int) -> None:
        if not 0 <= offset < 1 << 24:
            raise ValueError(f"a flash offset has 24 bits, not {offset!r}")
        self.wake_cycles = max(1, int(clock_hz * WAKE_SECONDS))
        self.offset = offset
        super().__init__(
            {
                "cs": Out(1), "clk": Out(1), "copi": Out(1), "cipo": In(1),
                "o": Out(stream.Signature(8)), "abort": In(1), "done": Out(1),
            }
        )  # fmt: skip

    @staticmethod
    def model(flash: bytes, offset: int) -> bytes:
        """The bytes played from a flash with this content (ERASED beyond its end), without abort."""
        played = bytearray()
        while True:
            byte = flash[offset + len(played)] if offset + len(played) < len(flash) else ERASED
            if (not played and byte != END) or (played and played[-1] == END and byte == ERASED):
                return bytes(played)
            played.append(byte)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift, bit, index = Signal(8, name="shift"), Signal(3, name="bit"), Signal(2, name="index")
        first, boundary, aborted = (
            Signal(init=1, name="first"),
            Signal(name="boundary"),
            Signal(name="aborted"),
        )
        with m.If(self.abort):
            m.d.sync += aborted.eq(1)
        wait = Signal(range(self.wake_cycles + 1), init=self.wake_cycles, name="wait")
        m.d.comb += [self.copi.eq(shift[7]), self.o.payload.eq(shift)]

        def transfer(then: str) -> None:
            """One bit in two cycles: clock low, then high; sampled at the rise, shifted at the fall."""
            sample = Signal(name="sample")
            m.d.sync += self.clk.eq(~self.clk)
            with m.If(self.clk):
                m.d.sync += [shift.eq(Cat(sample, shift[:7])), bit.eq(bit + 1)]
                with m.If(bit == 7):
                    m.next = then
            with m.Else():
                m.d.sync += sample.eq(self.cipo)

        with m.FSM():
            with m.State("SELECT"):
                m.d.sync += [self.cs.eq(1), shift.eq(WAKE)]
                m.next = "WAKE"
            with m.State("WAKE"):
                transfer("SLEEP")
            with m.State("SLEEP"):
                m.d.sync += [self.cs.eq(0), wait.eq(wait - 1)]
                with m.If(wait == 0):
                    m.d.sync += [self.cs.eq(1), shift.eq(READ)]
                    m.next = "COMMAND"
            with m.State("COMMAND"):
                transfer("ADDRESS")
            with m.State("ADDRESS"):
                m.d.sync += index.eq(index + 1)
                m.next = "COMMAND"
                with m.Switch(index):
                    for i in range(3):
                        with m.Case(i):
                            m.d.sync += shift.eq(self.offset >> 8 * (2 - i) & 0xFF)
                    with m.Default():
                        m.next = "DATA"
            with m.State("DATA"):
                transfer("OFFER")
            with m.State("OFFER"):
                over = aborted | (first & (shift != END)) | (boundary & (shift == ERASED))
                m.d.comb += self.o.valid.eq(~over)
                with m.If(over):
                    m.next = "DONE"
                with m.Elif(self.o.ready):
                    m.d.sync += [first.eq(0), boundary.eq(shift == END)]
                    m.next = "DATA"
            with m.State("DONE"):
                m.d.sync += self.cs.eq(0)
                m.d.comb += self.done.eq(1)
        return m
