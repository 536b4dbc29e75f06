"""The link controller in Python: the same bytes in and out as hdl/link/controller.py, without time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.machine import Machine
from ternac.link import (
    ANSWER,
    BATCH_HEAD,
    BATCH_MEMBER,
    CLEAR_BLOCK,
    CLEAR_WORDS,
    CRC_BYTES,
    FRAME_BYTES,
    HASH_BYTES,
    MAX_BATCH_TOKENS,
    READ,
    READ_ROWS,
    READ_SPAN,
    RUN_HEAD,
    SEQUENCE,
    SPAN_WORDS,
    WRITE_HEAD,
    BatchAnswer,
    BatchRequest,
    Choice,
    Command,
    Frame,
    Identity,
    ReadRequest,
    RunAnswer,
    RunRequest,
    SlipDecoder,
    Status,
    WriteRequest,
    encode_span,
    encode_words,
)
from ternac.run.coding import frequencies
from ternac.run.sampling import Sampling, choose


class EngineModel(Protocol):
    """The engine that the controller drives."""

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """Write one loader word."""

    def read(self, block: int, addr: int) -> int:
        """Read one bank word."""

    def step(
        self, token: int, session_base: int, emit: bool, sampling: Sampling, rng: int, entry: int = 0
    ) -> tuple[int, int, int]:
        """Run one token; returns next token, generator and cycles, the first two valid only with ``emit``.

        Raises EngineStuck if it does not end.
        """


class EngineStuck(Exception):
    """A step of an engine does not end."""


class LinkModel:
    """A device: `feed` takes wire bytes and returns the wire bytes of the answers.

    ``executed`` counts the requests that were executed, ``refused`` those that were not: frames from before
    that came late, and what follows a lost one.
    """

    def __init__(
        self, identity: Identity, word_bytes: tuple[int, ...], engine: EngineModel, contexts: int = 1
    ) -> None:
        self.identity, self.word_bytes, self.engine, self.contexts = identity, word_bytes, engine, contexts
        self.executed = self.refused = 0
        self._decoder = SlipDecoder(FRAME_BYTES)
        self._last: _Executed | None = None
        self._open = self._stuck = False
        self._ran: tuple[int | None, int] | None = None
        """The RUN just executed: its last choice if any, the generator."""

    def feed(self, data: bytes) -> bytes:
        """Return the answers to the frames that ``data`` completes."""
        return b"".join(self._frame(raw) for raw in self._decoder.feed(data))

    def restart(self) -> None:
        """Forget what ran, as a reset does; the memories are the engine's."""
        self._last = self._ran = None
        self._open = self._stuck = False

    def _frame(self, raw: bytes) -> bytes:
        frame = Frame.decode(raw)
        if frame is None:
            return b""
        answer = self._answer(frame, raw[-CRC_BYTES:])
        return Frame(frame.kind | ANSWER, frame.seq, answer).wire()

    def _answer(self, frame: Frame, crc: bytes) -> bytes:
        """Return status and payload of the answer to a frame, which is executed if its turn has come."""
        last = self._last
        again = last is not None and (last.seq, last.crc) == (frame.seq, crc)
        if last is not None and again and not self._stuck:
            return last.answer
        if frame.kind != Command.HELLO and (refusal := self.refusal(frame.seq)):
            self.refused += 1
            return bytes((refusal,))
        self.executed += 1
        before, self._ran = self._ran, None
        try:
            status, payload = self._execute(frame, before)
        except EngineStuck:
            self._stuck = True
            status, payload = Status.STUCK, b""
        self._last = _Executed(frame.seq, crc, bytes((status,)) + payload)
        return self._last.answer

    def refusal(self, seq: int) -> Status:
        """Return why a request that is no HELLO is not executed; OK if it is."""
        if self._stuck:
            return Status.STUCK
        if self._last is None or not self._open:
            return Status.NOT_OPEN
        return Status.OK if seq == (self._last.seq + 1) % SEQUENCE else Status.OUT_OF_ORDER

    def _execute(self, frame: Frame, before: tuple[int | None, int] | None) -> tuple[Status, bytes]:
        data = frame.payload
        if frame.kind == Command.HELLO:
            self._open = True
            return Status.OK, self.identity.encode()
        if frame.kind == Command.COMMIT:
            if len(data) != HASH_BYTES:
                return Status.BAD_LENGTH, b""
            self.identity = replace(self.identity, program_hash=data)
            self._open = not self.identity.loaded
            return Status.OK, b""
        if frame.kind == Command.WRITE:
            return (self._write(data) if len(data) >= WRITE_HEAD else Status.BAD_LENGTH), b""
        if frame.kind == Command.READ:
            if len(data) != READ.size:
                return Status.BAD_LENGTH, b""
            read = ReadRequest.decode(data)
            words = [self.engine.read(read.block, read.address + i) for i in range(read.count)]
            return Status.OK, encode_words(words)
        if frame.kind == Command.RUN:
            if not self.identity.loaded:
                return Status.NOT_LOADED, b""
            if len(data) < RUN_HEAD:
                return Status.BAD_LENGTH, b""
            odd = (len(data) - RUN_HEAD) % 2
            run = RunRequest.decode(data[: len(data) - odd])
            if run.follows and (self.identity.window == 1 or before is None):
                return Status.OUT_OF_ORDER, b""
            if odd:
                return Status.BAD_LENGTH, b""
            if not run.tokens:
                if not run.follows or before is None or before[0] is None or not run.count:
                    return Status.BAD_LENGTH, b""
                run = replace(run, rng=before[1], tokens=[before[0]])
            return Status.OK, self._run(run).encode()
        if frame.kind == Command.BATCH and self.contexts > 1:
            if not self.identity.loaded:
                return Status.NOT_LOADED, b""
            members, odd = divmod(len(data) - BATCH_HEAD, BATCH_MEMBER)
            if odd or not 1 <= members <= self.contexts:
                return Status.BAD_LENGTH, b""
            batch = BatchRequest.decode(data)
            if not 1 <= batch.count <= MAX_BATCH_TOKENS:
                return Status.BAD_LENGTH, b""
            return Status.OK, self._batch(batch).encode()
        return Status.UNKNOWN_COMMAND, b""

    def _batch(self, batch: BatchRequest) -> BatchAnswer:
        sampling, chosen, total = _sampling(batch.choice), [], 0
        for k, member in enumerate(batch.members):
            token, rng, tokens = member.token, member.rng, list[int]()
            for _ in range(batch.count):
                token, rng, cycles = self.engine.step(
                    token, member.session_base, True, sampling, rng, k * batch.entry_step
                )
                total += cycles
                tokens.append(token)
            chosen.append((tokens, rng))
        return BatchAnswer(chosen, total & 0xFFFFFFFF)

    def _write(self, data: bytes) -> Status:
        write = WriteRequest.decode(data)
        if write.mem >= len(self.word_bytes):
            return Status.BAD_MEMORY
        size = self.word_bytes[write.mem]
        for i in range(len(write.data) // size):
            word = int.from_bytes(write.data[i * size : (i + 1) * size], "little")
            self.engine.write(write.mem, write.block, write.address + i, word)
        return Status.BAD_LENGTH if len(write.data) % size else Status.OK

    def _run(self, run: RunRequest) -> RunAnswer:
        sampling, feed, rng = _sampling(run.choice), list(run.tokens), run.rng
        out: list[int] = []
        total = 0
        while feed:
            emit = len(feed) == 1 and len(out) < run.count
            token, after, cycles = self.engine.step(feed.pop(0), run.session_base, emit, sampling, rng)
            total += cycles
            if emit:
                rng = after
                out.append(token)
                feed += [token] * (len(out) < run.count)
        self._ran = out[-1] if out else None, rng
        return RunAnswer(out, rng, total & 0xFFFFFFFF)


@dataclass(frozen=True)
class _Executed:
    """The request executed last: its number and CRC, and what was answered."""

    seq: int
    crc: bytes
    answer: bytes


def _sampling(choice: Choice) -> Sampling:
    return Sampling(choice.greedy, choice.m, choice.s, choice.top_k)


class MachineEngine:
    """`ternac.compile.machine` as the engine, with the memories of ``image``, zeros at first.

    Raises IndexError if a write is outside them, which no load of an image does.
    """

    CYCLES = 1000
    """Cycles that every step reports: the machine has no time."""

    def __init__(self, image: Image) -> None:
        self.memories = {mem: np.zeros_like(words) for mem, words in image.memories.items()}
        machine = Machine(image)
        self.bank, self.rows = machine.bank * 0, machine.rows * 0
        self._image = replace(image, memories=self.memories)
        self._machine: Machine | None = None
        self._logits = np.zeros(1, np.int32)

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """Write one loader word; anything but banks and rows is read again before the next token."""
        if mem == Mem.BANK:
            self.bank[block, addr] = (data + 0x8000 & 0xFFFF) - 0x8000
        elif mem == Mem.ROWS and block == CLEAR_BLOCK:
            self.rows[:, addr : addr + CLEAR_WORDS * (data + 1)] = 0
        elif mem == Mem.ROWS:
            self.rows[block, addr] = (data + 0x80 & 0xFF) - 0x80
        else:
            self.memories[Mem(mem)][block, addr] = data
            self._machine = None

    def read(self, block: int, addr: int) -> int:
        """Read one bank word, or one of rows."""
        if self._image.geometry.spans and READ_SPAN <= block < READ_ROWS:
            token, word = divmod(addr, SPAN_WORDS)
            return encode_span(*self._span(token, block - READ_SPAN))[word]
        if block >= READ_ROWS:
            return int(self.rows[block - READ_ROWS, addr]) & 0xFF
        return int(self.bank[block, addr]) & 0xFFFF

    def _span(self, token: int, scale_bits: int) -> tuple[int, int, int]:
        """Return the span of a token by the logits of the last step; of one that is none size 0."""
        found = frequencies(self._logits, scale_bits).tolist()
        known = token < len(found)
        return sum(found[:token]) if known else 0, found[token] if known else 0, sum(found)

    def step(
        self, token: int, session_base: int, emit: bool, sampling: Sampling, rng: int, entry: int = 0
    ) -> tuple[int, int, int]:
        """Run one token through the microcode, then the sampler."""
        if self._machine is None:
            self._machine = Machine(self._image)
            self._machine.bank, self._machine.rows = self.bank, self.rows
        self._logits = logits = self._machine.step(token, session_base, entry)
        return (*choose(logits, sampling, rng), self.CYCLES) if emit else (0, rng, self.CYCLES)
