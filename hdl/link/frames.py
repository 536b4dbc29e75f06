"""The ends of the link controller: the RAM that holds frames, the receiver and the sender."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.link.slip import FrameByte, OpenByte
from ternac.link import ANSWER, CRC_BYTES, FRAME_BYTES, HEAD_BYTES, PROGRAM_HASH_OFFSET, Command, Identity

__all__ = [
    "BYTE_CYCLES",
    "IDENTITY",
    "PROGRAM_HASH",
    "RAM_DEPTH",
    "RESULT",
    "AnswerSender",
    "FrameRam",
    "FrameReceiver",
]

RAM_DEPTH = 1024
IDENTITY = 320
"""Address of the identity, the answer to HELLO."""
RESULT = 384
"""Address of every other answer's payload."""
PROGRAM_HASH = IDENTITY + PROGRAM_HASH_OFFSET
"""Address of the program hash: all zeros means that no program is loaded."""
SEQUENCE_BYTES = HEAD_BYTES - 1
COMPARED_BYTES = SEQUENCE_BYTES + CRC_BYTES
"""Sequence number and CRC tell a frame from others."""
BYTE_CYCLES = 3
"""Cycles for each byte that is read out of the RAM: the pointer, the RAM, its register."""
assert HEAD_BYTES + 1 == CRC_BYTES == 4, "the sender counts either with the same two bits"
assert FRAME_BYTES <= IDENTITY and IDENTITY + Identity.LENGTH <= RESULT


