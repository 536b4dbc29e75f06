"""One device and the jobs that it runs in turns, in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ternac.errors import Cancelled, DeviceError, ServerError, TernacError, Unavailable
from ternac.host.backend import Backend
from ternac.host.server.job import Finished, Job
from ternac.run.generation import Run
from ternac.run.sampling import Chooser, Sampling

SLICE_SECONDS = 0.05
"""Time of one slice of a prompt; a slice of generated tokens is the back end's chunk."""
FEED_TOKENS = 512
"""Most tokens of a prompt in one slice."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A device of the server: ``open`` opens a back end that holds the program, and again after a loss.

    A ``fallback`` is opened and used only while no other device is up.
    """

    label: str
    open: Callable[[], Backend]
    fallback: bool = False


@dataclass(frozen=True)
class DeviceStats:
    """One device: ``up``, it holds the program or will when it is needed; ``sessions`` that it runs;
    ``tokens`` run on it since the start; its speed in the last slices; the number of ``losses``.
    """

    label: str
    fallback: bool
    up: bool
    sessions: int
    tokens: int
    tokens_per_second: float
    losses: int


class Rate:
    """Tokens per second of the last slices, weighted so that each slice counts `DECAY` of the next one."""

    DECAY = 0.95

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Add a slice."""
        self._tokens = self.DECAY * self._tokens + tokens
        self._seconds = self.DECAY * self._seconds + seconds

    @property
    def value(self) -> float:
        """0 before the first slice."""
        return self._tokens / self._seconds if self._seconds else 0.0


class JobQueue(Protocol):
    """The methods of `ternac.host.server.scheduler.Scheduler` that workers call."""

    def wait(self, worker: Worker) -> bool:
        """Wait until the worker has something to do; returns False when it should end."""

    def admit(self, worker: Worker, count: int) -> None:
        """Append up to ``count`` waiting jobs to the worker's ring."""

    def surplus(self, worker: Worker, together: int) -> list[Job]:
        """Return the jobs that the worker should give away: all jobs of a fallback that is no longer needed;
        one job if another device is idle and the worker has more than it can run at the same time.
        """

    def requeue(self, jobs: list[Job], moved: int) -> None:
        """Put jobs that a device had in front of the queue; ``moved`` of them had begun."""

    def lost(self, worker: Worker, jobs: list[Job], moved: int) -> None:
        """Mark the worker's device as lost and requeue its jobs; all jobs fail if no device is left."""

    def back(self, worker: Worker, backend: Backend) -> None:
        """Mark the worker's device as open."""

    def end(self, job: Job, result: Finished | TernacError) -> None:
        """Report the end of a job, once."""


