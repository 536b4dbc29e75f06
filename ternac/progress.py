"""A progress bar on standard error: redrawn in place on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO


class Progress:
    """Counts ``total`` units of work; use as a context manager and call :meth:`update` with what is done.

    ``start`` units were done before.  Shows percentage, rate and remaining time.
    Off a terminal it writes at most one line per 10 seconds.
    """

    def __init__(
        self, total: int, label: str, unit: str = "", stream: TextIO | None = None, *, start: int = 0
    ) -> None:
        self._before = start
        self.total, self.label, self.unit = max(total, 1), label, unit
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = self._last = time.monotonic()
        self._drawn = False

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the total is done; ``note`` is appended (a loss, say)."""
        now = time.monotonic()
        if now - self._last < (0.1 if self._tty else 10.0) and done < self.total:
            return
        if not self._tty and not self._drawn and done >= self.total:
            return  # over before the first line was due
        self._last, self._drawn = now, True
        spent = max(now - self._start, 1e-9)
        new = done - self._before
        left = spent / new * (self.total - done) if new else 0.0
        part = min(done / self.total, 1.0)
        bar = "#" * round(24 * part)
        text = (
            f"{self.label} [{bar:<24}] {part:4.0%} {new / spent:,.0f} {self.unit}/s, "
            f"{_clock(left)} left {note}"
        ).rstrip()
        self._stream.write(f"\r\x1b[K{text}" if self._tty else text + "\n")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tty and self._drawn:
            self._stream.write("\n")
            self._stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