class FrameRam(wiring.Component):
    """One RAM of `RAM_DEPTH` bytes: the received frame from 0, the identity from `IDENTITY`, the payload of
    the last answer from `RESULT`; and the three addresses in it.

    A byte is read at the pointer. After that has moved, ``step`` is low for two cycles: whoever moves it
    waits until ``byte`` is the one at its new place.

    Members
    -------
    receiving : In(1)
        Writes go behind the received bytes, else to the answer.
    data : In(8)
        A received byte.
    take : In(1)
        Pulse: keep it.
    drop : In(1)
        Pulse: forget the received frame.
    received : Out(10)
        Bytes of the frame, CRC included.
    full : Out(1)
        There is no room for another one.
    past : Out(10)
        Bytes of the frame without its CRC.
    settle : In(1)
        Pulse: wait as if the pointer had moved, for what is computed from the frame.
    advance : In(1)
        Pulse: move the pointer to the next byte.
    jump : In(1)
        Pulse: move the pointer to ``target``.
    target : In(10)
        Where to.
    step : Out(1)
        ``byte``, ``at_end`` and ``at_result`` are those of the pointer's place.
    byte : Out(8)
        The byte at the pointer.
    at_end : Out(1)
        The pointer is behind the last byte of the request.
    at_result : Out(1)
        The pointer is behind the last byte of the answer.
    result : Out(10)
        Where the next byte of the answer goes.
    place : In(1)
        Pulse: put the next bytes of the answer at ``place_at``.
    place_at : In(10)
        That address.
    store : In(1)
        Pulse: append ``put`` to the answer.
    put : In(8)
        A byte of the answer.
    """

    def __init__(self, init: bytes) -> None:
        self.init = init
        super().__init__(
            {
                "receiving": In(1),
                "data": In(8),
                "take": In(1),
                "drop": In(1),
                "received": Out(10),
                "full": Out(1),
                "past": Out(10),
                "settle": In(1),
                "advance": In(1),
                "jump": In(1),
                "target": In(10),
                "step": Out(1),
                "byte": Out(8),
                "at_end": Out(1),
                "at_result": Out(1),
                "result": Out(10),
                "place": In(1),
                "place_at": In(10),
                "store": In(1),
                "put": In(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = Memory(shape=8, depth=RAM_DEPTH, init=self.init)
        write, read = write_port(ram), read_port(ram)
        pointer = Signal(10, init=PROGRAM_HASH, name="pointer")
        following = Signal(10, name="following")
        reading = Signal(BYTE_CYCLES - 1, init=-1, name="reading")
        moves, still = Signal(name="moves"), Signal(init=1, name="still")
        m.d.comb += [
            read.addr.eq(pointer),
            following.eq(Mux(self.jump, self.target, pointer + self.advance)),
            moves.eq(self.settle | self.advance | self.jump),
            self.step.eq(~still),
            self.full.eq(self.received == FRAME_BYTES),
        ]
        m.d.sync += [
            pointer.eq(following),
            self.byte.eq(read.data),
            reading.eq(Cat(moves, reading[:-1])),
            still.eq(moves | reading[:-1].any()),
        ]
        # What has settled by the time that the pointer may move again.
        m.d.sync += [
            self.past.eq(self.received - CRC_BYTES),
            self.at_end.eq(pointer == self.past),
            self.at_result.eq(pointer == self.result),
        ]

        # One write port: for what is received, and for the answer.
        m.d.comb += [
            write.addr.eq(Mux(self.receiving, self.received, self.result)),
            write.data.eq(Mux(self.receiving, self.data, self.put)),
            write.en.eq(self.take | self.store),
        ]
        with m.If(self.take):
            m.d.sync += self.received.eq(self.received + 1)
        with m.If(self.drop):
            m.d.sync += self.received.eq(0)
        with m.If(self.place):
            m.d.sync += self.result.eq(self.place_at)
        with m.Elif(self.store):
            m.d.sync += self.result.eq(self.result + 1)
        return m


class FrameReceiver(wiring.Component):
    """Receives a frame into the RAM, checks it, and finds out whether it is the next request or the last one
    once more; a damaged one is dropped.

    ``last`` holds sequence number and CRC of the last request executed, and turns by a byte with each byte
    that it is compared with, so that a frame that is refused leaves it as it was. The bytes of a frame that
    is to be executed then go through it a second time and stay.

    Members
    -------
    listen : In(1)
        Pulse: receive the next frame.
    step : In(1)
        From the RAM: its outputs are settled; nothing happens before.
    item : In(stream.Signature(FrameByte))
        The bytes of frames.
    full : In(1)
        From the RAM: there is no room.
    byte : In(8)
        From the RAM: the byte at the pointer.
    matches : In(1)
        The frame is long enough, and its CRC right.
    takes : In(1)
        The next request is executed, not refused.
    receiving : Out(1)
        Bytes go into the RAM, and nothing else happens.
    take : Out(1)
        Pulse: the RAM takes ``item``.
    settle : Out(1)
        Pulse, to the RAM: wait for what is computed from the frame.
    advance : Out(1)
        Pulse, to the RAM: go to the next byte.
    to_start : Out(1)
        Pulse, to the RAM: go to the frame's first byte.
    to_crc : Out(1)
        Pulse, to the RAM: go to the frame's CRC.
    to_sequence : Out(1)
        Pulse, to the RAM: go to the sequence number.
    damaged : Out(1)
        Pulse: the frame is dropped.
    done : Out(1)
        Pulse: there is a frame; the pointer goes to its first byte.
    fresh : Out(1)
        From ``done`` on: it is to be executed, being HELLO or the next request.
    same : Out(1)
        From ``done`` on, where it is not: it is the last one executed once more.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "listen": In(1),
                "step": In(1),
                "item": In(stream.Signature(FrameByte)),
                "full": In(1),
                "byte": In(8),
                "matches": In(1),
                "takes": In(1),
                "receiving": Out(1),
                "take": Out(1),
                "settle": Out(1),
                "advance": Out(1),
                "to_start": Out(1),
                "to_crc": Out(1),
                "to_sequence": Out(1),
                "damaged": Out(1),
                "done": Out(1),
                "fresh": Out(1),
                "same": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        item, last = self.item, Signal(8 * COMPARED_BYTES, name="last")
        count = Signal(range(COMPARED_BYTES), name="count")
        over, hello = Signal(name="over"), Signal(name="hello")
        following, carry = Signal(name="following"), Signal(name="carry")
        ahead = Signal(8, name="ahead")
        m.d.comb += [
            item.ready.eq(self.receiving),
            self.take.eq(self.receiving & item.valid & ~item.payload.end & ~self.full),
            ahead.eq(self.byte - last[:8]),
        ]
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    with m.If(self.listen):
                        m.next = "RECEIVE"
                with m.State("RECEIVE"):
                    m.d.comb += self.receiving.eq(1)
                    m.d.sync += over.eq(over | (item.valid & self.full))
                    with m.If(item.valid & item.payload.end):
                        m.d.sync += [self.same.eq(~item.payload.bad & ~over), over.eq(0)]
                        m.d.comb += self.settle.eq(1)
                        m.next = "CHECK"
                with m.State("CHECK"):
                    m.d.sync += self.fresh.eq(0)
                    with m.If(self.same & self.matches):
                        m.d.comb += self.to_start.eq(1)
                        m.next = "KIND"
                    with m.Else():
                        m.d.comb += self.damaged.eq(1)
                        m.next = "RECEIVE"
                with m.State("KIND"):
                    m.d.comb += self.advance.eq(1)
                    m.d.sync += hello.eq(self.byte == Command.HELLO)
                    m.next = "COMPARE"
                with m.State("COMPARE"):  # sequence number and CRC; those of a fresh frame a second time
                    m.d.comb += self.advance.eq(1)
                    m.d.sync += [
                        last.eq(Cat(last[8:], Mux(self.fresh, self.byte, last[:8]))),
                        self.same.eq(self.same & (ahead == 0)),
                        count.eq(count + 1),
                    ]
                    with m.If(count == 0):
                        m.d.sync += [following.eq(ahead == 1), carry.eq((ahead == 1) & (self.byte == 0))]
                    with m.If(count == SEQUENCE_BYTES - 1):
                        m.d.sync += following.eq(following & (ahead == carry))
                        m.d.comb += self.to_crc.eq(1)
                    with m.If(count == COMPARED_BYTES - 1):
                        m.d.comb += self.advance.eq(0)
                        m.d.sync += [count.eq(0), self.fresh.eq(1)]
                        with m.If(~self.fresh & (hello | (following & self.takes))):
                            m.d.comb += self.to_sequence.eq(1)
                        with m.Else():
                            m.d.sync += self.fresh.eq(self.fresh)
                            m.d.comb += self.done.eq(1)
                            m.next = "WAIT"
        return m


class AnswerSender(wiring.Component):
    """Sends an answer: type, sequence number and status; if that is OK a piece of the RAM; the CRC.

    Members
    -------
    start : In(1)
        Pulse: send one; the pointer goes to the request's first byte.
    step : In(1)
        From the RAM: its outputs are settled; nothing happens before.
    status : In(3)
        The answer's status.
    byte : In(8)
        From the RAM: the byte at the pointer.
    at_result : In(1)
        From the RAM: the pointer is behind the last byte of the answer.
    advance : Out(1)
        Pulse, to the RAM: go to the next byte.
    to_payload : Out(1)
        Pulse, to the RAM: go to the first byte of the answer's payload.
    crc_clear : Out(1)
        The CRC starts over.
    crc_low : In(8)
        The low byte of the CRC.
    crc_busy : In(1)
        A byte is being worked in.
    crc_data : Out(8)
        The byte for the CRC to take with each item but the ends.
    item : Out(stream.Signature(OpenByte))
        The bytes of the answer.
    refused : Out(1)
        Pulse: the status is not OK.
    done : Out(1)
        Pulse: the answer is out.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "step": In(1),
                "status": In(3),
                "byte": In(8),
                "at_result": In(1),
                "advance": Out(1),
                "to_payload": Out(1),
                "crc_clear": Out(1),
                "crc_low": In(8),
                "crc_busy": In(1),
                "crc_data": Out(8),
                "item": Out(stream.Signature(OpenByte)),
                "refused": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        item, count = self.item, Signal(2, name="count")  # of the bytes in HEAD and in SUM
        m.d.comb += self.crc_data.eq(item.payload.data)
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    with m.If(self.start):
                        m.next = "OPEN"
                with m.State("OPEN"):
                    m.d.comb += [item.valid.eq(1), item.payload.end.eq(1), self.crc_clear.eq(1)]
                    with m.If(item.ready):
                        m.next = "HEAD"
                with m.State("HEAD"):  # type, sequence number, status
                    m.d.comb += [item.valid.eq(1), item.payload.data.eq(self.byte)]
                    with m.If(count == 0):
                        m.d.comb += item.payload.data.eq(self.byte | ANSWER)
                    with m.If(count == HEAD_BYTES):
                        m.d.comb += item.payload.data.eq(self.status)
                    with m.If(item.ready):
                        m.d.sync += count.eq(count + 1)
                        with m.If(count != HEAD_BYTES):
                            m.d.comb += self.advance.eq(1)
                        with m.Elif(self.status.any()):
                            m.d.comb += self.refused.eq(1)
                            m.next = "SUM"
                        with m.Else():
                            m.d.comb += self.to_payload.eq(1)
                            m.next = "PAYLOAD"
                with m.State("PAYLOAD"):
                    m.d.comb += [item.valid.eq(~self.at_result), item.payload.data.eq(self.byte)]
                    with m.If(self.at_result):
                        m.next = "SUM"
                    with m.Elif(item.ready):
                        m.d.comb += self.advance.eq(1)
                with m.State("SUM"):
                    # taking the complement of its low byte shifts the CRC by a byte
                    m.d.comb += [
                        item.valid.eq(~self.crc_busy),
                        item.payload.data.eq(self.crc_low),
                        self.crc_data.eq(~self.crc_low),
                    ]
                    with m.If(item.valid & item.ready):
                        m.d.sync += count.eq(count + 1)
                        with m.If(count == CRC_BYTES - 1):
                            m.next = "CLOSE"
                with m.State("CLOSE"):
                    m.d.comb += [item.valid.eq(1), item.payload.end.eq(1), self.crc_clear.eq(1)]
                    with m.If(item.ready):
                        m.d.comb += self.done.eq(1)
                        m.next = "WAIT"
        return m
