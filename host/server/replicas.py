"""The same server as replicas behind Ray Serve, on one machine or on several (the extra `ray`).

Sessions are kept in one actor, as snapshots: any replica can continue any session.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ternac.errors import ToolMissing, UsageError
from ternac.host.server.limits import Limits
from ternac.host.server.sessions import Kept, SessionTable

ACTOR = "ternac-sessions"
NAMESPACE = "ternac"


def _ray() -> Any:
    try:
        import ray
        import ray.serve
    except ModuleNotFoundError:
        raise ToolMissing("replicas need Ray", "pip install 'ternac[ray]'") from None
    return ray


class ActorSessions:
    """`Sessions` in a Ray actor, which returns errors instead of raising them: so Ray keeps their type."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def _ask(self, method: str, *words: Any) -> Any:
        good, found = await self._actor.ask.remote(method, *words)
        if not good:
            raise found
        return found

    async def put(self, name: str, kept: Kept) -> bool:
        return bool(await self._ask("put", name, kept))

    async def get(self, name: str) -> Kept:
        found: Kept = await self._ask("get", name)
        return found

    async def delete(self, name: str) -> None:
        await self._ask("delete", name)

    async def take(self, name: str, seconds: float) -> tuple[Kept, int]:
        kept, ticket = await self._ask("take", name, seconds)
        return kept, ticket

    async def give(self, name: str, ticket: int, kept: Kept | None) -> bool:
        return bool(await self._ask("give", name, ticket, kept))

    async def count(self) -> int:
        return int(await self._ask("count"))


class Table:
    """The actor's class: a `SessionTable`."""

    def __init__(self, limits: Limits) -> None:
        self._table = SessionTable(limits)

    def ask(self, method: str, *words: Any) -> tuple[bool, Any]:
        """Return (True, what the method returns) or (False, the error)."""
        from ternac.errors import TernacError

        try:
            return True, getattr(self._table, method)(*words)
        except TernacError as error:
            return False, error


def build_app(
    model: str | Path,
    devices: Sequence[str],
    limits: Limits,
    tokens: Collection[str],
    hosts: Collection[str] | None,
    options: dict[str, Any],
    sessions: Any,
    replica: str,
) -> Any:
    """Build the application of one replica: its own devices and scheduler, the common sessions."""
    from ternac.host.server.app import create_app
    from ternac.host.server.service import build_service
    from ternac.program.zoo import open_program

    service = build_service(open_program(model), devices, limits, **options)
    service.sessions, service.replica = ActorSessions(sessions), f"{replica}/"
    return create_app(service, tokens, hosts)


def deploy(
    model: str | Path,
    replicas: int = 2,
    devices: Sequence[str] = ("auto",),
    limits: Limits | None = None,
    tokens: Collection[str] = (),
    hosts: Collection[str] | None = None,
    *,
    name: str = "ternac",
    cpus: float = 1.0,
    **options: Any,
) -> Any:
    """Start ``replicas`` servers of ``model`` behind Ray Serve's proxy; returns Serve's handle.

    Every node needs the program under the same name, and its own devices. ``options`` are those of
    `build_service`; ``hosts`` as in `AccessMiddleware`. Raises ToolMissing if Ray is not installed,
    UsageError if ``replicas`` is less than 1.
    """
    if replicas < 1:
        raise UsageError(f"{replicas} replicas: at least 1 is needed")
    ray = _ray()
    limits = limits or Limits()
    kept = (
        ray.remote(Table)
        .options(name=ACTOR, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0)
        .remote(limits)
    )
    words = (
        str(model),
        tuple(devices),
        limits,
        tuple(tokens),
        None if hosts is None else tuple(hosts),
        options,
    )

    def build() -> Any:
        return build_app(*words, kept, f"{ray.get_runtime_context().get_node_id()[:8]}-{os.getpid()}")

    class Replica:
        """The application, built in its own process."""

    resources = {"num_cpus": cpus}
    deployment: Any = ray.serve.deployment(
        name=name, num_replicas=replicas, ray_actor_options=resources, max_ongoing_requests=limits.queue
    )(ray.serve.ingress(build)(Replica))
    return ray.serve.run(deployment.bind(), name=name, route_prefix="/")
