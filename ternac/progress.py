"""Progress on standard error: tqdm's bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm.std import tqdm

LINE_SECONDS = 10.0
"""Off a terminal, a line is written at most this often; what is over sooner is not shown."""

tqdm.monitor_interval = 0  # no thread of its own: executors fork


class Progress:
    """Count ``total`` units of work (None: nobody knows how many); a context manager.

    ``start`` units were done before: they count as done, not for the rate.
    """

    def __init__(
        self, total: int | None, label: str, unit: str = "", stream: TextIO | None = None, *, start: int = 0
    ) -> None:
        self.total = None if total is None else max(total, 1)
        self.label, self.unit, self.start = label, f" {unit}", start
        self._stream = stream or sys.stderr
        self._began = self._last = time.monotonic()
        self._bar: tqdm | None = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=self.total,
                desc=label,
                unit=self.unit,
                initial=start,
                file=self._stream,
                dynamic_ncols=True,
            )

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` of the total is done; ``note`` is appended (a loss, say)."""
        over = self.total is not None and done >= self.total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(note, refresh=over)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS or (over and self._last > self._began):
            self._last = now
            spent = now - self._began
            line = tqdm.format_meter(
                done,
                self.total,
                spent,
                prefix=self.label,
                unit=self.unit,
                initial=self.start,
                postfix=note,
                ncols=0,
            )
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
