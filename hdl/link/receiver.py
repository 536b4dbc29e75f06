"""Receiving half of the link controller: frame bytes into the RAM, checked."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.slip import FrameByte
from ternac.protocol import CRC_BYTES, FRAME_BYTES, HEAD_BYTES


class FrameReceiver(wiring.Component):
    """Writes a frame to the RAM from address 0; drops it if it is spoiled, too long or short or fails its CRC.

    Begins when released, then after every frame.

    Members: ``i`` In(stream of FrameByte). ``write`` Out(1), ``address`` Out(10), ``data`` Out(8): RAM
    writes, and what the CRC takes. ``clear`` Out(1), ``match`` In(1): the CRC. ``byte`` In(8):
    RAM[``pointer``], ``pointer`` In(10), ``following`` Out(10): the pointer's next value while no frame
    is held. ``frame`` Out(1): pulse, a good frame is held from now on; ``past`` Out(10): the address
    after its payload; ``same`` Out(1): its CRC is that of the good frame before; ``release`` In(1):
    receive the next one. ``waiting`` Out(1): more bytes are needed; ``fault`` Out(1): pulse, a frame was
    dropped.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(FrameByte)),
                "write": Out(1), "address": Out(10), "data": Out(8), "clear": Out(1), "match": In(1),
                "pointer": In(10), "byte": In(8), "following": Out(10),
                "frame": Out(1), "past": Out(10), "same": Out(1), "release": In(1),
                "waiting": Out(1), "fault": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        item = self.i
        count, last_crc = Signal(2), Signal(8 * CRC_BYTES)
        # A frame that is too long is cut, which its CRC then shows.
        m.d.comb += [
            self.past.eq(self.address - CRC_BYTES), self.following.eq(self.past),
            self.data.eq(item.payload.data), self.write.eq(item.ready & item.valid & ~item.payload.end &
            (self.address != FRAME_BYTES)),
        ]  # fmt: skip
        with m.If(self.write):
            m.d.sync += self.address.eq(self.address + 1)
        with m.FSM(init="HOLD"):
            with m.State("RECEIVE"):
                m.d.comb += [item.ready.eq(1), self.waiting.eq(1)]
                m.d.sync += count.eq(0)
                with m.If(item.valid & item.payload.end):
                    m.d.sync += self.same.eq(~item.payload.bad)
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "COMPARE"
                with m.If(~self.same | ~self.match | (self.address < HEAD_BYTES + CRC_BYTES)):
                    m.d.comb += [self.clear.eq(1), self.fault.eq(self.address.any())]
                    m.d.sync += self.address.eq(0)
                    m.next = "RECEIVE"
            with m.State("COMPARE"):
                m.d.comb += self.following.eq(self.pointer + 1)
                m.d.sync += [
                    last_crc.eq(Cat(last_crc[8:], self.byte)), count.eq(count + 1),
                    self.same.eq(self.same & (self.byte == last_crc[:8])),
                ]  # fmt: skip
                with m.If(count == CRC_BYTES - 1):
                    m.d.comb += self.frame.eq(1)
                    m.next = "HOLD"
            with m.State("HOLD"):
                with m.If(self.release):
                    m.d.sync += self.address.eq(0)
                    m.next = "RECEIVE"
        return m
