"""A server of `ternac serve` in a thread of the tests, on a free port of the loopback interface."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'ternac[serve]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'ternac[serve]'")
pytest.importorskip(
    "prometheus_client", reason="prometheus-client is not installed: pip install 'ternac[serve]'"
)

from ternac.host.server.app import create_app
from ternac.host.server.devices import Devices
from ternac.host.server.limits import LOOPBACK, Limits
from ternac.host.server.service import Service, build_service
from ternac.host.server.serving import Server, bind
from ternac.host.server.worker import Source
from ternac.program.program import Program


class Running:
    """Where the server is, and what it is made of."""

    def __init__(self, service: Service, port: int, server: Server) -> None:
        self.service, self.port, self.server = service, port, server
        self.url = f"http://127.0.0.1:{port}"

    @property
    def stats(self) -> Any:
        return self.service.scheduler.stats()

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until no request is running."""
        until = time.monotonic() + seconds
        while self.stats.jobs:
            assert time.monotonic() < until, f"{self.stats.jobs} requests are still there"
            time.sleep(0.005)


class Given(Devices):
    """Devices that a test made, instead of those named on a command line."""

    def __init__(self, program: Program, sources: Sequence[Source]) -> None:
        super().__init__(program, ["numpy"])
        self.sources = list(sources)


@contextmanager
def running(
    program: Program,
    names: Sequence[str] = ("numpy",),
    limits: Limits | None = None,
    tokens: Sequence[str] = (),
    hosts: Sequence[str] | None = LOOPBACK,
    sources: Sequence[Source] | None = None,
    **options: Any,
) -> Iterator[Running]:
    """A server of that program; ``sources`` replace the named devices."""
    if sources is not None:
        options["devices"] = Given(program, sources)
    service = build_service(program, names, limits or Limits(), **options)
    listening = bind("127.0.0.1", 0)
    server = Server(create_app(service, tokens, hosts), service)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.005)
    try:
        yield Running(service, listening.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        service.scheduler.close()
