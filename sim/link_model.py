"""The link controller in Python: the same bytes in and out as hdl/link/controller.py, no notion of time."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Protocol

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.machine import Machine
from ternac.link import (
    ANSWER,
    BATCH_HEAD,
    BATCH_MEMBER,
    FOLLOWS,
    FRAME_BYTES,
    GREEDY,
    HASH_BYTES,
    MAX_BATCH_TOKENS,
    RUN_COUNT,
    RUN_FLAGS,
    RUN_HEAD,
    WRITE_HEAD,
    Command,
    Frame,
    Identity,
    SlipDecoder,
    Status,
)
from ternac.run.sampling import Sampling, choose


class EngineModel(Protocol):
    """What the controller drives."""

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """One loader word."""

    def read(self, block: int, addr: int) -> int:
        """One bank word."""

    def step(
        self, token: int, session_base: int, emit: bool, sampling: Sampling, rng: int, entry: int = 0
    ) -> tuple[int, int, int]:
        """One token: (next token, generator, cycles); the first two count only with ``emit``."""


class LinkModel:
    """``feed`` takes wire bytes and returns the wire bytes of the answers."""

    def __init__(
        self, identity: Identity, word_bytes: tuple[int, ...], engine: EngineModel, contexts: int = 1
    ) -> None:
        self.identity, self.word_bytes, self.engine, self.contexts = identity, word_bytes, engine, contexts
        self.executed = 0
        self._decoder = SlipDecoder(FRAME_BYTES)
        self._last: tuple[bytes, bytes] | None = None
        self._ran: tuple[int, int | None, int] | None = None
        """The RUN just executed: the sequence number after it, its last choice if any, the generator."""

    def feed(self, data: bytes) -> bytes:
        """Answers to the frames that ``data`` completes."""
        return b"".join(self._frame(raw) for raw in self._decoder.feed(data))

    def _frame(self, raw: bytes) -> bytes:
        frame = Frame.decode(raw)
        if frame is None:
            return b""
        if self._last is None or self._last[0] != raw[-4:]:
            self.executed += 1
            before, self._ran = self._ran, None
            status, payload = self._execute(frame, before)
            self._last = raw[-4:], bytes((status,)) + payload
        return Frame(frame.kind | ANSWER, frame.seq, self._last[1]).wire()

    def _execute(self, frame: Frame, before: tuple[int, int | None, int] | None) -> tuple[Status, bytes]:
        data = frame.payload
        if frame.kind == Command.HELLO:
            return Status.OK, self.identity.encode()
        if frame.kind == Command.COMMIT:
            if len(data) != HASH_BYTES:
                return Status.BAD_LENGTH, b""
            self.identity = replace(self.identity, program_hash=data)
            return Status.OK, b""
        if frame.kind == Command.WRITE:
            return (self._write(data) if len(data) >= WRITE_HEAD else Status.BAD_LENGTH), b""
        if frame.kind == Command.READ:
            if len(data) != WRITE_HEAD:
                return Status.BAD_LENGTH, b""
            count, block, address = struct.unpack("<BBH", data)
            words = [self.engine.read(block, address + i) for i in range(count)]
            return Status.OK, struct.pack(f"<{count}H", *words)
        if frame.kind == Command.RUN:
            if not self.identity.loaded:
                return Status.NOT_LOADED, b""
            if len(data) < RUN_HEAD:
                return Status.BAD_LENGTH, b""
            follows = bool(data[RUN_FLAGS] & FOLLOWS)
            if follows and (self.identity.window == 1 or before is None or before[0] != frame.seq):
                return Status.OUT_OF_ORDER, b""
            if len(data) % 2 == 0:
                return Status.BAD_LENGTH, b""
            if len(data) == RUN_HEAD:
                if not follows or before is None or before[1] is None or not data[RUN_COUNT]:
                    return Status.BAD_LENGTH, b""
                data = before[2].to_bytes(4, "little") + data[4:] + before[1].to_bytes(2, "little")
            return Status.OK, self._run(frame.seq, data)
        if frame.kind == Command.BATCH and self.contexts > 1:
            if not self.identity.loaded:
                return Status.NOT_LOADED, b""
            members, odd = divmod(len(data) - BATCH_HEAD, BATCH_MEMBER)
            if odd or not 1 <= members <= self.contexts or not 1 <= data[3] <= MAX_BATCH_TOKENS:
                return Status.BAD_LENGTH, b""
            return Status.OK, self._batch(data)
        return Status.UNKNOWN_COMMAND, b""

    def _batch(self, data: bytes) -> bytes:
        top_k, m, count, flags, step = struct.unpack_from("<HBBBH", data)
        sampling = Sampling(bool(flags & GREEDY), m, flags & 0x1F, top_k)
        out, total = b"", 0
        for k, at in enumerate(range(BATCH_HEAD, len(data), BATCH_MEMBER)):
            rng, base, token = struct.unpack_from("<IHH", data, at)
            for _ in range(count):
                token, rng, cycles = self.engine.step(token, base, True, sampling, rng, k * step)
                total += cycles
                out += struct.pack("<H", token)
            out += struct.pack("<I", rng)
        return out + struct.pack("<I", total & 0xFFFFFFFF)

    def _write(self, data: bytes) -> Status:
        mem, block, address = struct.unpack_from("<BBH", data)
        if mem >= len(Mem):
            return Status.BAD_MEMORY
        size, body = self.word_bytes[mem], data[WRITE_HEAD:]
        for i in range(len(body) // size):
            self.engine.write(
                mem, block, address + i, int.from_bytes(body[i * size : (i + 1) * size], "little")
            )
        return Status.BAD_LENGTH if len(body) % size else Status.OK

    def _run(self, seq: int, data: bytes) -> bytes:
        rng, top_k, m, count, flags, base = struct.unpack_from("<IHBBBH", data)
        sampling = Sampling(bool(flags & GREEDY), m, flags & 0x1F, top_k)
        feed = list(struct.unpack(f"<{(len(data) - RUN_HEAD) // 2}H", data[RUN_HEAD:]))
        out: list[int] = []
        total = 0
        while feed:
            emit = len(feed) == 1 and len(out) < count
            token, after, cycles = self.engine.step(feed.pop(0), base, emit, sampling, rng)
            total += cycles
            if emit:
                rng = after
                out.append(token)
                feed += [token] * (len(out) < count)
        self._ran = (seq + 1) & 0xFF, out[-1] if out else None, rng
        return struct.pack(f"<{count}HII", *out, rng, total & 0xFFFFFFFF)


class MachineEngine:
    """``ternac.compile.machine`` as the engine: memories start as zeros and are filled over the link.

    Takes the shapes of ``image``; a write outside them is an IndexError, as the image never does it.
    """

    CYCLES = 1000
    """What every step reports; the machine has no notion of time."""

    def __init__(self, image: Image) -> None:
        self._image = replace(image, memories={mem: np.zeros_like(w) for mem, w in image.memories.items()})
        self._bank = Machine(image).bank * 0
        self._machine: Machine | None = None

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """One loader word; the machine is made anew when anything but a bank changes."""
        if mem == Mem.BANK:
            self._bank[block, addr] = (data + 0x8000 & 0xFFFF) - 0x8000
        else:
            self._image.memories[Mem(mem)][block, addr] = data
            self._machine = None

    def read(self, block: int, addr: int) -> int:
        """One bank word."""
        return int(self._bank[block, addr]) & 0xFFFF

    def step(
        self, token: int, session_base: int, emit: bool, sampling: Sampling, rng: int, entry: int = 0
    ) -> tuple[int, int, int]:
        """One token through the microcode, then the sampler."""
        if self._machine is None:
            self._machine = Machine(self._image)
            self._machine.bank = self._bank
        logits = self._machine.step(token, session_base, entry)
        return (*choose(logits, sampling, rng), self.CYCLES) if emit else (0, rng, self.CYCLES)
