"""Link controller: byte stream on one side, engine core on the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth import Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.geometry import Mem
from ternac.hdl.cells.registers import StreamRegister
from ternac.hdl.link.batch import BatchRequest
from ternac.hdl.link.crc import Crc32
from ternac.hdl.link.dispatch import Dispatcher
from ternac.hdl.link.frames import (
    IDENTITY,
    RAM_DEPTH,
    RESULT,
    AnswerSender,
    FrameRam,
    FrameReceiver,
)
from ternac.hdl.link.ports import ByteStream, EngineSignature
from ternac.hdl.link.requests import (
    CommitRequest,
    ReadRequest,
    RequestRegisters,
    RunRequest,
    RunSummary,
    WriteRequest,
)
from ternac.hdl.link.slip import FrameByte, OpenByte, SlipDecoder, SlipEncoder
from ternac.link import (
    CRC_BYTES,
    HASH_BYTES,
    HEAD_BYTES,
    MAX_BATCH_TOKENS,
    RUN_HEAD,
    WATCHDOG_CYCLES,
    WINDOW,
    Command,
    Identity,
)

__all__ = ["LinkController"]

LONGEST_BATCH = 4 * (2 * MAX_BATCH_TOKENS + 4) + 4
assert RESULT + LONGEST_BATCH <= RAM_DEPTH


class LinkController(wiring.Component):
    """Receives frames (docs/link.md), checks them, drives the engine, answers.

    A `FrameReceiver` fills the RAM and checks the frame; a `Dispatcher` reads its type and head, and starts
    the component of the request; an `AnswerSender` sends what that has put into the RAM. One of them works
    at a time. An answer is always a piece of the RAM, and the last request executed is answered again from
    there when it comes once more.

    Parameters
    ----------
    clock_hz : of the design, for HELLO; 0 for a simulated one.
    bitstream_id : 16 bytes.
    geometry_hash : 8 bytes.
    program_hash_init : 16 bytes, zeros for an engine that starts empty.
    word_bytes : bytes of a word of each memory, in the order of Mem.
    contexts : of the engine; with one there is no BATCH.
    window : requests that the host may have in flight (`Identity.window`); with one every RUN that FOLLOWS
        another is refused.
    watchdog : cycles for one token after which the engine is given up, within twice as many; a power of two.

    Raises ValueError if one of them does not fit.

    Members
    -------
    rx : In(ByteStream)
        Bytes from the host.
    tx : Out(ByteStream)
        Bytes to the host.
    engine : Out(EngineSignature)
        The engine.
    idle : Out(1)
        Nothing will happen before the next received byte, and no byte waits to be sent.
    loaded : Out(1)
        A program is committed.
    fault : Out(1)
        Pulse: a frame was dropped or refused.
    """

    AREA_PART = "link"

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
        watchdog: int = WATCHDOG_CYCLES,
    ) -> None:
        if not 1 <= contexts <= 4:
            raise ValueError(f"contexts must be 1 to 4, not {contexts!r}")
        self.contexts = contexts
        if not 0 <= clock_hz < 1 << 32:
            raise ValueError(f"clock_hz must be below 2**32, not {clock_hz!r}")
        sizes = len(Mem) - 1, len(Mem)
        if len(word_bytes) not in sizes or not all(1 <= n <= 3 for n in word_bytes):
            counts = f"{sizes[0]} or, with rows, {sizes[1]}"
            raise ValueError(f"word_bytes must be {counts} numbers from 1 to 3, not {word_bytes!r}")
        if window not in (1, WINDOW):
            raise ValueError(f"window must be 1 or {WINDOW}, not {window!r}")
        if watchdog not in (1 << bit for bit in range(1, 33)):
            raise ValueError(f"watchdog must be a power of two up to 2**32, not {watchdog!r}")
        self.watchdog = watchdog
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
        m.submodules.arriving = arriving = StreamRegister(FrameByte)
        m.submodules.leaving = leaving = StreamRegister(OpenByte, cut=True)
        m.submodules.frame = frame = FrameRam(self.ram_init)
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.sender = sender = AnswerSender()
        m.submodules.dispatch = dispatch = Dispatcher(self.contexts)
        m.submodules.registers = registers = RequestRegisters()
        m.submodules.commit = commit = CommitRequest()
        m.submodules.write = write = WriteRequest(self.word_bytes)
        m.submodules.read = read = ReadRequest()
        m.submodules.run = run = RunRequest()
        m.submodules.summary = summary = RunSummary()
        requests: list[Any] = [commit, write, read, run]
        engine, step, byte = self.engine, frame.step, frame.byte
        connect(m, flipped(self.rx), decoder.i)
        connect(m, decoder.o, arriving.i)
        connect(m, arriving.o, receiver.item)
        connect(m, sender.item, leaving.i)
        connect(m, leaving.o, encoder.i)
        connect(m, encoder.o, flipped(self.tx))

        # Receiver, sender and the CRC, which takes what comes and what goes but the ends of frames.
        sent = sender.item.valid & sender.item.ready & ~sender.item.payload.end
        matches = Signal(name="matches")
        m.d.sync += matches.eq(crc.match & (frame.received >= HEAD_BYTES + CRC_BYTES))
        m.d.comb += [
            receiver.step.eq(step),
            receiver.listen.eq(dispatch.listen),
            receiver.full.eq(frame.full),
            receiver.byte.eq(byte),
            receiver.matches.eq(matches),
            sender.step.eq(step),
            sender.start.eq(dispatch.respond),
            sender.status.eq(dispatch.status),
            sender.byte.eq(byte),
            sender.at_result.eq(frame.at_result),
            sender.crc_low.eq(crc.low),
            sender.crc_busy.eq(crc.busy),
            crc.data.eq(Mux(receiver.receiving, arriving.o.payload.data, sender.crc_data)),
            crc.valid.eq(receiver.take | sent),
            crc.clear.eq(receiver.damaged | sender.crc_clear),
            self.fault.eq(receiver.damaged & frame.received.any() | sender.refused),
            self.idle.eq(receiver.receiving & ~self.rx.valid & ~arriving.o.valid & ~leaving.o.valid),
        ]

        # The dispatcher starts the requests.
        is_batch = dispatch.kind == Command.BATCH
        m.d.comb += [
            dispatch.step.eq(step),
            dispatch.byte.eq(byte),
            dispatch.past.eq(frame.past),
            dispatch.at_end.eq(frame.at_end),
            dispatch.received.eq(receiver.done),
            receiver.takes.eq(dispatch.takes),
            dispatch.is_fresh.eq(receiver.fresh),
            dispatch.same.eq(receiver.same),
            dispatch.hash_byte.eq(commit.load),
            dispatch.sent.eq(sender.done),
            self.loaded.eq(dispatch.loaded),
            engine.clear.eq(dispatch.clear),
            commit.start.eq(dispatch.commit),
            write.start.eq(dispatch.write),
            read.start.eq(dispatch.read),
            run.start.eq(dispatch.run),
            summary.step.eq(step),
            summary.start.eq(run.summarize),
            summary.cycles_only.eq(is_batch),
        ]

        self._registers(m, frame, dispatch, registers, commit, write, read, run, summary)
        self._engine(m, registers, write, read, run, frame.at_end)
        if self.contexts > 1:
            m.submodules.batch = batch = BatchRequest(self.contexts)
            requests.append(batch)
            m.d.comb += [batch.start.eq(dispatch.batch), summary.start.eq(run.summarize | batch.summarize)]
        # The watchdog stops the requests for good, so that a late engine finds nobody.
        self._watch(m, dispatch)
        for request in requests:
            m.d.comb += [request.step.eq(step & ~dispatch.stuck), request.at_end.eq(frame.at_end)]
        m.d.comb += [
            dispatch.finish.eq(_any(request.finish for request in requests) | summary.finish),
            dispatch.outcome.eq(_any(request.outcome for request in requests)),
        ]

        if self.identity.window > 1:
            self._follows(m, dispatch, run, summary, is_batch)

        # The RAM: where its pointer goes, and what is written.
        last_byte = Mux(summary.of_cycles, engine.cycles.word_select(summary.number, 8), registers.rng[:8])
        m.d.comb += [
            frame.receiving.eq(receiver.receiving),
            frame.data.eq(arriving.o.payload.data),
            frame.take.eq(receiver.take),
            frame.drop.eq(receiver.damaged | sender.done),
            frame.settle.eq(receiver.settle),
            frame.advance.eq(_any(part.advance for part in (receiver, sender, dispatch, *requests))),
            frame.jump.eq(
                receiver.to_start
                | receiver.to_crc
                | receiver.to_sequence
                | receiver.done
                | dispatch.respond
                | dispatch.to_payload
                | sender.to_payload
            ),
            frame.place.eq(dispatch.place | commit.restore),
            frame.place_at.eq(Mux(commit.restore, RESULT, dispatch.place_at)),
            frame.store.eq(_any(request.store for request in requests) | summary.store),
            frame.put.eq(Mux(summary.store, last_byte, registers.word[:8])),
        ]
        self._target(m, frame, receiver, sender, dispatch)
        if self.contexts > 1:
            self._batch(m, batch, frame, registers, is_batch)
        return m

    def _registers(
        self, m: Module, frame: FrameRam, dispatch: Dispatcher, registers: RequestRegisters,
        commit: CommitRequest, write: WriteRequest, read: ReadRequest, run: RunRequest, summary: RunSummary,
    ) -> None:  # fmt: skip
        """Wire the registers to the requests that use them."""
        m.d.comb += [
            registers.byte.eq(frame.byte),
            registers.shift.eq(dispatch.shift | summary.store),
            registers.next_address.eq(write.wr_en | read.got),
            registers.count_down.eq(read.got | run.chosen),
            registers.keep_rng.eq(run.keep),
            registers.new_rng.eq(self.engine.rng_out),
            registers.load.eq(commit.load | write.load | run.load),
            registers.part.eq(write.part | run.part),
            registers.keep_word.eq(read.got | run.keep),
            registers.new_word.eq(Mux(read.got, self.engine.rd_data, self.engine.next_token)),
            registers.turn.eq(frame.store),
            write.number.eq(registers.number),
            read.some.eq(registers.some),
            run.some.eq(registers.some),
            run.whole.eq(frame.past[0] == (HEAD_BYTES + RUN_HEAD) % 2),
            run.follows.eq(registers.follows),
        ]

    def _follows(
        self, m: Module, dispatch: Dispatcher, run: RunRequest, summary: RunSummary, is_batch: Value
    ) -> None:
        """Remember for a RUN that FOLLOWS whether the request before was a RUN that was answered with OK."""
        ran, in_order = Signal(name="ran"), Signal(name="in_order")
        with m.If(summary.finish):
            m.d.sync += ran.eq(~is_batch)
        with m.If(dispatch.fresh):
            m.d.sync += [ran.eq(0), in_order.eq(ran)]
        m.d.comb += run.in_order.eq(in_order)

    def _watch(self, m: Module, dispatch: Dispatcher) -> None:
        """Give the engine up when a bit of its cycles rises twice without a token done between."""
        high = self.engine.cycles[self.watchdog.bit_length() - 2]
        before, once = Signal(name="before"), Signal(name="once")
        m.d.sync += before.eq(high)
        with m.If(self.engine.done | dispatch.clear):
            m.d.sync += once.eq(0)
        with m.Elif(high & ~before):
            m.d.sync += once.eq(1)
        m.d.comb += dispatch.lost.eq(once & high & ~before & ~self.engine.done)

    def _target(
        self, m: Module, frame: FrameRam, receiver: FrameReceiver, sender: AnswerSender, dispatch: Dispatcher
    ) -> None:
        """Say where the pointer jumps to: to the first byte of the frame unless to one of these."""
        with m.If(receiver.to_crc):
            m.d.comb += frame.target.eq(frame.past)
        with m.If(receiver.to_sequence):
            m.d.comb += frame.target.eq(1)
        with m.If(dispatch.to_payload):
            m.d.comb += frame.target.eq(HEAD_BYTES)
        with m.If(sender.to_payload):
            m.d.comb += frame.target.eq(Mux(dispatch.kind == Command.HELLO, IDENTITY, RESULT))

    def _engine(
        self, m: Module, registers: RequestRegisters, write: WriteRequest, read: ReadRequest, run: RunRequest,
        at_end: Value,
    ) -> None:  # fmt: skip
        """Drive the engine's ports from the requests and their registers."""
        engine = self.engine
        m.d.comb += [
            engine.wr_en.eq(write.wr_en),
            engine.wr_mem.eq(registers.number[:3]),
            engine.wr_block.eq(registers.block),
            engine.wr_addr.eq(registers.address),
            engine.wr_data.eq(registers.word),
            engine.rd_en.eq(read.rd_en),
            engine.rd_block.eq(registers.block),
            engine.rd_addr.eq(registers.address),
            read.rd_valid.eq(engine.rd_valid),
            engine.start.eq(run.engine_start),
            engine.token.eq(registers.word[:16]),
            engine.session_base.eq(registers.address),
            engine.emit.eq(at_end & registers.some),
            engine.rng_in.eq(registers.rng),
            engine.greedy.eq(registers.greedy),
            engine.inv_s.eq(registers.inv_s),
            engine.inv_m.eq(registers.inv_m),
            engine.top_k.eq(registers.top_k),
            run.busy.eq(engine.busy),
            run.engine_done.eq(engine.done),
        ]

    def _batch(
        self, m: Module, batch: BatchRequest, frame: FrameRam, registers: RequestRegisters, is_batch: Value
    ) -> None:
        """Wire BATCH, of an engine with several contexts, to the engine and the RAM."""
        engine = self.engine
        m.d.comb += [
            batch.byte.eq(frame.byte),
            batch.number.eq(registers.number),
            batch.entry_step.eq(registers.address),
            batch.result.eq(frame.result),
            batch.engine_done.eq(engine.done),
            batch.done_context.eq(engine.done_context),
            batch.rng_out.eq(engine.rng_out),
            engine.start_context.eq(batch.context),
            engine.entry.eq(batch.entry),
            engine.again.eq(batch.again),
            engine.hold_done.eq(batch.hold_done),
        ]
        with m.If(is_batch):
            m.d.comb += [
                engine.start.eq(batch.engine_start),
                engine.token.eq(Mux(batch.again, engine.next_token, batch.token)),
                engine.session_base.eq(batch.session_base),
                engine.emit.eq(1),
                engine.rng_in.eq(batch.rng),
            ]
        with m.If(batch.keep_word):
            m.d.comb += registers.keep_word.eq(1)
        with m.If(batch.place):
            m.d.comb += [frame.place.eq(1), frame.place_at.eq(batch.place_at)]
        with m.If(batch.of_rng):
            m.d.comb += frame.put.eq(batch.rng_byte)


def _any(values: Iterable[Value]) -> Value:
    """The OR of values of which at most one is not 0."""
    return reduce(or_, values)
