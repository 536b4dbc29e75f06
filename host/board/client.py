"""A board's requests with their types (identity, memories, tokens), and the program that it must hold.

How requests get there and back is `ternac.host.board.requests`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import program_id, write_payload
from ternac.errors import BadFrame, DeviceRefused
from ternac.host.board.requests import SERIAL, SIMULATED, Patience, Requests, Sent
from ternac.link import (
    FRAME_BYTES,
    HASH_BYTES,
    VERSION,
    WINDOW,
    BatchAnswer,
    BatchMember,
    BatchRequest,
    Choice,
    Command,
    Identity,
    ReadRequest,
    RunAnswer,
    RunRequest,
    decode_words,
)
from ternac.run.generation import Run
from ternac.run.sampling import Sampling

__all__ = [
    "SERIAL",
    "SIMULATED",
    "LinkClient",
    "Patience",
    "Sent",
]


Answer = TypeVar("Answer")


class LinkClient(Requests):
    """One board's requests, typed."""

    _program: bytes | None = None
    """The program that the board must hold whenever the line is opened again."""

    def watch(self, image: Image, on_closed: Callable[[], None]) -> None:
        """Expect that the board holds ``image`` from now on. ``on_closed`` is called when it is not known any
        more what else it holds: it restarted, or requests were lost.
        """
        self._program, self.on_closed = program_id(image), on_closed

    def reopen(self) -> None:
        """Open the line again. Raises DeviceRefused if the board does not hold the program any more."""
        held = self.hello().program_hash
        if self._program is not None and held != self._program:
            self.close_line()
            raise DeviceRefused(
                f"{self.transport.name} restarted and does not hold the program",
                "open the device again, which loads it; its sessions are kept: Backend.recall",
            )

    def hello(self) -> Identity:
        """Open the line and ask who the board is. Raises BadFrame if the answer is no identity, or one of a
        board that takes no request, WrongBitstream if the board has an older link.
        """
        identity = self._decoded(Identity.decode, self.request(Command.HELLO))
        if identity.version == VERSION:  # another one may mean something else by its fields
            for what, found, least in (
                ("requests in flight", identity.window, 1),
                ("bytes a frame", identity.frame_bytes, FRAME_BYTES),
            ):
                if found < least:
                    raise BadFrame(
                        f"{self.transport.name} takes {found} {what}, needs at least {least}",
                        "flash a current bitstream: ternac flash",
                    )
        self._window = max(1, min(identity.window, WINDOW))
        return identity

    def write(self, mem: Mem, block: int, address: int, words: npt.NDArray[np.uint32], size: int) -> None:
        """Write unsigned words of ``size`` bytes; at most MAX_WRITE_BYTES of them."""
        self.request(Command.WRITE, write_payload(mem, block, address, words, size))

    def read(self, block: int, address: int, count: int) -> npt.NDArray[np.uint32]:
        """Read up to MAX_WORDS bank words."""
        answer = self.request(Command.READ, ReadRequest(count, block, address).encode())
        if len(answer) != 2 * count:
            raise BadFrame(f"{self.transport.name}: READ of {count} words answers {len(answer)} bytes")
        return np.array(decode_words(answer), np.uint32)

    def run(self, session_base: int, run: Run) -> RunAnswer:
        """Feed up to MAX_PROMPT tokens, then generate up to MAX_WORDS."""
        request = _run_request(session_base, run, follows=False)
        answer = self.request(Command.RUN, request.encode(), steps=run.steps)
        return self._decoded(RunAnswer.decode, answer, run.count)

    def post_run(self, session_base: int, run: Run, *, follows: bool) -> Sent:
        """Send a run without waiting. With ``follows`` it is executed only directly after the request sent
        before; then ``run.tokens`` may be empty, and the first token fed is the one chosen last by that
        request; ``run.rng`` is not used.
        """
        request = _run_request(session_base, run, follows=follows)
        return self.post(Command.RUN, request.encode(), len(run.tokens) + run.count)

    def collect_run(self, sent: Sent, count: int) -> RunAnswer:
        """Wait for the answer to `post_run` of ``count`` tokens."""
        return self._decoded(RunAnswer.decode, self.collect(sent), count)

    def batch(
        self, members: Sequence[BatchMember], entry_step: int, count: int, sampling: Sampling
    ) -> BatchAnswer:
        """Generate ``count`` tokens (1 to MAX_BATCH_TOKENS) in every session at the same time.

        ``entry_step``: microcode words between the contexts' entries.
        """
        request = BatchRequest(members, entry_step, count, _choice(sampling))
        answer = self.request(Command.BATCH, request.encode(), steps=count * len(members))
        return self._decoded(BatchAnswer.decode, answer, len(members), count)

    def commit(self, program_hash: bytes = bytes(HASH_BYTES)) -> None:
        """Declare what is loaded, which closes the line; sixteen zeros unload."""
        self._program = None
        self.request(Command.COMMIT, program_hash)
        if any(program_hash):
            self._program = program_hash
            self.close_line()

    def _decoded(self, decode: Callable[..., Answer], *arguments: Any) -> Answer:
        try:
            return decode(*arguments)
        except ValueError as error:
            raise BadFrame(
                f"{self.transport.name}: {error}", "bitstream and host differ in version"
            ) from None


def _choice(sampling: Sampling) -> Choice:
    return Choice(sampling.greedy, sampling.m, sampling.s, sampling.top_k)


def _run_request(session_base: int, run: Run, *, follows: bool) -> RunRequest:
    return RunRequest(session_base, run.tokens, run.count, _choice(run.sampling), run.rng, follows)
