"""Checks before every request: its host, its token, its size. Counts the responses."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ternac.host.server.limits import LOOPBACK
from ternac.host.server.metrics import Metrics
from ternac.host.server.problems import body

OPEN_PATHS = frozenset({"/", "/page.js", "/style.css", "/health", "/ready", "/openapi.json"})
"""Paths that need no token: the page, which asks for it, and those that load balancers read."""
CLIENT = "ternac.client"
"""In the scope of a request: which token it carries."""
BODY_SECONDS = 30.0
LINGER_SECONDS, LINGER_BYTES = 1.0, 1 << 20
"""How much of a refused request is still read: a client cut off while it sends may not see the response."""


def client_of(request: Request) -> str:
    """Return who asks: the token of a request, or where there are none the address that it comes from.

    What a request says of itself (X-Forwarded-For) does not count.
    """
    address = request.client.host if request.client else ""
    return str(request.scope.get(CLIENT, f"address {address}"))


class AccessMiddleware:
    """Responds 421 to a Host that is not one of ``hosts`` (None: any), 401 to a request without one of
    ``tokens`` if there are any, 413 to more than ``limit`` bytes, 408 to a body that takes too long. Bodies
    are read whole before the application is called.

    The check of the Host keeps web pages of other sites, whose names may resolve to the loopback interface,
    from a server there.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limit: int,
        tokens: Collection[str] = (),
        hosts: Collection[str] | None = LOOPBACK,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app, self._metrics, self._limit = app, metrics, limit
        self._tokens = [token.encode() for token in tokens]
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            refusal, received = self._refuse(scope), b""
            if refusal is None:
                received, refusal = await self._body(scope, receive)
            if refusal is None:
                await self._app(scope, _replay(received, receive), sending)
            else:
                if refusal.status_code != 408 and "expect" not in Headers(scope=scope):
                    await _linger(receive)
                await refusal(scope, receive, sending)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.request(path, status, time.monotonic() - began)

    def _refuse(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            return _refusal(421, "this server does not serve that Host", "wrong_host")
        if self._tokens and scope["path"] not in OPEN_PATHS:
            kind, _, given = headers.get("authorization", "").partition(" ")
            secret = given.strip().encode()
            right = [hmac.compare_digest(secret, token) for token in self._tokens]
            if kind.lower() == "bearer" and any(right):
                scope[CLIENT] = f"token {right.index(True)}"
            else:
                found = _refusal(401, "the token is missing or wrong", "invalid_api_key")
                found.headers["WWW-Authenticate"] = "Bearer"
                return found
        return None

    async def _body(self, scope: Scope, receive: Receive) -> tuple[bytes, JSONResponse | None]:
        too_large = _refusal(413, f"the body has more than {self._limit} bytes", "body_too_large")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdecimal() and int(length) > self._limit:
            return b"", too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        break
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limit:
                        return b"", too_large
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            text = f"the body was not received within {self._body_seconds:g} seconds"
            return b"", _refusal(408, text, "slow_body")
        return b"".join(parts), None


def _refusal(status: int, text: str, code: str) -> JSONResponse:
    return JSONResponse(body(text, "invalid_request_error", code), status, {"Connection": "close"})


async def _linger(receive: Receive) -> None:
    """Read and drop what the client is still sending, up to LINGER_SECONDS and LINGER_BYTES."""
    dropped, more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and dropped < LINGER_BYTES:
                message = await receive()
                dropped += len(message.get("body", b""))
                more = message.get("more_body", False)


def _host(value: str) -> str:
    """Return the name in a Host header, without its port."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].lower()


def _replay(data: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what the client sends."""
    first: list[dict[str, Any]] = [{"type": "http.request", "body": data, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
