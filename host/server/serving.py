"""Run the application in uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Collection
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ternac.errors import UsageError
from ternac.host.server.app import create_app
from ternac.host.server.connections import BACKLOG, protocol_of
from ternac.host.server.limits import LOOPBACK
from ternac.host.server.log_limit import install as install_log_limit
from ternac.host.server.service import Service

SHUTDOWN_SECONDS = 10
"""Time that running requests have to finish when the server is told to stop."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket (port 0: any free one). Raises UsageError if the address cannot be used."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host} port {port}: {error}", "choose another --port or --host"
        ) from None
    return found


def allowed_hosts(host: str, more: Collection[str]) -> Collection[str] | None:
    """Return the Hosts to serve: on a loopback address its own names and ``more``, else ``more``, or any."""
    if host in LOOPBACK:
        return [*LOOPBACK, *more]
    return list(more) or None


class Server(uvicorn.Server):
    """uvicorn's server, with bounded connections; after a signal the scheduler takes no new job and /ready
    says no.
    """

    def __init__(self, app: FastAPI, service: Service) -> None:
        config = uvicorn.Config(
            app,
            http=protocol_of(service.limits, service.metrics),
            ws="none",
            backlog=BACKLOG,
            proxy_headers=False,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            server_header=False,
            lifespan="on",
        )
        super().__init__(config)
        install_log_limit()
        self._drain = service.scheduler.drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish running requests on the first signal, stop at once on the second."""
        # Not here: the signal may have come while this thread holds the scheduler's lock.
        threading.Thread(target=self._drain, daemon=True).start()
        super().handle_exit(sig, frame)


def serve(
    service: Service, listening: socket.socket, tokens: Collection[str], hosts: Collection[str] | None
) -> None:
    """Serve until SIGINT or SIGTERM; running requests then have `SHUTDOWN_SECONDS` to finish."""
    server = Server(create_app(service, tokens, hosts), service)
    try:
        # uvicorn raises the signal again when it is done; for this verb it is the normal end.
        before = {sig: signal.signal(sig, signal.SIG_IGN) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            asyncio.run(server.serve([listening]))
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)
    finally:
        service.scheduler.close()
        listening.close()
