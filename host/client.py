"""Requests to a board: sequence numbers, checks, time-outs, retries, typed errors (docs/link.md)."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ternac.errors import BadFrame, DeviceRefused, NoAnswer
from ternac.geometry import Mem
from ternac.host.transport import Transport
from ternac.loading import write_payload
from ternac.protocol import ANSWER, HASH_BYTES, Command, Frame, Identity, SlipDecoder, Status
from ternac.sampling import Sampling

REASONS = {
    Status.UNKNOWN_COMMAND: "it does not know this request",
    Status.BAD_LENGTH: "the request has a wrong length",
    Status.BAD_MEMORY: "there is no such memory",
    Status.NOT_LOADED: "no program is loaded",
}


@dataclass(frozen=True)
class Patience:
    """How long to wait: ``base`` seconds for an answer, ``step`` more per token run; ``retries`` resends."""

    base: float = 0.5
    step: float = 0.02
    retries: int = 4


SERIAL = Patience()
SIMULATED = Patience(base=30.0, step=20.0, retries=1)


@dataclass(frozen=True)
class RunAnswer:
    """What RUN answers: the generated tokens, the generator after them, engine cycles of all steps."""

    tokens: list[int]
    rng: int
    cycles: int


class BatchMember(NamedTuple):
    """One session of a BATCH: its generator, where its state is, the token to feed first."""

    rng: int
    session_base: int
    token: int


class LinkClient:
    """One request at a time over ``transport``; every request is sent again until a right answer comes.

    A repeated request carries the same bytes, and a board executes the same bytes in a row only once. When
    all retries are used up: BadFrame if something came that failed its check, else NoAnswer. DeviceRefused
    when the board answers with an error status. A cut line is NoAnswer at once.
    """

    def __init__(self, transport: Transport, patience: Patience = SERIAL) -> None:
        self.transport, self.patience = transport, patience
        self.resent = 0
        self._seq = 0
        self._decoder = SlipDecoder()

    def request(self, command: Command, payload: bytes = b"", steps: int = 0) -> bytes:
        """Send a request, return the payload of its answer; ``steps`` tokens of work are waited for."""
        frame = Frame(command, self._seq, payload)
        self._seq = (self._seq + 1) & 0xFF
        wire = frame.wire()
        damaged = 0
        timeout = self.patience.base + steps * self.patience.step + 1500 * self.transport.byte_seconds
        for attempt in range(self.patience.retries + 1):
            self.resent += attempt > 0
            self.transport.write(wire)
            answer, bad = self._await(frame, timeout)
            damaged += bad
            if answer is None:
                continue
            if answer[0] != Status.OK:
                raise self._refused(command, answer[0])
            return answer[1:]
        where = f"{command.name} to {self.transport.name}, {self.patience.retries + 1} attempts"
        if damaged:
            raise BadFrame(f"{where}: answers fail their check", "check cable and baud rate")
        raise NoAnswer(f"{where}: no answer within {timeout:.1f} s each", "is the board powered and flashed?")

    def _await(self, request: Frame, timeout: float) -> tuple[bytes | None, int]:
        """Wait for the first of both: (status and payload, 0), or (None, 1) when a frame fails its check."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None, 0
            data = self.transport.read(left)
            spoiled = self._decoder.spoiled
            for raw in self._decoder.feed(data):
                frame = Frame.decode(raw)
                if frame is None:
                    spoiled -= 1
                elif (frame.kind, frame.seq) == (request.kind | ANSWER, request.seq) and frame.payload:
                    return frame.payload, 0
            if self._decoder.spoiled != spoiled:
                return None, 1

    def _refused(self, command: Command, status: int) -> DeviceRefused:
        known = status in list(Status)
        reason = REASONS[Status(status)] if known else "the reason is unknown to this version"
        return DeviceRefused(f"{self.transport.name} refused {command.name}: {reason} (status {status})")

    def hello(self) -> Identity:
        """Who the board is; BadFrame when the answer is no identity."""
        answer = self.request(Command.HELLO)
        try:
            return Identity.decode(answer)
        except ValueError as error:
            raise BadFrame(
                f"{self.transport.name}: {error}", "bitstream and host differ in version"
            ) from None

    def write(self, mem: Mem, block: int, address: int, words: npt.NDArray[np.uint32], size: int) -> None:
        """Write unsigned words of ``size`` bytes; at most MAX_WRITE_BYTES of them."""
        self.request(Command.WRITE, write_payload(mem, block, address, words, size))

    def read(self, block: int, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Read up to MAX_WORDS bank words."""
        answer = self.request(Command.READ, struct.pack("<BBH", count, block, address))
        if len(answer) != 2 * count:
            raise BadFrame(f"{self.transport.name}: READ of {count} words answers {len(answer)} bytes")
        return np.frombuffer(answer, "<u2").astype(np.uint32)

    def run(
        self, session_base: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> RunAnswer:
        """Feed up to MAX_PROMPT tokens, then generate ``count`` of at most MAX_WORDS.

        The last generated token is not fed; with ``count`` 0 all of ``tokens`` are fed and nothing is chosen.
        """
        flags = sampling.s | sampling.greedy << 7
        payload = struct.pack("<IHBBBH", rng, sampling.top_k, sampling.m, count, flags, session_base)
        payload += struct.pack(f"<{len(tokens)}H", *tokens)
        answer = self.request(Command.RUN, payload, steps=len(tokens) + max(count - 1, 0))
        if len(answer) != 2 * count + 8:
            raise BadFrame(f"{self.transport.name}: RUN of {count} tokens answers {len(answer)} bytes")
        *chosen, after, cycles = struct.unpack(f"<{count}HII", answer)
        return RunAnswer(list(chosen), after, cycles)

    def batch(
        self, members: Sequence[BatchMember], entry_step: int, count: int, sampling: Sampling
    ) -> tuple[list[tuple[list[int], int]], int]:
        """Generate ``count`` tokens in every session at the same time, beginning with its one token.

        ``count`` is 1 to MAX_BATCH_TOKENS; ``entry_step`` the microcode words between the contexts'
        entries. Returns each session's tokens and generator, and the engine's cycles for all.
        """
        flags = sampling.s | sampling.greedy << 7
        payload = struct.pack("<HBBBH", sampling.top_k, sampling.m, count, flags, entry_step)
        payload += b"".join(struct.pack("<IHH", *member) for member in members)
        answer = self.request(Command.BATCH, payload, steps=count * len(members))
        size = 2 * count + 4
        if len(answer) != size * len(members) + 4:
            raise BadFrame(
                f"{self.transport.name}: BATCH of {len(members)} x {count} tokens answers {len(answer)} bytes"
            )
        found = []
        for k in range(len(members)):
            *chosen, after = struct.unpack_from(f"<{count}HI", answer, k * size)
            found.append((list(chosen), after))
        return found, int.from_bytes(answer[-4:], "little")

    def commit(self, program_hash: bytes = bytes(HASH_BYTES)) -> None:
        """Declare what is loaded; sixteen zeros unload."""
        self.request(Command.COMMIT, program_hash)