class Worker:
    """Runs jobs on one device, in slices: the jobs take turns, those with equal sampling and loops together.

    The thread owns the back end and `ring`; fields that other threads read change under the scheduler's lock.
    """

    def __init__(self, queue: JobQueue, source: Source, backend: Backend | None) -> None:
        self.source, self.label = source, source.label
        self.backend = backend
        self.alive = True
        self.idle = False
        self.running = 0
        self.tokens = 0
        self.losses = 0
        self.rate = Rate()
        self.ring: deque[Job] = deque()
        self._queue = queue
        self.thread = threading.Thread(target=self._main, name=f"ternac {self.label}", daemon=True)

    def stats(self) -> DeviceStats:
        """The device at this moment. The caller holds the scheduler's lock."""
        sessions = len(self.ring) + self.running
        return DeviceStats(
            self.label, self.source.fallback, self.alive, sessions, self.tokens, self.rate.value, self.losses
        )

    def _main(self) -> None:
        while self._queue.wait(self):
            try:
                if self.backend is None:
                    self._reopen()
                else:
                    self._turn(self.backend)
            except DeviceError as error:
                self._lose(error)
        backend, self.backend = self.backend, None
        if backend is not None:
            _close(backend)

    def _reopen(self) -> None:
        try:
            backend = self.source.open()
        except DeviceError:
            raise
        except Exception as error:
            log.exception("%s cannot be opened", self.label)
            raise DeviceError(f"{self.label} cannot be opened: {error}") from error
        self._queue.back(self, backend)

    def _turn(self, backend: Backend) -> None:
        """Admit jobs, end those that are over, run one slice, and give surplus jobs to other devices."""
        self._queue.admit(self, backend.together)
        now = time.monotonic()
        for job in [job for job in self.ring if job.cancelled or _late(job, now)]:
            if job.cancelled or not job.chosen:
                self.ring.remove(job)
                self._end(backend, job, _why(job))
            else:
                job.reason = "time"
        group = self._group(backend.together)
        if not group:
            return
        self.running = len(group)
        began, steps = time.perf_counter(), backend.meter.steps
        try:
            done = self._slice(backend, group)
        except DeviceError:
            self.ring.extendleft(reversed(group))
            raise
        except Exception as error:
            if not isinstance(error, TernacError):
                log.exception("a slice on %s failed", self.label)
                error = ServerError(f"internal error: {type(error).__name__}")
            for job in group:
                self._end(backend, job, error)
            return
        finally:
            self.running = 0
        steps = backend.meter.steps - steps
        if steps:
            self.tokens += steps
            self.rate.add(steps, time.perf_counter() - began)
        if not done:
            self.ring.extend(group)
            for job in self._queue.surplus(self, backend.together):
                self._give(backend, job)

    def _group(self, together: int) -> list[Job]:
        """Take the next job off the ring that does not wait for its reader, and those that can run at the
        same time.
        """
        ready = [job for job in self.ring if not job.paused]
        if not ready:
            return []
        first = ready[0]
        group = [first]
        if first.generating and first.chooser is None and together > 1:
            key = _key(first)
            rest = (job for job in ready[1:] if job.generating and job.chooser is None)
            for job in rest:
                if _key(job) != key:
                    continue
                if len(group) == together:
                    break
                group.append(job)
        for job in group:
            self.ring.remove(job)
        return group

    def _slice(self, backend: Backend, group: list[Job]) -> bool:
        """Run one slice; returns True when the (only) job of the group is over."""
        for job in group:
            if job.session is None:
                job.session = backend.open()
                if job.state.any():
                    backend.set_state(job.session, job.state)
            job.device = self.label
        job = group[0]
        assert job.session is not None
        if 0 < len(job.todo) <= job.unscored:
            self._score_prompt(backend, job, job.session)
            return False
        if job.todo and (job.keep or job.unscored or not job.reason):
            size = max(backend.chunk, min(FEED_TOKENS, int(self.rate.value * SLICE_SECONDS)))
            size = min(size, len(job.todo) - job.unscored)  # before those: what another device had done
            backend.run(job.session, Run(job.todo[:size], loops=job.loops))
            del job.todo[:size]
            return False
        if job.reason:
            state = backend.get_state(job.session) if job.keep else None
            backend.release(job.session)
            self._queue.end(job, job.finished(state))
            return True
        if job.chooser is not None:
            self._choose_here(backend, job, job.chooser, job.session)
        else:
            self._generate(backend, group)
        return False

    def _score_prompt(self, backend: Backend, job: Job, session: int) -> None:
        """Feed tokens of the prompt one by one, and score the one that follows each."""
        until = time.monotonic() + SLICE_SECONDS
        while job.todo and not job.cancelled:
            logits = backend.step(session, job.todo[0], job.loops)
            following = job.todo[1] if len(job.todo) > 1 else job.last
            job.score(logits, backend.program.logit_scale_bits, following)
            del job.todo[0]
            job.unscored -= 1
            if time.monotonic() > until:
                break

    def _choose_here(self, backend: Backend, job: Job, chooser: Chooser, session: int) -> None:
        """Choose on this host, from the logits of one token after the other."""
        until = time.monotonic() + SLICE_SECONDS
        while not job.reason and not job.cancelled:
            logits = backend.step(session, job.last, job.loops)
            token, _ = chooser.choose(logits, job.text.rng)
            job.score(logits, backend.program.logit_scale_bits, token)
            job.accept([token])
            if time.monotonic() > until:
                break

    def _generate(self, backend: Backend, group: list[Job]) -> None:
        count = min(backend.chunk, min(job.left for job in group))
        sessions = [job.session for job in group if job.session is not None]
        # Where a text ends inside the slice, a session that is kept is set back to that token.
        points = [
            backend.recall(session) if job.keep and count > 1 else None
            for job, session in zip(group, sessions, strict=True)
        ]
        first = group[0]
        runs = [Run([job.last], count, first.sampling, job.text.rng, first.loops) for job in group]
        if len(group) == 1:
            found = [backend.run(sessions[0], runs[0])]
        else:
            found = backend.run_together(sessions, runs)
        for job, session, point, run, (chosen, _) in zip(group, sessions, points, runs, found, strict=True):
            taken = job.accept(chosen)
            if taken < count and point is not None:
                backend.set_state(session, point.state)
                job.todo = [*point.tokens, *run.tokens, *chosen[: taken - 1]]

    def _end(self, backend: Backend, job: Job, error: TernacError) -> None:
        if job.session is not None:
            with contextlib.suppress(TernacError):
                backend.release(job.session)
        self._queue.end(job, error)

    def _give(self, backend: Backend, job: Job) -> None:
        """Put a job back into the queue, for another device."""
        if job.session is not None:
            job.state = backend.get_state(job.session)
            backend.release(job.session)
            job.session = None
            job.moves += 1
        self.ring.remove(job)
        self._queue.requeue([job], 1)

    def _lose(self, error: DeviceError) -> None:
        """Requeue the sessions of a lost device with all that the host knows of them."""
        log.warning("%s is lost: %s", self.label, error)
        backend, self.backend = self.backend, None
        jobs, moved = list(self.ring), 0
        self.ring.clear()
        for job in jobs:
            if backend is not None and job.session is not None:
                known = backend.recall(job.session)
                job.state, job.todo = known.state, [*known.tokens, *job.todo]
                job.session = None
                job.moves += 1
                moved += 1
        if backend is not None:
            _close(backend)
        self._queue.lost(self, jobs, moved)


def _key(job: Job) -> tuple[Sampling, int | None]:
    """Return equal values for jobs whose tokens one call of the back end can choose."""
    return Sampling() if job.sampling.greedy else job.sampling, job.loops


def _late(job: Job, now: float) -> bool:
    return now > job.deadline and (not job.reason or job.unscored > 0)


def _why(job: Job) -> TernacError:
    if job.cancelled:
        return Cancelled("the request was cancelled")
    return Unavailable("the request's time limit passed before its first token", "try again later")


def _close(backend: Backend) -> None:
    with contextlib.suppress(Exception):
        backend.close()
