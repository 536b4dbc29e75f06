"""The ASGI application: routes, errors and access checks around one service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import FastAPI

from ternac.host.server import api, problems, session_routes, status_routes
from ternac.host.server.access import AccessMiddleware
from ternac.host.server.limits import LOOPBACK
from ternac.host.server.service import Service


def create_app(
    service: Service, tokens: Collection[str] = (), hosts: Collection[str] | None = LOOPBACK
) -> FastAPI:
    """Create the application; ``tokens`` and ``hosts`` as in `AccessMiddleware`.

    Shutting it down closes the service's scheduler. Its pages load nothing from other sites, so there is no
    Swagger page; the schema is at /openapi.json.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.scheduler.close)

    app = FastAPI(
        title="Ternac",
        description=f"Text from {service.program.name}",
        version=service.program.hash[:16],
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    problems.install(app)
    for part in (api, session_routes, status_routes):
        app.include_router(part.routes(service))
    app.include_router(api.tokenizer_routes(service))
    app.add_middleware(
        AccessMiddleware, metrics=service.metrics, limit=service.limits.body, tokens=tokens, hosts=hosts
    )
    return app
