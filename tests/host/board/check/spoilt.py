"""Lines with planted faults: in front of a simulated board, and of the loopback in Python."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ternac.host.board.transport import Transport
from ternac.link import ANSWER, WRITE, Command, Frame, ReadRequest, SlipDecoder
from ternac.sim.loopback_model import LoopbackModel

Request = Callable[[Frame], Frame | None]
Answer = Callable[[Frame, Frame], Frame | None]


class SpoiltLine:
    """Passes frames between the host and ``inner``; ``request`` and ``answer`` may change them, or drop them
    with None. ``answer`` gets the request, too.
    """

    byte_seconds = 0.0
    name = "a spoilt line"

    def __init__(
        self,
        inner: Transport,
        request: Request = lambda frame: frame,
        answer: Answer = lambda frame, asked: frame,
    ) -> None:
        self.inner, self.request, self.answer = inner, request, answer
        self.asked: dict[int, Frame] = {}
        self.to, self.back = SlipDecoder(), SlipDecoder()
        self.closed = False

    def write(self, data: bytes) -> None:
        for raw in self.to.feed(data):
            frame = Frame.decode(raw)
            assert frame is not None
            self.asked[frame.seq] = frame
            spoilt = self.request(frame)
            if spoilt is not None:
                self.inner.write(spoilt.wire())

    def read(self, timeout: float) -> bytes:
        out = b""
        for raw in self.back.feed(self.inner.read(timeout)):
            frame = Frame.decode(raw)
            assert frame is not None
            spoilt = self.answer(frame, self.asked[frame.seq])
            out += b"" if spoilt is None else spoilt.wire()
        return out

    def close(self) -> None:
        self.closed = True
        self.inner.close()


def stuck_bank_bit(column: int, address: int, bit: int) -> Answer:
    """A bit of BANK that always reads as 1."""

    def answer(frame: Frame, asked: Frame) -> Frame:
        if frame.kind != Command.READ | ANSWER:
            return frame
        read, payload = ReadRequest.decode(asked.payload), bytearray(frame.payload)
        if read.block == column and read.address <= address < read.address + read.count:
            payload[1 + 2 * (address - read.address) + bit // 8] |= 1 << bit % 8
        return Frame(frame.kind, frame.seq, bytes(payload))

    return answer


def stuck_loaded_bit(mem: int, block: int, address: int, bit: int, size: int) -> Request:
    """A bit of a memory that is only written, and always holds 1."""

    def request(frame: Frame) -> Frame:
        if frame.kind != Command.WRITE:
            return frame
        where, payload = WRITE.unpack(frame.payload), bytearray(frame.payload)
        at = WRITE.size + size * (address - where[2]) + bit // 8
        if where[:2] == (mem, block) and address >= where[2] and at < len(payload):
            payload[at] |= 1 << bit % 8
        return Frame(frame.kind, frame.seq, bytes(payload))

    return request


def wrong_token(after: int) -> Answer:
    """The first token of every RUN's answer is another one, from RUN number ``after`` on."""
    runs = 0

    def answer(frame: Frame, asked: Frame) -> Frame:
        nonlocal runs
        if frame.kind != Command.RUN | ANSWER or not asked.payload[7]:
            return frame
        runs += 1
        payload = bytearray(frame.payload)
        payload[1] ^= runs > after
        return Frame(frame.kind, frame.seq, bytes(payload))

    return answer


def lossy(seed: int, share: float) -> tuple[Request, Answer]:
    """Both ways lose frames."""
    rng = random.Random(seed)

    def request(frame: Frame) -> Frame | None:
        return None if rng.random() < share else frame

    def answer(frame: Frame, asked: Frame) -> Frame | None:
        return None if rng.random() < share else frame

    return request, answer


class Silent:
    """A line on which nothing comes, or always ``noise``."""

    byte_seconds = 0.0
    name = "a silent line"

    def __init__(self, noise: bytes = b"") -> None:
        self.noise = noise

    def write(self, data: bytes) -> None:
        pass

    def read(self, timeout: float) -> bytes:
        time.sleep(min(timeout, 0.01))
        return self.noise

    def close(self) -> None:
        pass


class LoopbackLine:
    """A transport to a `LoopbackModel`; ``to`` and ``back`` may change bytes on their way, by their
    number.
    """

    byte_seconds = 0.0
    name = "the loopback in Python"

    def __init__(
        self,
        board: LoopbackModel,
        to: Callable[[int, int], bytes] = lambda number, byte: bytes((byte,)),
        back: Callable[[int, int], bytes] = lambda number, byte: bytes((byte,)),
    ) -> None:
        self.board, self.to, self.back = board, to, back
        self.counts = [0, 0]
        self.waiting = bytearray()

    def _pass(self, way: int, data: bytes) -> bytes:
        spoil: Any = (self.to, self.back)[way]
        out = b"".join(spoil(self.counts[way] + i, byte) for i, byte in enumerate(data))
        self.counts[way] += len(data)
        return out

    def write(self, data: bytes) -> None:
        self.waiting += self._pass(1, self.board.feed(self._pass(0, data)))

    def read(self, timeout: float) -> bytes:
        if not self.waiting and timeout:
            self.board.rest()
        data = bytes(self.waiting)
        self.waiting.clear()
        return data

    def close(self) -> None:
        pass
