"""What a board is asked for: identity, memories, tokens. How it gets there is
`ternac.host.board.requests`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.loading import write_payload
from ternac.errors import BadFrame
from ternac.host.board.requests import SERIAL, SIMULATED, Gap, Patience, Requests, Sent
from ternac.link import FOLLOWS, GREEDY, HASH_BYTES, RUN_COUNT, WINDOW, Command, Identity
from ternac.run.generation import Run
from ternac.run.sampling import Sampling

__all__ = ["SERIAL", "SIMULATED", "BatchMember", "Gap", "LinkClient", "Patience", "RunAnswer", "Sent"]


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


class LinkClient(Requests):
    """One board's requests, typed."""

    def hello(self) -> Identity:
        """Who the board is; BadFrame when the answer is no identity."""
        answer = self.request(Command.HELLO)
        try:
            identity = Identity.decode(answer)
            self._window = min(identity.window, WINDOW)
            return identity
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

    def run(self, session_base: int, run: Run) -> RunAnswer:
        """Feed up to MAX_PROMPT tokens, then generate up to MAX_WORDS."""
        answer = self.request(Command.RUN, _run_payload(session_base, run, follows=False), steps=run.steps)
        return self._ran(answer, run.count)

    def post_run(self, session_base: int, run: Run, *, follows: bool) -> Sent:
        """Send a run without waiting. With ``follows`` it is executed only directly after the request sent
        before; then ``run.tokens`` may be empty, and the first token fed is the one chosen last by that
        request; ``run.rng`` is not used."""
        payload = _run_payload(session_base, run, follows=follows)
        return self.post(Command.RUN, payload, len(run.tokens) + run.count)

    def collect_run(self, sent: Sent) -> RunAnswer:
        """The answer to `post_run`."""
        return self._ran(self.collect(sent), sent.frame.payload[RUN_COUNT])

    def _ran(self, answer: bytes, count: int) -> RunAnswer:
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
        flags = sampling.s | sampling.greedy * GREEDY
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


def _run_payload(session_base: int, run: Run, *, follows: bool) -> bytes:
    sampling = run.sampling
    flags = sampling.s | sampling.greedy * GREEDY | follows * FOLLOWS
    head = struct.pack("<IHBBBH", run.rng, sampling.top_k, sampling.m, run.count, flags, session_base)
    return head + struct.pack(f"<{len(run.tokens)}H", *run.tokens)
