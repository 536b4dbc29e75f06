"""What `ternac watch` has seen, as Prometheus reads it: a file for its node exporter, or an address."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ternac.errors import UsageError
from ternac.files import write_text
from ternac.run.coding import UNIT
from ternac.run.surprise import Line

__all__ = ["Counts", "Page", "metrics_place"]

BUCKETS = (16, 32, 64, 128, 256, 512, 1024)
"""Bits of a line."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Counts:
    """Lines that were read. ``model`` is a label of every metric."""

    model: str
    lines: int = 0
    bytes: int = 0
    anomalies: int = 0
    unreadable: int = 0
    cost: int = 0
    last: int = 0
    rotations: int = 0

    def __post_init__(self) -> None:
        self.buckets = [0] * len(BUCKETS)

    def add(self, line: Line, anomaly: bool) -> None:
        """Count a line."""
        self.lines += 1
        self.bytes += line.bytes
        self.anomalies += anomaly
        self.unreadable += not line.readable
        self.cost += line.cost
        self.last = line.cost
        for at, most in enumerate(BUCKETS):
            self.buckets[at] += line.cost <= most * UNIT

    def text(self) -> str:
        """Return the page."""
        name = self.model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        label = f'model="{name}"'
        found = []

        def metric(what: str, kind: str, words: str, value: float) -> None:
            found.extend(
                [f"# HELP {what} {words}", f"# TYPE {what} {kind}", f"{what}{{{label}}} {value:.17g}"]
            )

        metric("ternac_watch_bytes_total", "counter", "Bytes of the lines read.", self.bytes)
        metric("ternac_watch_anomalies_total", "counter", "Lines above the threshold.", self.anomalies)
        metric("ternac_watch_unreadable_total", "counter", "Lines with bytes in no token.", self.unreadable)
        metric("ternac_watch_rotations_total", "counter", "Times that the log was replaced.", self.rotations)
        metric("ternac_watch_last_line_bits", "gauge", "Surprise of the last line.", self.last / UNIT)
        what = "ternac_watch_line_bits"
        found += [f"# HELP {what} Surprise of a line.", f"# TYPE {what} histogram"]
        for most, count in zip((*BUCKETS, "+Inf"), (*self.buckets, self.lines), strict=True):
            found.append(f'{what}_bucket{{{label},le="{most}"}} {count}')
        found += [f"{what}_sum{{{label}}} {self.cost / UNIT:.17g}", f"{what}_count{{{label}}} {self.lines}"]
        return "\n".join(found) + "\n"


def metrics_place(given: str) -> Path | tuple[str, int]:
    """Parse a file that ends in .prom, or an address HOST:PORT, :PORT on this machine alone.

    Raises UsageError if it is neither.
    """
    if given.endswith(".prom"):
        return Path(given)
    host, colon, port = given.rpartition(":")
    if colon and port.isdecimal() and int(port) < 1 << 16:
        return host or "127.0.0.1", int(port)
    raise UsageError(f"{given!r} is no place for metrics", "name a file FILE.prom, or an address HOST:PORT")


class Page:
    """Keeps the metrics where Prometheus finds them.

    Raises UsageError if the address cannot be used.
    """

    def __init__(self, place: Path | tuple[str, int], counts: Counts) -> None:
        self._counts, self._file = counts, place if isinstance(place, Path) else None
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()
        self._text = counts.text()
        if not isinstance(place, Path):
            try:
                self._server = ThreadingHTTPServer(place, self._handler())
            except OSError as error:
                reason = error.strerror or error
                raise UsageError(
                    f"cannot serve on {place[0]}:{place[1]}: {reason}", "name another port"
                ) from None
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.update()

    @property
    def port(self) -> int | None:
        """The port that is served on; None for a file."""
        return None if self._server is None else int(self._server.server_address[1])

    def update(self) -> None:
        """Show what the counts are now."""
        text = self._counts.text()
        if self._file is not None:
            write_text(self._file, text)
        with self._lock:
            self._text = text

    def close(self) -> None:
        """Show the last counts, and stop serving."""
        self.update()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                with page._lock:
                    body = page._text.encode() if self.path == "/metrics" else b"see /metrics\n"
                self.send_response(200 if self.path == "/metrics" else 404)
                self.send_header("Content-Type", TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
