"""Connections of the server: how many there may be, and how long one may do nothing.

A connection without a whole request, or whose response nobody reads, costs a file handle and holds a place
that others need. `protocol_of` makes uvicorn's protocol with these rules:

* of ``limits.connections`` at most; where one more comes, the oldest without a whole request makes room, and
  if there is none the new one gets 503;
* the head of a request has ``limits.head_seconds``, from the connection or from its first byte on;
* a response that nobody reads is given up after ``limits.stall_seconds``. The kernel buffers `SEND_BYTES` of
  it, so that a reader which stopped is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol

from ternac.host.server.limits import Limits
from ternac.host.server.metrics import Metrics

SEND_BYTES = 1 << 16
BACKLOG = 64
"""Connections that are accepted at a time, before the first of them is looked at."""
SPARE_FILES = 64
"""File handles for everything else: devices, files, logs."""
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\nno connection is left\n"
)


def most_connections(limits: Limits) -> int:
    """Return how many connections there may be: as many as ``limits`` says and this process has files for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits.connections
    return max(1, min(limits.connections, files - SPARE_FILES - BACKLOG))


def protocol_of(limits: Limits, metrics: Metrics) -> type[H11Protocol]:
    """Return uvicorn's protocol with the rules of this module; those of one server share a table."""
    open_connections: dict[Bounded, None] = {}  # in the order in which they came
    most = most_connections(limits)

    class Bounded(H11Protocol):
        _head: asyncio.TimerHandle | None = None
        _stall: asyncio.TimerHandle | None = None

        @property
        def waiting(self) -> bool:
            """The client has still to send: the head of a request, or its body."""
            return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(open_connections) >= most and not self._make_room():
                metrics.connection("refused")
                transport.write(_FULL)
                transport.close()
                return
            open_connections[self] = None
            link = transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            self._await_head()

        def _make_room(self) -> bool:
            """Close the oldest connection that has still to send."""
            oldest = next((each for each in open_connections if each.waiting), None)
            if oldest is None:
                return False
            oldest.give_up("evicted")
            return True

        def connection_lost(self, exc: Exception | None) -> None:
            open_connections.pop(self, None)
            self._forget()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self not in open_connections:
                return
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                if self._head is None:
                    self._await_head()
            elif self._head is not None:
                self._head.cancel()
                self._head = None

        def _await_head(self) -> None:
            self._head = self.loop.call_later(limits.head_seconds, self._too_slow)

        def _too_slow(self) -> None:
            self._head = None
            if self.cycle is None or self.cycle.response_complete:
                self.give_up("slow_head")

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._stall is None:
                self._stall = self.loop.call_later(limits.stall_seconds, self.give_up, "stalled")

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stall is not None:
                self._stall.cancel()
                self._stall = None

        def give_up(self, reason: str) -> None:
            """Close the connection without another word."""
            open_connections.pop(self, None)
            self._forget()
            metrics.connection(reason)
            self.transport.abort()

        def _forget(self) -> None:
            for timer in (self._head, self._stall):
                if timer is not None:
                    timer.cancel()
            self._head = self._stall = None

    return Bounded
