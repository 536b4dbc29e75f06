"""The parts of a server, and one generated text as the event loop sees it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ternac.compile.fitting import Model
from ternac.compile.geometry import Geometry
from ternac.errors import SessionBusy, TernacError, UsageError
from ternac.host.server.devices import Devices
from ternac.host.server.job import Finished, Job
from ternac.host.server.limits import Limits
from ternac.host.server.metrics import Metrics
from ternac.host.server.scheduler import Scheduler
from ternac.host.server.scores import Scored
from ternac.host.server.sessions import Kept, LocalSessions, Sessions
from ternac.host.server.texts import Reader
from ternac.manifest import DEFAULT_BOARD
from ternac.program.program import Program
from ternac.run.sampling import Chooser, Reshape, Sampling, seed_state
from ternac.run.snapshot import Snapshot
from ternac.text.tokenizer import Tokenizer, tokenizer_of

GRACE = 60.0
"""Seconds that a session stays taken after its request's time limit: a slice may still run."""


@dataclass
class Service:
    """A program, the devices that run it, and the sessions kept between requests."""

    devices: Devices
    scheduler: Scheduler
    sessions: Sessions
    limits: Limits
    metrics: Metrics
    replica: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.program: Program = self.devices.program
        self.tokenizer: Tokenizer = tokenizer_of(self.program, assume_bytes=True)
        self._background: set[asyncio.Task[Any]] = set()

    def new_session(self, seed: int | None = None) -> Snapshot:
        """Return a session with a zero state; without a seed its texts differ each time."""
        rng = seed_state(secrets.randbits(32) if seed is None else seed)
        return Snapshot(np.zeros(self.program.state_words, np.int16), rng, None, 0)

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Finish ``work`` in the background, also when the request that began it is cancelled."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def build_service(
    model: Program | Model,
    names: Sequence[str],
    limits: Limits,
    *,
    board: str = DEFAULT_BOARD,
    geometry: Geometry | None = None,
    fallback: bool = True,
    reopen: float = 5.0,
    devices: Devices | None = None,
) -> Service:
    """Open the devices (or take ``devices``), and make their scheduler and table of sessions.

    Raises what `Device.open` raises; UsageError if sessions of all requests at a time have more bytes than
    ``limits.session_bytes``.
    """
    program = model if isinstance(model, Program) else model.program
    one = STATE_BYTES * program.state_words
    if limits.queue * one > limits.session_bytes:
        raise UsageError(
            f"{limits.queue} requests at a time with sessions of {one:,} bytes need {limits.queue * one:,}, "
            f"the limit of all sessions is {limits.session_bytes:,}",
            f"take at most {limits.session_bytes // one} requests (--max-queue), or allow more bytes "
            "(--max-session-bytes)",
        )
    devices = devices or Devices(model, names, board, geometry=geometry, fallback=fallback)
    scheduler = Scheduler(devices.sources, limits.queue, reopen)
    sessions = LocalSessions(limits)
    metrics = Metrics(scheduler.stats, sessions.held)
    return Service(devices, scheduler, sessions, limits, metrics)


@dataclass(frozen=True)
class Place:
    """Where in a text a request continues: at the begin of one; inside a turn of a chat."""

    begins: bool = True
    open_turn: bool = False


@dataclass(frozen=True)
class GenerationRequest:
    """A text to generate: tokens to feed, how many to choose and how, the seed, where to stop.

    ``closes``: the one of ``stops`` that ends a turn of a chat; "" where the text is no chat. ``logprobs``:
    tokens are scored, with that many of the likeliest, those of the prompt too with ``score_prompt``.
    ``ends``: tokens that end the text, and have none. ``loops``: runs of the program's loops, for this
    request.
    """

    prompt: Sequence[int]
    count: int
    sampling: Sampling
    seed: int | None = None
    stops: Sequence[str] = ()
    closes: str = ""
    reshape: Reshape = Reshape()
    logprobs: int | None = None
    score_prompt: bool = False
    ends: Sequence[int] = ()
    loops: int | None = None

    @property
    def chooser(self) -> Chooser | None:
        """What chooses the tokens on this host, where a device's own sampler does not do."""
        plain = self.reshape.neutral and self.logprobs is None
        return None if plain else Chooser(self.sampling, self.reshape)


@dataclass(frozen=True)
class Piece:
    """A part of a text, and the scores of the tokens since the part before, where they are asked for."""

    text: str
    scores: tuple[Scored, ...] = ()


STATE_BYTES = 2
"""Of a word of a session's state."""
UNREAD = 64
"""Pieces of a text that may wait for their reader; then the text waits."""


