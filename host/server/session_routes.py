"""The routes of sessions: create, download, upload and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request, Response

from ternac.host.server import schema
from ternac.host.server.problems import RESPONSES
from ternac.host.server.service import Service
from ternac.host.server.sessions import Kept
from ternac.run.snapshot import Snapshot

OPEN_TURN = "Ternac-Open-Turn"
"""Header of a snapshot: "1" if its text ends inside a turn of a chat, else "0"."""
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
Name = Annotated[str, Path(pattern=schema.SESSION_NAME)]
Turn = Annotated[str, Header(alias=OPEN_TURN, pattern="^[01]$")]


def routes(service: Service) -> APIRouter:
    """Routes below /v1/sessions."""
    api = APIRouter(prefix="/v1/sessions", responses=RESPONSES)

    @api.get("/{name}", response_class=Response, responses={200: {"content": BYTES}})
    async def download(name: Name) -> Response:
        """Return the session's snapshot, as its last finished request left it (format: docs/program.md)."""
        kept = await service.sessions.get(name)
        headers = {OPEN_TURN: str(int(kept.open_turn)), "Cache-Control": "no-store"}
        return Response(kept.data, media_type="application/octet-stream", headers=headers)

    @api.put(
        "/{name}",
        status_code=204,
        response_class=Response,
        responses={201: {"description": "it was created"}, 204: {"description": "it was replaced"}},
        openapi_extra={"requestBody": {"required": False, "content": BYTES}},
    )
    async def upload(name: Name, request: Request, open_turn: Turn = "0") -> Response:
        """Create or replace a session from a snapshot; an empty body makes a session with a zero state."""
        data = await request.body()
        if not data:
            data = service.new_session().to_bytes(service.program)
        Snapshot.from_bytes(data, service.program)
        made = await service.sessions.put(name, Kept(data, open_turn == "1"))
        return Response(status_code=201 if made else 204)

    @api.delete("/{name}", status_code=204, response_class=Response)
    async def delete(name: Name) -> Response:
        """Delete a session."""
        await service.sessions.delete(name)
        return Response(status_code=204)

    return api
