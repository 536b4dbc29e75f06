"""Sending half of the link controller: an answer from the RAM to frame bytes."""

from __future__ import annotations

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.slip import OpenByte
from ternac.protocol import ANSWER, CRC_BYTES


class AnswerSender(wiring.Component):
    """Sends END, type with ANSWER set, seq, status, a piece of the RAM, CRC, END.

    Type and seq are at address 0 of the RAM.

    Parameters: ``identity`` and ``result``, addresses in the RAM where the payload of HELLO's and of
    every other answer begins. Members: ``enable`` In(1): high from when an answer is wanted until
    ``done`` Out(1), a pulse; the pointer is 0 when it rises; ``hello`` In(1), ``status`` In(3), ``end``
    In(10): address after the payload. ``byte`` In(8): RAM[``pointer``], ``pointer`` In(10), ``following``
    Out(10): the pointer's next value while enabled. ``clear``, ``take``, ``data`` Out(8): the CRC's
    inputs, ``low`` In(8), ``busy`` In(1): its outputs. ``o`` Out(stream of OpenByte).
    """

    def __init__(self, identity: int, result: int) -> None:
        self.identity, self.result = identity, result
        super().__init__(
            {
                "enable": In(1), "done": Out(1), "hello": In(1), "status": In(3), "end": In(10),
                "pointer": In(10), "byte": In(8), "following": Out(10),
                "clear": Out(1), "take": Out(1), "data": Out(8), "low": In(8), "busy": In(1),
                "o": Out(stream.Signature(OpenByte)),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, sent = Signal(2), Signal()
        valid, item = self.o.valid, self.o.payload
        m.d.comb += [
            sent.eq(valid & self.o.ready), self.take.eq(sent & ~item.end), self.data.eq(item.data),
            self.following.eq(self.pointer),
        ]  # fmt: skip
        with m.FSM():
            with m.State("OPEN"):
                m.d.comb += [valid.eq(self.enable), item.end.eq(1), self.clear.eq(self.enable)]
                m.d.sync += count.eq(0)
                with m.If(sent):
                    m.next = "TYPE"
            with m.State("TYPE"):
                m.d.comb += [valid.eq(1), item.data.eq(self.byte | ANSWER)]
                with m.If(sent):
                    m.d.comb += self.following.eq(self.pointer + 1)
                    m.next = "SEQ"
            with m.State("SEQ"):
                m.d.comb += [valid.eq(1), item.data.eq(self.byte)]
                with m.If(sent):
                    m.next = "STATUS"
            with m.State("STATUS"):
                m.d.comb += [valid.eq(1), item.data.eq(self.status)]
                with m.If(sent):
                    m.d.comb += self.following.eq(Mux(self.hello, self.identity, self.result))
                    m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += [valid.eq(self.pointer != self.end), item.data.eq(self.byte)]
                with m.If(self.pointer == self.end):
                    m.next = "SUM"
                with m.Elif(sent):
                    m.d.comb += self.following.eq(self.pointer + 1)
            with m.State("SUM"):
                m.d.comb += [valid.eq(~self.busy), item.data.eq(self.low), self.data.eq(~self.low)]
                with m.If(sent):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == CRC_BYTES - 1):
                        m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [valid.eq(1), item.end.eq(1), self.clear.eq(1), self.done.eq(sent)]
                with m.If(sent):
                    m.next = "OPEN"
        return m
