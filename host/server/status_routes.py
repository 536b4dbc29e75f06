"""The routes for operators (/health, /ready, /metrics) and the page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import FileResponse, JSONResponse, Response

from ternac.host.server.service import Service

PAGES = Path(__file__).with_name("pages")
CONTENT = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def routes(service: Service) -> APIRouter:
    """Routes of status and page."""
    api = APIRouter()

    @api.get("/health")
    async def health() -> dict[str, Any]:
        """Return the state of every device; responds as long as the process lives."""
        stats = service.scheduler.stats()
        devices = [
            {
                "device": device.label,
                "up": device.up,
                "fallback": device.fallback,
                "requests": device.sessions,
                "tokens": device.tokens,
                "tokens_per_second": device.tokens_per_second,
                "losses": device.losses,
                **service.devices.about(device.label),
            }
            for device in stats.devices
        ]
        whole = all(device.up for device in stats.devices)
        return {
            "status": "ok" if whole and stats.ready else "degraded" if stats.ready else "down",
            "model": service.program.name,
            "program_hash": service.program.hash,
            "devices": devices,
            "requests": stats.jobs,
            "sessions": await service.sessions.count(),
            "moves": stats.moves,
        }

    @api.get("/ready", responses={503: {"description": "a new request would be refused"}})
    async def ready() -> JSONResponse:
        """Say whether a new request would be taken."""
        yes = service.scheduler.stats().ready
        return JSONResponse({"ready": yes}, 200 if yes else 503)

    @api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    for path, (name, kind) in CONTENT.items():
        headers = {
            "Content-Security-Policy": CSP,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
        }
        api.add_api_route(
            path, _file(PAGES / name, kind, headers), include_in_schema=False, response_class=FileResponse
        )
    return api


def _file(path: Path, kind: str, headers: dict[str, str]) -> Any:
    async def page() -> FileResponse:
        return FileResponse(path, media_type=kind, headers=headers)

    return page
