"""The dispatcher of the link controller: from a checked frame to the request's component and its answer."""

from __future__ import annotations

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.frames import IDENTITY, PROGRAM_HASH, RESULT
from ternac.link import BATCH_HEAD, HASH_BYTES, HEAD_BYTES, RUN_HEAD, WRITE_HEAD, Command, Identity, Status

__all__ = ["Dispatcher"]


class Dispatcher(wiring.Component):
    """Reads the type and the head of a request, starts its component, and has the answer sent.

    At power-up it first looks whether there is a program hash in the RAM. The status of the last request
    executed is kept while others are refused, as its answer in the RAM is, so that it can be sent again.

    Parameters
    ----------
    contexts : of the engine; with one there is no BATCH.

    Members
    -------
    step : In(1)
        From the RAM: its outputs are settled; nothing happens before.
    byte : In(8)
        From the RAM: the byte at the pointer.
    past : In(10)
        From the RAM: bytes of the frame without its CRC.
    at_end : In(1)
        From the RAM: the pointer is behind the last byte of the request.
    listen : Out(1)
        Pulse, to the receiver: receive the next frame.
    received : In(1)
        Pulse, from the receiver: there is a frame, and the pointer goes to its first byte.
    takes : Out(1)
        To the receiver: the next request is executed, not refused.
    is_fresh : In(1)
        From the receiver: it is to be executed.
    same : In(1)
        From the receiver, where it is not: it is the last one executed once more.
    advance : Out(1)
        Pulse, to the RAM: go to the next byte.
    to_payload : Out(1)
        Pulse, to the RAM: go to the request's payload.
    place : Out(1)
        Pulse, to the RAM: put the next bytes of the answer at ``place_at``.
    place_at : Out(10)
        That address.
    shift : Out(1)
        Pulse, to the registers: the byte belongs to the head.
    fresh : Out(1)
        Pulse: a request is executed, or refused, for the first time.
    kind : Out(3)
        Its type.
    commit : Out(1)
        Pulse: start COMMIT.
    write : Out(1)
        Pulse: start WRITE.
    read : Out(1)
        Pulse: start READ.
    run : Out(1)
        Pulse: start RUN.
    batch : Out(1)
        Pulse: start BATCH.
    hash_byte : In(1)
        Pulse, from COMMIT: the byte belongs to the program hash.
    finish : In(1)
        Pulse, from the request: it is executed, or refused.
    outcome : In(3)
        Its status then.
    lost : In(1)
        The engine does not finish: what is executed ends, and only HELLO is executed from then on.
    stuck : Out(1)
        That was so once.
    respond : Out(1)
        Pulse, to the sender and the RAM: send the answer from the request's first byte on.
    status : Out(3)
        The answer's status.
    sent : In(1)
        Pulse, from the sender: the answer is out.
    clear : Out(1)
        Pulse, to the engine: count cycles from 0.
    loaded : Out(1)
        A program is committed.
    """

    def __init__(self, contexts: int) -> None:
        self.contexts = contexts
        super().__init__(
            {
                "step": In(1),
                "byte": In(8),
                "past": In(10),
                "at_end": In(1),
                "listen": Out(1),
                "received": In(1),
                "takes": Out(1),
                "is_fresh": In(1),
                "same": In(1),
                "advance": Out(1),
                "to_payload": Out(1),
                "place": Out(1),
                "place_at": Out(10),
                "shift": Out(1),
                "fresh": Out(1),
                "kind": Out(3),
                "commit": Out(1),
                "write": Out(1),
                "read": Out(1),
                "run": Out(1),
                "batch": Out(1),
                "hash_byte": In(1),
                "finish": In(1),
                "outcome": In(3),
                "lost": In(1),
                "stuck": Out(1),
                "respond": Out(1),
                "status": Out(3),
                "sent": In(1),
                "clear": Out(1),
                "loaded": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        byte, count = self.byte, Signal(4, name="count")
        batched = self.contexts > 1
        opened, refused = Signal(name="opened"), Signal(name="refused")
        # Nothing was executed at power-up: what looks like it once more is answered so.
        executed = Signal(3, init=Status.NOT_OPEN, name="executed")
        refusal = Mux(self.stuck, Status.STUCK, Mux(opened, Status.OUT_OF_ORDER, Status.NOT_OPEN))
        m.d.comb += [
            self.takes.eq(opened & ~self.stuck),
            self.status.eq(Mux(refused, refusal, executed)),
        ]

        def answer(status: Status | Value) -> None:
            m.d.sync += executed.eq(status)
            m.next = "RESPOND"

        with m.If(self.step):
            with m.FSM():
                with m.State("POWER UP"):  # the bytes of the program hash
                    m.d.comb += self.advance.eq(1)
                    m.d.sync += [self.loaded.eq(self.loaded | byte.any()), count.eq(count + 1)]
                    with m.If(count == HASH_BYTES - 1):
                        m.d.comb += self.listen.eq(1)
                        m.next = "RECEIVE"
                with m.State("RECEIVE"):
                    with m.If(self.received):
                        m.next = "KIND"

                with m.State("KIND"):
                    m.d.sync += [self.kind.eq(byte), count.eq(0)]
                    m.d.comb += [self.clear.eq(1), self.to_payload.eq(1)]
                    m.d.sync += refused.eq(~self.is_fresh & (self.stuck | ~self.same))
                    with m.If(~self.is_fresh):  # refused, or the answer is still there
                        m.next = "RESPOND"
                    with m.Else():
                        m.d.comb += [self.fresh.eq(1), self.place.eq(1), self.place_at.eq(RESULT)]
                        m.next = "HEAD"
                        with m.Switch(byte):
                            with m.Case(Command.HELLO):
                                m.d.comb += self.place_at.eq(IDENTITY + Identity.LENGTH)
                                m.d.sync += opened.eq(1)
                                answer(Status.OK)
                            with m.Case(Command.WRITE, Command.READ):
                                pass
                            with m.Case(Command.RUN):
                                with m.If(~self.loaded):
                                    answer(Status.NOT_LOADED)
                            if batched:
                                with m.Case(Command.BATCH):
                                    members = self.past - (HEAD_BYTES + BATCH_HEAD)
                                    sessions = members[3:]
                                    fits = (sessions != 0) & (sessions <= self.contexts)
                                    with m.If((members[:3] != 0) | ~fits):
                                        answer(Status.BAD_LENGTH)
                                    with m.If(~self.loaded):
                                        answer(Status.NOT_LOADED)
                            with m.Case(Command.COMMIT):
                                with m.If(self.past != HEAD_BYTES + HASH_BYTES):
                                    answer(Status.BAD_LENGTH)
                                with m.Else():
                                    m.d.comb += [self.place_at.eq(PROGRAM_HASH), self.commit.eq(1)]
                                    m.d.sync += self.loaded.eq(0)
                                    m.next = "EXECUTE"
                            with m.Default():
                                answer(Status.UNKNOWN_COMMAND)

                with m.State("HEAD"):
                    m.d.comb += [self.shift.eq(1), self.advance.eq(1)]
                    m.d.sync += count.eq(count + 1)
                    short = Mux(self.kind == Command.BATCH, BATCH_HEAD - 1, WRITE_HEAD - 1)
                    with m.If(self.at_end):
                        answer(Status.BAD_LENGTH)
                    with m.Elif(count == Mux(self.kind == Command.RUN, RUN_HEAD - 1, short)):
                        m.next = "EXECUTE"
                        m.d.comb += [
                            self.write.eq(self.kind == Command.WRITE),
                            self.read.eq(self.kind == Command.READ),
                            self.run.eq(self.kind == Command.RUN),
                            self.batch.eq(self.kind == Command.BATCH),
                        ]

                with m.State("EXECUTE"):
                    with m.If(self.hash_byte & byte.any()):
                        m.d.sync += [self.loaded.eq(1), opened.eq(0)]
                    with m.If(self.lost):
                        m.d.sync += [self.stuck.eq(1), refused.eq(1)]
                        m.next = "RESPOND"
                    with m.Elif(self.finish):
                        answer(self.outcome)
                with m.State("RESPOND"):  # a state of its own keeps the requests' end off the sender's begin
                    m.d.comb += self.respond.eq(1)
                    m.next = "ANSWER"
                with m.State("ANSWER"):
                    with m.If(self.sent):
                        m.d.comb += self.listen.eq(1)
                        m.next = "RECEIVE"
        return m
