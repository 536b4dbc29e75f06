"""Link controller: byte stream on one side, engine core on the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth import Cat, Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.geometry import Mem
from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.registers import StreamRegister
from ternac.hdl.link.batch import BYTE_CYCLES, BatchWires, batch_states
from ternac.hdl.link.crc import Crc32
from ternac.hdl.link.ports import ByteStream, EngineSignature
from ternac.hdl.link.slip import FrameByte, OpenByte, SlipDecoder, SlipEncoder
from ternac.link import (
    ANSWER,
    BATCH_HEAD,
    BATCH_MEMBER,
    CRC_BYTES,
    FOLLOWS,
    FRAME_BYTES,
    HASH_BYTES,
    HEAD_BYTES,
    MAX_BATCH_TOKENS,
    PROGRAM_HASH_OFFSET,
    RUN_HEAD,
    WINDOW,
    WRITE_HEAD,
    Command,
    Identity,
    Status,
)

RAM_DEPTH = 1024
IDENTITY = 320
RESULT = 384
PROGRAM_HASH = IDENTITY + PROGRAM_HASH_OFFSET
"""Byte address of the program hash in the controller's RAM: all zeros means that no program is loaded."""
LONGEST_BATCH = 4 * (2 * MAX_BATCH_TOKENS + 4) + 4
assert RESULT + LONGEST_BATCH <= RAM_DEPTH
assert FRAME_BYTES <= IDENTITY and IDENTITY + Identity.LENGTH <= RESULT


