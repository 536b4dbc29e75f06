"""Tests the byte line beside its frames: an echo, and pseudo-random bytes both ways with counters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.ports import ByteStream
from ternac.hdl.link.top import connect_streams

__all__ = ["HISTORY_BITS", "START", "LineCount", "LineTest", "check_bytes", "random_bytes"]

HISTORY_BITS = 15
"""The sequence is that of x^15 + x^14 + 1, 32,767 bits long; of each byte the lowest bit comes first."""
START = (1 << HISTORY_BITS) - 1
"""The 15 bits before the first one sent."""
UNJUDGED = 2
"""Bytes received before what they follow is known."""


def _following(history: int) -> tuple[int, int]:
    """The byte after 15 bits (the latest one lowest), and the 15 bits up to its end."""
    byte = 0
    for i in range(8):
        bit = (history >> 14 ^ history >> 13) & 1
        byte |= bit << i
        history = (history << 1 | bit) & (1 << HISTORY_BITS) - 1
    return byte, history


def random_bytes(count: int) -> bytes:
    """Return the first ``count`` bytes of the sequence."""
    out, history = bytearray(), START
    for _ in range(count):
        byte, history = _following(history)
        out.append(byte)
    return bytes(out)


@dataclass(frozen=True)
class LineCount:
    """What a receiver counted: ``received`` bytes, of which ``wrong_bytes`` are not what the 15 bits before
    them say, in ``wrong_bits`` bits. A wrong bit on the line counts up to three times: when it comes, and
    when it is 14 and 15 bits old.
    """

    received: int = 0
    wrong_bytes: int = 0
    wrong_bits: int = 0


def check_bytes(data: Iterable[int]) -> LineCount:
    """Count as the receiver does: the first `UNJUDGED` bytes are not judged."""
    history = received = wrong_bytes = wrong_bits = 0
    for byte in data:
        expected, _ = _following(history)
        if received >= UNJUDGED:
            wrong_bytes += byte != expected
            wrong_bits += (byte ^ expected).bit_count()
        for i in range(8):
            history = (history << 1 | byte >> i & 1) & (1 << HISTORY_BITS) - 1
        received += 1
    return LineCount(received, wrong_bytes, wrong_bits)


def _byte_after(history: Value) -> Value:
    """The byte after 15 bits, as `_following`: all its bits depend on those alone."""
    return Cat(history[14 - i] ^ history[13 - i] for i in range(8))


class LineTest(wiring.Component):
    """Stands between the UART and the link controller, and lets everything through until ``start``.

    Then it waits for ``quiet`` (the answer that the controller owes is on its way), takes ``receive`` bytes
    from the host itself, and sends what it has to: with ``echo`` the same bytes, else, from the first that
    came on, ``send`` bytes of `random_bytes`: the host has then read the answer. When both are done, or
    nothing has come for ``patience`` cycles, the line is the controller's again.

    Members
    -------
    host_i : In(ByteStream)
        From the host.
    host_o : Out(ByteStream)
        To the host.
    link_i : In(ByteStream)
        From the controller.
    link_o : Out(ByteStream)
        To the controller.
    quiet : In(1)
        The controller neither works nor has bytes to send.
    start : In(1)
        Pulse: begin; the next three stay as they are until ``busy`` is 0 again.
    echo : In(1)
        Send back what comes.
    receive : In(16)
        Bytes to receive, at least 1.
    send : In(16)
        Bytes to send, without ``echo``.
    busy : Out(1)
        From the cycle after ``start`` on.
    sending : Out(1)
        There is a byte for the host.
    received : Out(16)
        Bytes received, of the last test.
    wrong_bytes : Out(16)
        Those that were not the next of the sequence (without ``echo``); stops at all ones.
    wrong_bits : Out(16)
        Their wrong bits, likewise.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        super().__init__(
            {
                "host_i": In(ByteStream),
                "host_o": Out(ByteStream),
                "link_i": In(ByteStream),
                "link_o": Out(ByteStream),
                "quiet": In(1),
                "start": In(1),
                "echo": In(1),
                "receive": In(16),
                "send": In(16),
                "busy": Out(1),
                "sending": Out(1),
                "received": Out(16),
                "wrong_bytes": Out(16),
                "wrong_bits": Out(16),
            }
        )

    @staticmethod
    def model(data: bytes) -> LineCount:
        """The counters after ``data`` came."""
        return check_bytes(data)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left, unsent = Signal(16, name="left"), Signal(16, name="unsent")
        ours, theirs = Signal(HISTORY_BITS, name="ours"), Signal(HISTORY_BITS, name="theirs")
        idle = Signal(range(self.patience + 1), name="idle")
        came = Signal(name="came")
        m.d.comb += [self.busy.eq(1), came.eq(0)]
        with m.FSM(name="control"):
            with m.State("THROUGH"):
                connect_streams(m, self.host_i, self.link_o)
                connect_streams(m, self.link_i, self.host_o)
                m.d.comb += [self.busy.eq(0), self.sending.eq(self.link_i.valid)]
                with m.If(self.start):
                    m.next = "ANSWER"
            with m.State("ANSWER"):  # to the request that asked for the test
                connect_streams(m, self.link_i, self.host_o)
                m.d.comb += self.sending.eq(~self.quiet)
                m.d.sync += [
                    left.eq(self.receive), unsent.eq(self.send), ours.eq(START), theirs.eq(0), idle.eq(0),
                    self.received.eq(0), self.wrong_bytes.eq(0), self.wrong_bits.eq(0),
                ]  # fmt: skip
                with m.If(self.quiet):
                    m.next = "TEST"
            with m.State("TEST"):
                with m.If(self.echo):
                    m.d.comb += [
                        self.host_o.payload.eq(self.host_i.payload),
                        self.host_o.valid.eq(self.host_i.valid & left.any()),
                        self.host_i.ready.eq(self.host_o.ready & left.any()),
                    ]
                with m.Else():
                    m.d.comb += [
                        self.host_o.payload.eq(_byte_after(ours)),
                        self.host_o.valid.eq(unsent.any() & self.received.any()),
                        self.host_i.ready.eq(left.any()),
                    ]
                    with m.If(self.host_o.valid & self.host_o.ready):
                        m.d.sync += [
                            unsent.eq(unsent - 1),
                            ours.eq(Cat(self.host_o.payload[::-1], ours)),
                        ]
                m.d.comb += [
                    came.eq(self.host_i.valid & self.host_i.ready),
                    self.sending.eq(self.host_o.valid),
                ]
                m.d.sync += idle.eq(Mux(came, 0, idle + 1))
                with m.If(came):
                    m.d.sync += left.eq(left - 1)
                with m.If((~left.any() & (self.echo | ~unsent.any())) | (idle == self.patience)):
                    m.d.sync += idle.eq(0)
                    m.next = "END"
            with m.State("END"):  # until the last byte has been judged
                m.d.comb += self.sending.eq(1)
                m.d.sync += idle.eq(idle + 1)
                with m.If(idle == 3):
                    m.next = "THROUGH"
        self._judge(m, came, theirs)
        return m

    def _judge(self, m: Module, came: Signal, theirs: Signal) -> None:
        """Compare what came with what follows the bits before it; the counters change two cycles later."""
        judged, wrong = Signal(name="judged"), Signal(8, name="wrong")
        m.d.sync += [
            judged.eq(came & (self.received >= UNJUDGED) & ~self.echo),
            wrong.eq(self.host_i.payload ^ _byte_after(theirs)),
        ]
        with m.If(came):
            m.d.sync += [
                self.received.eq(self.received + 1),
                theirs.eq(Cat(self.host_i.payload[::-1], theirs)),
            ]
        bits = Signal(17, name="bits")
        m.d.comb += bits.eq(self.wrong_bits + sum(wrong[i] for i in range(8)))
        with m.If(judged & wrong.any()):
            m.d.sync += self.wrong_bits.eq(Mux(bits[16], 0xFFFF, bits))
            with m.If(~self.wrong_bytes.all()):
                m.d.sync += self.wrong_bytes.eq(self.wrong_bytes + 1)
