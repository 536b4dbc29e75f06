"""A limit for logs: what a client can cause again and again is said some times a minute, then counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOGGERS = ("uvicorn.error", "asyncio", "ternac.host.server.worker", "ternac.host.server.service")
"""Loggers of a server whose messages a client can cause."""


class LogLimit(logging.Filter):
    """Lets ``most`` messages of a kind (their text before its arguments are put in) pass in ``seconds``.

    The first after that says how many were left out. At most ``kinds`` kinds are told apart.
    """

    def __init__(
        self,
        most: int = 10,
        seconds: float = 60.0,
        kinds: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.most, self.seconds, self.kinds, self._clock = most, seconds, kinds, clock
        self._counts: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now, kind = self._clock(), str(record.msg)
        if kind not in self._counts and len(self._counts) >= self.kinds:
            kind = ""
        began, count = self._counts.get(kind, (now, 0))
        if now - began >= self.seconds:
            if count > self.most:
                record.msg = f"{record.getMessage()} (and {count - self.most} more like it before)"
                record.args = ()
            began, count = now, 0
        self._counts[kind] = began, count + 1
        return count < self.most


def install() -> None:
    """Limit the loggers of a server, once."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, LogLimit) for each in logger.filters):
            logger.addFilter(LogLimit())