class LinkController(wiring.Component):
    """Receives frames (docs/link.md), checks them, drives the engine, answers.

    Parameters: ``clock_hz`` of the design for HELLO, 0 for a simulated one; ``bitstream_id`` 16 bytes;
    ``geometry_hash`` 8 bytes; ``program_hash_init`` 16 bytes, zeros for an engine that starts empty;
    ``word_bytes``: bytes of a word of each memory, in the order of Mem; ``contexts`` of the engine: with
    one there is no BATCH; ``window``: requests that the host may have under way (`Identity.window`), with one
    every RUN that FOLLOWS another is refused. ValueError when one does not fit.

    Members: ``rx`` In(stream of bytes), ``tx`` Out(stream of bytes), ``engine`` Out(EngineSignature);
    ``idle`` Out(1): nothing will happen before the next received byte; ``loaded`` Out(1): a program is
    committed; ``fault`` Out(1): pulse, a frame was dropped or refused.

    One RAM of 1024 x 8, submodule ``ram``, with ``ram_init`` at power-up, holds everything wider than a few
    bytes: the received frame from 0, the identity that HELLO answers from IDENTITY (its program hash, the
    only part that changes, at PROGRAM_HASH) and the payload of the last answer from RESULT. So an answer
    is always a piece of RAM, and a frame with the CRC of the last one executed (the sequence number is in
    it) is answered again from there without being executed.
    """

    def __init__(
        self,
        clock_hz: int,
        bitstream_id: bytes,
        geometry_hash: bytes,
        program_hash_init: bytes = bytes(HASH_BYTES),
        *,
        word_bytes: Sequence[int] = (2, 3, 1, 2, 2, 1, 2),
        contexts: int = 1,
        window: int = 1,
    ) -> None:
        if not 1 <= contexts <= 4:
            raise ValueError(f"contexts must be 1 to 4, not {contexts!r}")
        self.contexts = contexts
        if not 0 <= clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be below 2**32, not {clock_hz!r}")
        if len(word_bytes) != len(Mem) or not all(1 <= n <= 3 for n in word_bytes):
            raise ValueError(f"word_bytes must be {len(Mem)} numbers from 1 to 3, not {word_bytes!r}")
        if window not in (1, WINDOW):
            raise ValueError(f"window must be 1 or {WINDOW}, not {window!r}")
        self.identity = Identity(bitstream_id, geometry_hash, clock_hz, program_hash_init, window=window)
        self.word_bytes = tuple(word_bytes)
        self.ram_init = (bytes(IDENTITY) + self.identity.encode()).ljust(RAM_DEPTH, b"\0")
        super().__init__(
            {
                "rx": In(ByteStream),
                "tx": Out(ByteStream),
                "engine": Out(EngineSignature),
                "idle": Out(1),
                "loaded": Out(1),
                "fault": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.encoder = encoder = SlipEncoder()
        m.submodules.crc = crc = Crc32()
        m.submodules.ram = ram = Memory(shape=8, depth=RAM_DEPTH, init=self.ram_init)
        write, read = write_port(ram), read_port(ram)
        m.submodules.arriving = arriving = StreamRegister(FrameByte)
        m.submodules.leaving = leaving = StreamRegister(OpenByte, cut=True)
        connect(m, flipped(self.rx), decoder.i)
        connect(m, decoder.o, arriving.i)
        connect(m, leaving.o, encoder.i)
        connect(m, encoder.o, flipped(self.tx))
        engine, item, send = self.engine, arriving.o, leaving.i
        windowed = self.identity.window > 1

        # Pointers into the RAM. `byte` is RAM[pointer] once that has been read, two cycles after the pointer
        # moved; until then the machine stands still.
        received, result, following = (
            Signal(10, name="received"),
            Signal(10, name="result"),
            Signal(10, name="following"),
        )
        pointer = Signal(10, init=PROGRAM_HASH, name="pointer")
        past, at_end, at_result, full = (
            Signal(10, name="past"),
            Signal(name="at_end"),
            Signal(name="at_result"),
            Signal(name="full"),
        )
        matches, some = Signal(name="matches"), Signal(name="some")
        byte, reading = Signal(8, name="byte"), Signal(BYTE_CYCLES - 1, init=-1, name="reading")
        moves, still = Signal(name="moves"), Signal(init=1, name="still")
        quiet = Signal(name="quiet")
        m.d.comb += self.idle.eq(quiet & ~leaving.o.valid)
        m.d.sync += [
            byte.eq(read.data),
            reading.eq(Cat(moves, reading[:-1])),
            still.eq(moves | reading[:-1].any()),
        ]
        m.d.comb += [
            read.addr.eq(pointer),
            following.eq(pointer),
            full.eq(received == FRAME_BYTES),
        ]
        # what has settled when the machine moves again
        m.d.sync += [
            pointer.eq(following),
            past.eq(received - CRC_BYTES),
            at_end.eq(pointer == past),
            at_result.eq(pointer == result),
            matches.eq(crc.match & (received >= HEAD_BYTES + CRC_BYTES)),
        ]

        kind, status, count = Signal(3, name="kind"), Signal(3, name="status"), Signal(4, name="count")
        same, last_crc = Signal(name="same"), Signal(8 * CRC_BYTES, name="last_crc")
        # A RUN that FOLLOWS needs the one before: that it was executed and whether it chose tokens.
        ran, chose, due = Signal(name="ran"), Signal(name="chose"), Signal(8, name="due")
        in_order, goes_on, bare = Signal(name="in_order"), Signal(name="goes_on"), Signal(name="bare")

        # The heads of WRITE, READ and RUN go through one shift register; the short ones use its last four
        # bytes.
        head = Signal(8 * RUN_HEAD, name="head")
        rng, top_k, inv_m = head[0:32], head[32:48], head[48:56]
        number, block, address = head[56:64], head[64:72], head[72:88]
        follows = block[FOLLOWS.bit_length() - 1]
        word = Signal(18, name="word")
        take, shift, load, store = (
            Signal(name="take"),
            Signal(name="shift"),
            Signal(name="load"),
            Signal(name="store"),
        )
        emit, put, step = Signal(name="emit"), Signal(8, name="put"), Signal(name="step")
        # A BATCH's sessions, one after the other: generator, session base, token.
        member = Signal(8 * BATCH_MEMBER, name="member")
        batch, again = Signal(name="batch"), Signal(name="again")
        m.d.comb += [
            batch.eq(kind == Command.BATCH if self.contexts > 1 else 0),
            step.eq(engine.wr_en),
            emit.eq(batch | (at_end & some)),
            engine.wr_mem.eq(number[:3]),
            engine.wr_block.eq(block),
            engine.wr_addr.eq(address),
            engine.wr_data.eq(word),
            engine.rd_block.eq(block),
            engine.rd_addr.eq(address),
            engine.token.eq(Mux(again, engine.next_token, Mux(batch, member[48:], word[:16]))),
            engine.again.eq(again),
            engine.session_base.eq(Mux(batch, member[32:48], address)),
            engine.emit.eq(emit),
            engine.greedy.eq(block[7]),
            engine.inv_s.eq(block[:5]),
            engine.inv_m.eq(inv_m),
            engine.top_k.eq(top_k),
            engine.rng_in.eq(Mux(batch, member[:32], rng)),
        ]
        m.d.sync += [engine.wr_en.eq(0), some.eq(number.any())]  # two states pass before it is looked at
        with m.If(shift):
            m.d.sync += head.eq(Cat(head[8:], byte))
        with m.If(step):
            m.d.sync += address.eq(address + 1)
        with m.If(load):
            with m.Switch(count[:2]):
                for i, part in enumerate((word[:8], word[8:16], word[16:18])):
                    with m.Case(i):
                        m.d.sync += part.eq(byte)
        with m.If(store):
            m.d.sync += [result.eq(result + 1), word[:16].eq(word[:16].rotate_left(8))]
        m.d.comb += [
            put.eq(word[:8]),
            write.addr.eq(Mux(item.ready, received, result)),
            write.data.eq(Mux(item.ready, item.payload.data, put)),
            write.en.eq(take | store),
            take.eq(item.ready & item.valid & ~item.payload.end & ~full),
            crc.data.eq(Mux(item.ready, item.payload.data, send.payload.data)),
            crc.valid.eq(take | (send.valid & send.ready & ~send.payload.end)),
        ]
        with m.If(take):
            m.d.sync += received.eq(received + 1)

        word_last = Signal(2, name="word_last")
        with m.Switch(number[:3]):
            for memory, size in enumerate(self.word_bytes):
                with m.Case(memory):
                    m.d.comb += word_last.eq(size - 1)

        def goto(place: ValueLike) -> list[Any]:
            return [following.eq(place), moves.eq(1)]

        def answer(outcome: Status) -> None:
            m.d.sync += status.eq(outcome)
            m.d.comb += goto(0)
            m.next = "OPEN"

        with m.If(~still):
            with m.FSM():
                with m.State("POWER UP"):  # the bytes of the program hash
                    m.d.comb += goto(pointer + 1)
                    m.d.sync += [self.loaded.eq(self.loaded | byte.any()), count.eq(count + 1)]
                    with m.If(count == HASH_BYTES - 1):
                        m.next = "RECEIVE"
                with m.State("RECEIVE"):
                    m.d.comb += [item.ready.eq(1), quiet.eq(~self.rx.valid & ~item.valid)]
                    with m.If(item.valid & item.payload.end):
                        m.d.sync += same.eq(~item.payload.bad)
                        m.d.comb += goto(pointer)
                        m.next = "CHECK"
                with m.State("CHECK"):
                    m.d.sync += count.eq(0)
                    m.d.comb += goto(past)
                    m.next = "COMPARE"
                    with m.If(~same | ~matches):
                        m.d.comb += [crc.clear.eq(1), self.fault.eq(received.any())]
                        m.d.sync += received.eq(0)
                        m.next = "RECEIVE"
                with m.State("COMPARE"):
                    m.d.comb += goto(pointer + 1)
                    m.d.sync += [
                        last_crc.eq(Cat(last_crc[8:], byte)),
                        same.eq(same & (byte == last_crc[:8])),
                        count.eq(count + 1),
                    ]
                    with m.If(count == CRC_BYTES - 1):
                        if windowed:
                            m.d.comb += goto(1)
                            m.next = "SEQUENCE"
                        else:
                            m.d.comb += goto(0)
                            m.next = "KIND"
                if windowed:
                    with m.State("SEQUENCE"):
                        m.d.comb += goto(0)
                        m.d.sync += [
                            due.eq(byte + 1),
                            in_order.eq(ran & (byte == due)),
                            goes_on.eq(chose),
                        ]
                        m.next = "KIND"
                with m.State("KIND"):
                    m.d.sync += [kind.eq(byte), count.eq(0)]
                    m.d.comb += engine.clear.eq(1)
                    m.d.comb += goto(HEAD_BYTES)
                    with m.If(same):
                        m.d.comb += goto(0)
                        m.next = "OPEN"
                    with m.Else():
                        m.d.sync += [result.eq(RESULT), ran.eq(0), chose.eq(0), bare.eq(1)]
                        with m.Switch(byte):
                            with m.Case(Command.HELLO):
                                m.d.sync += result.eq(IDENTITY + Identity.LENGTH)
                                answer(Status.OK)
                            with m.Case(Command.WRITE, Command.READ):
                                m.next = "HEAD"
                            with m.Case(Command.RUN):
                                m.next = "HEAD"
                                with m.If(~self.loaded):
                                    answer(Status.NOT_LOADED)
                            if self.contexts > 1:
                                with m.Case(Command.BATCH):
                                    sessions = (past - (HEAD_BYTES + BATCH_HEAD))[3:]
                                    fits = (sessions != 0) & (sessions <= self.contexts)
                                    m.next = "HEAD"
                                    with m.If(((past - (HEAD_BYTES + BATCH_HEAD))[:3] != 0) | ~fits):
                                        answer(Status.BAD_LENGTH)
                                    with m.If(~self.loaded):
                                        answer(Status.NOT_LOADED)
                            with m.Case(Command.COMMIT):
                                with m.If(past != HEAD_BYTES + HASH_BYTES):
                                    answer(Status.BAD_LENGTH)
                                with m.Else():
                                    m.d.sync += [result.eq(PROGRAM_HASH), self.loaded.eq(0)]
                                    m.next = "COMMIT"
                            with m.Default():
                                answer(Status.UNKNOWN_COMMAND)

                with m.State("COMMIT"):
                    m.d.comb += [load.eq(1), goto(pointer + 1)]
                    m.d.sync += self.loaded.eq(self.loaded | byte.any())
                    m.next = "COMMIT STORE"
                with m.State("COMMIT STORE"):
                    m.d.comb += store.eq(1)
                    m.next = "COMMIT"
                    with m.If(at_end):
                        m.d.sync += result.eq(RESULT)
                        answer(Status.OK)

                with m.State("HEAD"):
                    m.d.comb += [shift.eq(1), goto(pointer + 1)]
                    m.d.sync += count.eq(count + 1)
                    short = Mux(batch, BATCH_HEAD - 1, WRITE_HEAD - 1)
                    head_last = Mux(kind == Command.RUN, RUN_HEAD - 1, short)
                    with m.If(count == head_last):
                        m.d.sync += count.eq(0)
                        with m.Switch(kind):
                            with m.Case(Command.WRITE):
                                m.next = "WRITE"
                            with m.Case(Command.READ):
                                m.next = "READ"
                            if self.contexts > 1:
                                with m.Case(Command.BATCH):
                                    m.next = "MEMBER"
                            with m.Default():
                                m.next = "TOKEN"
                    with m.If(at_end):
                        answer(Status.BAD_LENGTH)

                with m.State("WRITE"):
                    with m.If(number >= len(Mem)):
                        answer(Status.BAD_MEMORY)
                    with m.Elif(at_end):
                        answer(Status.OK)
                        with m.If(count.any()):
                            m.d.sync += status.eq(Status.BAD_LENGTH)
                    with m.Else():
                        m.d.comb += [load.eq(1), goto(pointer + 1)]
                        m.d.sync += count.eq(count + 1)
                        with m.If(count[:2] == word_last):
                            m.d.sync += [count.eq(0), engine.wr_en.eq(1)]

                with m.State("READ"):
                    with m.If(~at_end):
                        answer(Status.BAD_LENGTH)
                    with m.Elif(~some):
                        answer(Status.OK)
                    with m.Else():
                        m.d.comb += engine.rd_en.eq(1)
                        m.next = "READ WAIT"
                with m.State("READ WAIT"):
                    with m.If(engine.rd_valid):
                        m.d.comb += step.eq(1)
                        m.d.sync += [word.eq(engine.rd_data), number.eq(number - 1)]
                        m.next = "STORE LOW"

                with m.State("TOKEN"):  # the length of the tokens is even when `past` is odd
                    with m.If(bare & follows & ~in_order):
                        answer(Status.OUT_OF_ORDER)
                    with m.Elif(bare & follows & at_end & goes_on & some):
                        m.d.sync += [word.eq(engine.next_token), rng.eq(engine.rng_out)]
                        m.next = "START"
                    with m.Elif(at_end | ~past[0]):
                        answer(Status.BAD_LENGTH)
                    with m.Else():
                        m.d.comb += [load.eq(1), goto(pointer + 1)]
                        m.d.sync += [count.eq(1), bare.eq(0)]
                        with m.If(count[0]):
                            m.next = "START"
                with m.State("START"):
                    m.d.sync += count.eq(0)
                    with m.If(~engine.busy):
                        m.d.comb += engine.start.eq(1)
                        m.next = "RUN"
                with m.State("RUN"):
                    with m.If(engine.done):
                        with m.If(emit):
                            m.d.sync += [
                                word.eq(engine.next_token),
                                rng.eq(engine.rng_out),
                                number.eq(number - 1),
                                chose.eq(1),
                            ]
                            m.next = "STORE LOW"
                        with m.Elif(at_end):
                            m.next = "SUMMARY"
                        with m.Else():
                            m.next = "TOKEN"
                if self.contexts > 1:
                    wires = BatchWires(
                        engine=engine, byte=byte, pointer=pointer, goto=goto, at_end=at_end,
                        result=result, count=count, word=word, number=number, entry_step=address,
                        member=member, again=again, store=store, put=put, answer=answer,
                    )  # fmt: skip
                    batch_states(m, wires, self.contexts)
                with m.State("STORE LOW"):
                    m.d.comb += store.eq(1)
                    m.next = "STORE HIGH"
                with m.State("STORE HIGH"):
                    m.d.comb += store.eq(1)
                    with m.If(kind == Command.READ):
                        m.next = "READ"
                    with m.Elif(some):
                        m.next = "START"
                    with m.Else():
                        m.next = "SUMMARY"
                with m.State("SUMMARY"):
                    m.d.comb += [
                        store.eq(1),
                        shift.eq(1),
                        put.eq(Mux(count[2], engine.cycles.word_select(count[:2], 8), rng[:8])),
                    ]
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 7):
                        m.d.sync += ran.eq(~batch)
                        answer(Status.OK)

                with m.State("OPEN"):
                    m.d.comb += [send.valid.eq(1), send.payload.end.eq(1), crc.clear.eq(1)]
                    m.d.sync += count.eq(0)
                    with m.If(send.ready):
                        m.next = "TYPE"
                with m.State("TYPE"):
                    m.d.comb += [send.valid.eq(1), send.payload.data.eq(byte | ANSWER)]
                    with m.If(send.ready):
                        m.d.comb += goto(pointer + 1)
                        m.next = "SEQ"
                with m.State("SEQ"):
                    m.d.comb += [send.valid.eq(1), send.payload.data.eq(byte)]
                    with m.If(send.ready):
                        m.next = "STATUS"
                with m.State("STATUS"):
                    m.d.comb += [
                        send.valid.eq(1),
                        send.payload.data.eq(status),
                        self.fault.eq(status.any() & send.ready),
                    ]
                    with m.If(send.ready):
                        hello = (kind == Command.HELLO) & ~status.any()
                        m.d.comb += goto(Mux(hello, IDENTITY, RESULT))
                        m.next = "PAYLOAD"
                with m.State("PAYLOAD"):
                    m.d.comb += [send.valid.eq(~at_result), send.payload.data.eq(byte)]
                    with m.If(at_result):
                        m.next = "SUM"
                    with m.Elif(send.ready):
                        m.d.comb += goto(pointer + 1)
                with m.State("SUM"):
                    m.d.comb += [send.valid.eq(~crc.busy), send.payload.data.eq(crc.low)]
                    m.d.comb += crc.data.eq(~crc.low)
                    with m.If(send.valid & send.ready):
                        m.d.sync += count.eq(count + 1)
                        with m.If(count == CRC_BYTES - 1):
                            m.next = "CLOSE"
                with m.State("CLOSE"):
                    m.d.comb += [send.valid.eq(1), send.payload.end.eq(1), crc.clear.eq(1)]
                    m.d.sync += received.eq(0)
                    with m.If(send.ready):
                        m.next = "RECEIVE"
        return m
