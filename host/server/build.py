"""Build a service from a program and the names of its devices."""

from __future__ import annotations

from collections.abc import Sequence

from ternac.host.executors import DEFAULT_BOARD
from ternac.host.server.devices import Devices
from ternac.host.server.limits import Limits
from ternac.host.server.metrics import Metrics
from ternac.host.server.scheduler import Scheduler
from ternac.host.server.service import Service
from ternac.host.server.sessions import LocalSessions
from ternac.program.program import Program


def build_service(
    program: Program,
    names: Sequence[str],
    limits: Limits,
    *,
    board: str = DEFAULT_BOARD,
    fallback: bool = True,
    reopen: float = 5.0,
    devices: Devices | None = None,
) -> Service:
    """Open the devices (or take ``devices``), and make their scheduler and table of sessions.

    Raises what `Device.open` raises.
    """
    devices = devices or Devices(program, names, board, fallback=fallback)
    scheduler = Scheduler(devices.sources, limits.queue, reopen)
    sessions = LocalSessions(limits)
    metrics = Metrics(scheduler.stats, sessions.held)
    return Service(devices, scheduler, sessions, limits, metrics)
