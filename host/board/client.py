"""A board's requests with their types (identity, memories, tokens), and the check that it did not restart.

How requests get there and back is `ternac.host.board.requests`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import program_id, write_payload
from ternac.errors import BadFrame, DeviceRefused, LostAnswer
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
    "CONFIGURE_SECONDS",
    "SERIAL",
    "SIMULATED",
    "LinkClient",
    "Patience",
    "RestartDetector",
    "Sent",
]


Answer = TypeVar("Answer")
CONFIGURE_SECONDS = 0.02
"""Configuring an FPGA takes longer: no board has restarted between two answers that are closer than this."""


class RestartDetector:
    """Notices that a board was configured again, by its button or a dip of its supply, between two requests.

    With a program in its bitstream such a board answers as before, but its sessions' states are zero. A RUN
    that follows another is refused by the board itself; before any other request the host reads its number
    again, unless the board answered less than `CONFIGURE_SECONDS` ago, and after one that had to be resent.

    Where the line ends with its board (a pipe) none of this is needed. ``sessions``: slots of the image that
    are left; the number takes the word behind them, or else the last of them. An image with one slot and no
    word behind it is not watched.
    """

    def __init__(self, client: LinkClient, image: Image, on_restart: Callable[[], None]) -> None:
        """``on_restart`` is called when the board holds no session any more."""
        self._client, self._image, self._on_restart = client, image, on_restart
        self._number = self._resent = self._depth = 0
        self._address: int | None = None
        self.sessions = image.sessions
        if not client.transport.restarts:
            return
        end = image.geometry.bank_depth - 1
        fit = (end - image.state_base) // image.state_slots if image.state_slots else image.sessions
        self.sessions = max(1, min(image.sessions, fit))
        free = image.state_base + self.sessions * image.state_slots
        if free <= end:
            self._address = free

    @contextmanager
    def verified(self, *, before: bool = True) -> Iterator[None]:
        """Guard requests that rely on what the board holds.

        Before them (unless ``before`` is False, or this is inside another guard) ``on_restart`` is called if
        the board restarted. After them LostAnswer is raised if it restarted under one that had to be resent:
        then no answer counts. Raises DeviceRefused if the board does not hold the program either.
        """
        if before and not self._depth:
            self._check_before()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._resent != self._client.resent and not self._check():
            raise LostAnswer(
                f"{self._client.transport.name}: the board restarted", "call again: its sessions are kept"
            )

    def _check_before(self) -> None:
        idle = time.monotonic() - self._client.answered >= CONFIGURE_SECONDS
        if not self._number or idle or self._resent != self._client.resent:
            self._check()

    def _check(self) -> bool:
        """Return whether the number is where it was; if not, write a new one there."""
        if self._address is None:
            return True
        client = self._client
        held = self._number and int(client.read(0, self._address, 1)[0]) == self._number
        if not held:
            self._on_restart()
            if client.hello().program_hash != program_id(self._image):
                raise DeviceRefused(
                    f"{client.transport.name} restarted and does not hold the program",
                    "open the device again, which loads it; its sessions are kept: Backend.recall",
                )
            self._number = 1 + secrets.randbelow(0xFFFF)
            client.write(Mem.BANK, 0, self._address, np.array([self._number], np.uint32), 2)
        self._resent = client.resent
        return bool(held)


class LinkClient(Requests):
    """One board's requests, typed."""

    _detector: RestartDetector | None = None

    def watch(self, image: Image, on_restart: Callable[[], None]) -> int:
        """Let `verified` notice restarts of the board, which holds ``image``; returns the slots left for
        sessions. ``on_restart`` is called when the board holds no session any more.
        """
        self._detector = RestartDetector(self, image, on_restart)
        return self._detector.sessions

    def verified(self, *, before: bool = True) -> AbstractContextManager[None]:
        """Guard requests that rely on what the board holds, as `RestartDetector.verified`."""
        return self._detector.verified(before=before) if self._detector else nullcontext()

    def hello(self) -> Identity:
        """Ask who the board is. Raises BadFrame if the answer is no identity, or one of a board that takes
        no request.
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
        """Declare what is loaded; sixteen zeros unload."""
        self.request(Command.COMMIT, program_hash)

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