class Reply:
    """One generated text: pieces as they come, then how it ended.

    A request that does not finish - the client disconnected, or no device is left - leaves its session
    unchanged.
    """

    def __init__(
        self,
        service: Service,
        request: GenerationRequest,
        start: Snapshot,
        session: str | None = None,
        ticket: int = 0,
        client: str = "",
    ) -> None:
        self._service, self.request, self.session, self._ticket = service, request, session, ticket
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Piece | Finished | TernacError] = asyncio.Queue()
        self._reader = Reader(service.tokenizer.stream(request.prompt), request.stops)
        self._over = self._ended = False
        self._scored = 0
        self._times: list[float] = []
        self._first = self.tokens = 0
        self.finished: Finished | None = None
        self.job = Job(
            start,
            request.prompt,
            request.count,
            request.sampling,
            service.program.vocab,
            self._take,
            self._done,
            keep=session is not None,
            deadline=time.monotonic() + service.limits.seconds,
            chooser=request.chooser,
            top=request.logprobs,
            score_prompt=request.score_prompt,
            loops=request.loops,
            client=client,
            behind=lambda: self._events.qsize() >= UNREAD,
        )

    @classmethod
    async def begin(
        cls,
        service: Service,
        session: str | None,
        want: Callable[[Place], GenerationRequest],
        client: str = "",
    ) -> Reply:
        """Submit the request of ``client`` that ``want`` makes; it is told where it continues.

        Raises TernacError if the scheduler refuses it; then the session is unchanged.
        """
        if session is None:
            request = await asyncio.to_thread(want, Place())
            reply = cls(service, request, service.new_session(request.seed), client=client)
            service.scheduler.submit(reply.job)
            return reply
        kept, ticket = await service.sessions.take(session, service.limits.seconds + GRACE)
        try:
            start = Snapshot.from_bytes(kept.data, service.program)
            request = await asyncio.to_thread(want, Place(start.new, kept.open_turn))
            if request.seed is not None:
                start = replace(start, rng=seed_state(request.seed))
            reply = cls(service, request, start, session, ticket, client)
            service.scheduler.submit(reply.job)
        except BaseException:
            service.later(service.sessions.give(session, ticket, None))
            raise
        return reply

    async def pieces(self, ping: float = 15.0) -> AsyncGenerator[Piece | None]:
        """Yield the text as it comes, and None after ``ping`` seconds without any; a piece without text has
        the last scores. Raises TernacError if the job failed. Closing the iterator cancels the job.
        """
        try:
            while True:
                try:
                    async with asyncio.timeout(ping):
                        event = await self._events.get()
                except TimeoutError:
                    yield None
                    continue
                if isinstance(event, Piece):
                    yield event
                    continue
                if isinstance(event, TernacError):
                    self._give_back()
                    self._service.metrics.failed(event)
                    raise event
                await self._commit(event)
                self._service.metrics.finished(len(self.request.prompt), event)
                return
        finally:
            self.cancel()

    async def collect(self) -> str:
        """Return the whole text."""
        return "".join([piece.text async for piece in self.pieces() if piece])

    def cancel(self) -> None:
        """Stop the job, if it is not over."""
        if not self._over:
            self._service.metrics.cancelled()
            self._service.scheduler.cancel(self.job)
            self._give_back()

    def _give_back(self) -> None:
        """Give the session back unchanged."""
        self._over = True
        if self.session is not None:
            self._service.later(self._service.sessions.give(self.session, self._ticket, None))

    @property
    def tokens_per_second(self) -> float | None:
        """Speed from the first slice of tokens to the last; None with fewer than two slices."""
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return None
        return (self.tokens - self._first) / (self._times[-1] - self._times[0])

    async def _commit(self, end: Finished) -> None:
        self._over, self.finished = True, end
        if self.session is not None and end.snapshot is not None:
            closed = bool(self.request.closes) and self._reader.stopped_by == self.request.closes
            kept = Kept(end.snapshot.to_bytes(self._service.program), not (closed or self._ended))
            if not await self._service.sessions.give(self.session, self._ticket, kept):
                raise SessionBusy(
                    f"session {self.session!r} was taken from this request, which took too long"
                )

    # --- called from a device's thread ----------------------------------------------------------------------

    def _take(self, tokens: list[int]) -> int | None:
        if not self._times:
            self._first = len(tokens)
            self._service.metrics.first(time.monotonic() - self.job.born)
        text, end = "", None
        for number, token in enumerate(tokens, 1):
            if token in self.request.ends:
                self._ended, end = True, number
                break
            text += self._reader.feed(token)
            if self._reader.stopped:
                end = number
                break
        self.tokens += end or len(tokens)
        self._times = [*self._times[:1], time.monotonic()]
        if text:
            self._send_text(text)
        return end

    def _done(self, result: Finished | TernacError) -> None:
        if isinstance(result, Finished):
            text = self._reader.finish()
            if text or self._scored < len(self.job.scores):
                self._send_text(text)
        self._send(result)

    def _send_text(self, text: str) -> None:
        scores = tuple(self.job.scores[self._scored :])
        self._scored += len(scores)
        self._send(Piece(text, scores))

    def _send(self, event: Piece | Finished | TernacError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
