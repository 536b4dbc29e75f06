"""Distribute jobs over devices, and requeue the jobs of a lost one.

A device takes a job when it has a turn, so that a fast one takes more; the jobs of a device take turns. Jobs
that no device has (new ones, those of a lost device, those that a busy device gives to an idle one) wait in
one queue, as a state and the tokens to be fed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ternac.errors import Overloaded, TernacError, Unavailable, UsageError
from ternac.host.backend import Backend
from ternac.host.server.job import Finished, Job
from ternac.host.server.limits import may_take
from ternac.host.server.worker import DeviceStats, Source, Worker

PAUSE_SECONDS = 0.02
"""Where nobody reads what the jobs of a device have made, it looks again after this time."""
MAX_REOPEN = 60.0
"""Longest wait between attempts to open a lost device, in seconds; it doubles from the first."""


@dataclass(frozen=True)
class Stats:
    """``jobs`` in the server, ``running`` in a slice at the moment, ``moves`` of jobs since the start."""

    devices: tuple[DeviceStats, ...]
    jobs: int
    running: int
    moves: int
    draining: bool

    @property
    def ready(self) -> bool:
        """A new job would be taken by a device."""
        return not self.draining and any(device.up for device in self.devices)


class Scheduler:
    """Runs up to ``queue`` jobs on the devices of ``sources``.

    The constructor opens the devices, a fallback only when it is needed, and raises their errors. A lost
    device is opened again after ``reopen`` seconds, then after twice as many; 0: never.
    """

    def __init__(self, sources: Sequence[Source], queue: int = 64, reopen: float = 5.0) -> None:
        if not sources:
            raise UsageError("a server needs at least one device")
        self.queue, self.reopen = queue, reopen
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: set[Job] = set()
        self._moves = 0
        self._draining = self._closing = False
        self._retry: dict[Worker, float] = {}
        opened: list[tuple[Source, Backend | None]] = []
        try:
            for source in sources:
                opened.append((source, None if source.fallback else source.open()))  # noqa: PERF401
        except BaseException:
            for _, backend in opened:
                if backend is not None:
                    backend.close()
            raise
        self.workers = [Worker(self, source, backend) for source, backend in opened]
        for worker in self.workers:
            worker.thread.start()

    # --- for requests ---------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Take a job; its ``done`` will be called. Raises Overloaded or Unavailable if it is not taken."""
        with self._changed:
            if self._draining:
                raise Unavailable("the server is shutting down", "try again later")
            if not self._any_alive():
                raise Unavailable("no device is left", "try again later; /health names those that were lost")
            if len(self._jobs) >= self.queue:
                raise Overloaded(f"{len(self._jobs)} requests are running or waiting, which is the limit")
            held = sum(other.client == job.client for other in self._jobs) if job.client else 0
            if not may_take(held, self.queue - len(self._jobs), self.queue):
                raise Overloaded(
                    f"{held} requests of this client are running or waiting; the "
                    f"{self.queue - len(self._jobs)} places that are left are for other clients"
                )
            self._jobs.add(job)
            self._waiting.append(job)
            self._changed.notify_all()

    def cancel(self, job: Job) -> None:
        """Stop a job before its next slice; its session is released."""
        with self._changed:
            job.cancelled = True
            self._changed.notify_all()

    def stats(self) -> Stats:
        """Jobs and devices at this moment."""
        with self._changed:
            devices = tuple(worker.stats() for worker in self.workers)
            running = sum(worker.running for worker in self.workers)
            return Stats(devices, len(self._jobs), running, self._moves, self._draining)

    def drain(self) -> None:
        """Take no more jobs; those in the server continue."""
        with self._changed:
            self._draining = True

    def close(self, timeout: float = 60.0) -> None:
        """Fail all jobs with Unavailable, and close the devices when their slice is over."""
        with self._changed:
            self._draining = self._closing = True
            self._changed.notify_all()
        for worker in self.workers:
            worker.thread.join(timeout)
        for job in list(self._jobs):
            self.end(job, Unavailable("the server was shut down", "try again later"))

    # --- for workers ----------------------------------------------------------------------------------------

    def wait(self, worker: Worker) -> bool:
        with self._changed:
            worker.idle = True
            try:
                while not self._closing:
                    if not worker.alive:
                        if not self.reopen:
                            self._changed.wait()
                        elif not self._changed.wait_for(lambda: self._closing, self._retry[worker]):
                            return True
                    elif self._waiting and self._may_take(worker):
                        return True
                    elif worker.ring:
                        if all(job.paused for job in worker.ring):
                            self._changed.wait(PAUSE_SECONDS)
                        return True
                    else:
                        self._changed.wait()
                return False
            finally:
                worker.idle = False

    def admit(self, worker: Worker, count: int) -> None:
        with self._changed:
            while count and self._waiting and self._may_take(worker):
                if worker.ring and self._idle_other():
                    return
                worker.ring.append(self._waiting.popleft())
                count -= 1

    def surplus(self, worker: Worker, together: int) -> list[Job]:
        with self._changed:
            if not self._may_take(worker):
                return list(worker.ring)
            if len(worker.ring) > together and not self._waiting and self._idle_other():
                return [worker.ring[-1]]
            return []

    def requeue(self, jobs: list[Job], moved: int) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(jobs))
            self._moves += moved
            self._changed.notify_all()

    def lost(self, worker: Worker, jobs: list[Job], moved: int) -> None:
        failed: list[Job] = []
        with self._changed:
            worker.losses += worker.alive
            self._retry[worker] = self.reopen if worker.alive else min(2 * self._retry[worker], MAX_REOPEN)
            worker.alive = False
            if self._any_alive():
                self.requeue(jobs, moved)
            else:
                failed = [*jobs, *self._waiting]
                self._waiting.clear()
        for job in failed:
            self.end(
                job, Unavailable("no device is left", "try again later; /health names those that were lost")
            )

    def back(self, worker: Worker, backend: Backend) -> None:
        with self._changed:
            worker.backend, worker.alive = backend, True
            self._changed.notify_all()

    def end(self, job: Job, result: Finished | TernacError) -> None:
        with self._changed:
            if job not in self._jobs:
                return
            self._jobs.discard(job)
        job.done(result)

    def _idle_other(self) -> bool:
        """A device that may take jobs has nothing to do (never the one that asks: it is busy)."""
        return any(worker.idle and self._may_take(worker) for worker in self.workers)

    def _any_alive(self) -> bool:
        return any(worker.alive for worker in self.workers)

    def _may_take(self, worker: Worker) -> bool:
        """The worker may take jobs: a fallback only while nothing else is alive."""
        return worker.alive and not (
            worker.source.fallback and any(w.alive for w in self.workers if not w.source.fallback)
        )
