"""Link controller: byte stream on one side, engine core on the other."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.geometry import Mem
from ternac.hdl.link.crc import Crc32
from ternac.hdl.link.ports import ByteStream, EngineSignature
from ternac.hdl.link.receiver import FrameReceiver
from ternac.hdl.link.sender import AnswerSender
from ternac.hdl.link.slip import SlipDecoder, SlipEncoder
from ternac.protocol import (
    FRAME_BYTES,
    HASH_BYTES,
    HEAD_BYTES,
    PROGRAM_HASH_OFFSET,
    RUN_HEAD,
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
assert FRAME_BYTES <= IDENTITY and IDENTITY + Identity.LENGTH <= RESULT


class LinkController(wiring.Component):
    """Receives frames (docs/link.md), checks them, drives the engine, answers.

    Parameters: ``clock_hz`` of the design for HELLO, 0 for a simulated one; ``bitstream_id`` 16 bytes;
    ``geometry_hash`` 8 bytes; ``program_hash_init`` 16 bytes, zeros for an engine that starts empty;
    ``word_bytes``: bytes of a word of each memory, in the order of Mem. ValueError when one does not fit.

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
    ) -> None:
        if not 0 <= clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be below 2**32, not {clock_hz!r}")
        if len(word_bytes) != len(Mem) or not all(1 <= n <= 3 for n in word_bytes):
            raise ValueError(f"word_bytes must be {len(Mem)} numbers from 1 to 3, not {word_bytes!r}")
        self.identity = Identity(bitstream_id, geometry_hash, clock_hz, program_hash_init)
        self.word_bytes = tuple(word_bytes)
        self.ram_init = (bytes(IDENTITY) + self.identity.encode()).ljust(RAM_DEPTH, b"\0")
        super().__init__(
            {
                "rx": In(ByteStream), "tx": Out(ByteStream), "engine": Out(EngineSignature),
                "idle": Out(1), "loaded": Out(1), "fault": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = SlipDecoder()
        m.submodules.encoder = encoder = SlipEncoder()
        m.submodules.crc = crc = Crc32()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.sender = sender = AnswerSender(IDENTITY, RESULT)
        m.submodules.ram = ram = Memory(shape=8, depth=RAM_DEPTH, init=self.ram_init)
        write, read = ram.write_port(), ram.read_port()
        connect(m, flipped(self.rx), decoder.i)
        connect(m, decoder.o, receiver.i)
        connect(m, sender.o, encoder.i)
        connect(m, encoder.o, flipped(self.tx))

        # One read pointer for receiver, executor and sender; `byte` is always RAM[pointer], as the port reads
        # the pointer's next value. One write port for received bytes and for results.
        pointer, following, result = Signal(10, init=PROGRAM_HASH), Signal(10), Signal(10)
        kind, status, count, store, put = Signal(3), Signal(3), Signal(4), Signal(), Signal(8)
        byte, at_end = read.data, Signal()
        m.d.comb += [
            following.eq(pointer), read.addr.eq(following), at_end.eq(pointer == receiver.past),
            write.addr.eq(Mux(receiver.waiting, receiver.address, result)),
            write.data.eq(Mux(receiver.waiting, receiver.data, put)), write.en.eq(receiver.write | store),
            receiver.pointer.eq(pointer), receiver.byte.eq(byte), receiver.match.eq(crc.match),
            sender.pointer.eq(pointer), sender.byte.eq(byte), sender.end.eq(result), sender.status.eq(status),
            sender.hello.eq((kind == Command.HELLO) & ~status.any()),
            sender.low.eq(crc.low), sender.busy.eq(crc.busy),
            crc.clear.eq(receiver.clear | sender.clear), crc.valid.eq(receiver.write | sender.take),
            crc.data.eq(Mux(receiver.waiting, receiver.data, sender.data)),
            self.fault.eq(receiver.fault | (sender.done & status.any())),
        ]  # fmt: skip
        m.d.sync += pointer.eq(following)

        # The heads of WRITE, READ and RUN go through one shift register; the short ones use its last bytes.
        head, shift, step = Signal(8 * RUN_HEAD), Signal(), Signal()
        rng, top_k, inv_m = head[0:32], head[32:48], head[48:56]
        number, block, address = head[56:64], head[64:72], head[72:88]
        word, load, total, emit = Signal(18), Signal(), Signal(32), Signal()
        engine = self.engine
        m.d.comb += [
            emit.eq(at_end & number.any()), put.eq(word[:8]),
            engine.wr_mem.eq(number[:3]), engine.wr_block.eq(block), engine.wr_addr.eq(address),
            engine.wr_data.eq(word), engine.rd_block.eq(block), engine.rd_addr.eq(address),
            engine.token.eq(word[:16]), engine.session_base.eq(address), engine.emit.eq(emit),
            engine.greedy.eq(block[7]), engine.inv_s.eq(block[:5]), engine.inv_m.eq(inv_m),
            engine.top_k.eq(top_k), engine.rng_in.eq(rng),
        ]  # fmt: skip
        m.d.sync += engine.wr_en.eq(0)
        with m.If(shift):
            m.d.sync += head.eq(Cat(head[8:], byte))
        with m.If(step):
            m.d.sync += address.eq(address + 1)
        with m.If(load), m.Switch(count[:2]):
            for i, part in enumerate((word[:8], word[8:16], word[16:18])):
                with m.Case(i):
                    m.d.sync += part.eq(byte)
        with m.If(store):
            m.d.sync += [result.eq(result + 1), word[:16].eq(word[:16].rotate_left(8))]
        word_last = Signal(2)
        with m.Switch(number[:3]):
            for memory, size in enumerate(self.word_bytes):
                with m.Case(memory):
                    m.d.comb += word_last.eq(size - 1)

        def answer(outcome: Status) -> None:
            m.d.sync += status.eq(outcome)
            m.d.comb += following.eq(0)
            m.next = "ANSWER"

        primed = Signal()
        with m.FSM():
            with m.State("POWER UP"):  # a cycle for the first read, then the bytes of the program hash
                m.d.sync += primed.eq(1)
                with m.If(primed):
                    m.d.comb += following.eq(pointer + 1)
                    m.d.sync += [self.loaded.eq(self.loaded | byte.any()), count.eq(count + 1)]
                with m.If(count == HASH_BYTES - 1):
                    m.d.comb += receiver.release.eq(1)
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.comb += [
                    following.eq(receiver.following),
                    self.idle.eq(receiver.waiting & ~self.rx.valid),
                ]
                with m.If(receiver.frame):
                    m.d.comb += following.eq(0)
                    m.next = "KIND"
            with m.State("KIND"):
                m.d.sync += [kind.eq(byte), count.eq(0), total.eq(0)]
                m.d.comb += following.eq(HEAD_BYTES)
                with m.If(receiver.same):
                    m.d.comb += following.eq(0)
                    m.next = "ANSWER"
                with m.Else():
                    m.d.sync += result.eq(RESULT)
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
                        with m.Case(Command.COMMIT):
                            with m.If(receiver.past != HEAD_BYTES + HASH_BYTES):
                                answer(Status.BAD_LENGTH)
                            with m.Else():
                                m.d.sync += [result.eq(PROGRAM_HASH), self.loaded.eq(0)]
                                m.next = "COMMIT"
                        with m.Default():
                            answer(Status.UNKNOWN_COMMAND)

            with m.State("COMMIT"):
                m.d.comb += [load.eq(1), following.eq(pointer + 1)]
                m.d.sync += self.loaded.eq(self.loaded | byte.any())
                m.next = "COMMIT STORE"
            with m.State("COMMIT STORE"):
                m.d.comb += store.eq(1)
                m.next = "COMMIT"
                with m.If(at_end):
                    m.d.sync += result.eq(RESULT)
                    answer(Status.OK)

            with m.State("HEAD"):
                m.d.comb += [shift.eq(1), following.eq(pointer + 1)]
                m.d.sync += count.eq(count + 1)
                with m.If(count == Mux(kind == Command.RUN, RUN_HEAD - 1, WRITE_HEAD - 1)):
                    m.d.sync += count.eq(0)
                    with m.Switch(kind):
                        with m.Case(Command.WRITE):
                            m.next = "WRITE"
                        with m.Case(Command.READ):
                            m.next = "READ"
                        with m.Default():
                            m.next = "TOKEN"
                with m.If(at_end):
                    answer(Status.BAD_LENGTH)

            with m.State("WRITE"):
                m.d.comb += step.eq(engine.wr_en)
                with m.If(number >= len(Mem)):
                    answer(Status.BAD_MEMORY)
                with m.Elif(at_end):
                    answer(Status.OK)
                    with m.If(count.any()):
                        m.d.sync += status.eq(Status.BAD_LENGTH)
                with m.Else():
                    m.d.comb += [load.eq(1), following.eq(pointer + 1)]
                    m.d.sync += count.eq(count + 1)
                    with m.If(count[:2] == word_last):
                        m.d.sync += [count.eq(0), engine.wr_en.eq(1)]

            with m.State("READ"):
                with m.If(~at_end):
                    answer(Status.BAD_LENGTH)
                with m.Elif(~number.any()):
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
                with m.If(at_end | ~receiver.past[0]):
                    answer(Status.BAD_LENGTH)
                with m.Else():
                    m.d.comb += [load.eq(1), following.eq(pointer + 1)]
                    m.d.sync += count.eq(1)
                    with m.If(count[0]):
                        m.next = "START"
            with m.State("START"):
                m.d.sync += count.eq(0)
                with m.If(~engine.busy):
                    m.d.comb += engine.start.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(engine.done):
                    m.d.sync += total.eq(total + engine.cycles)
                    with m.If(emit):
                        m.d.sync += [
                            word.eq(engine.next_token),
                            rng.eq(engine.rng_out),
                            number.eq(number - 1),
                        ]
                        m.next = "STORE LOW"
                    with m.Elif(at_end):
                        m.next = "SUMMARY"
                    with m.Else():
                        m.next = "TOKEN"
            with m.State("STORE LOW"):
                m.d.comb += store.eq(1)
                m.next = "STORE HIGH"
            with m.State("STORE HIGH"):
                m.d.comb += store.eq(1)
                with m.If(kind == Command.READ):
                    m.next = "READ"
                with m.Elif(number.any()):
                    m.next = "START"
                with m.Else():
                    m.next = "SUMMARY"
            with m.State("SUMMARY"):
                m.d.comb += [
                    store.eq(1),
                    shift.eq(1),
                    put.eq(Mux(count[2], total.word_select(count[:2], 8), rng[:8])),
                ]
                m.d.sync += count.eq(count + 1)
                with m.If(count == 7):
                    answer(Status.OK)

            with m.State("ANSWER"):
                m.d.comb += [sender.enable.eq(1), following.eq(sender.following)]
                with m.If(sender.done):
                    m.d.comb += receiver.release.eq(1)
                    m.next = "RECEIVE"
        return m
