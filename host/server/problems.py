"""Errors as OpenAI's clients expect them: a status, and which parameter was wrong."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from ternac.errors import (
    Cancelled,
    Overloaded,
    SessionBusy,
    SnapshotError,
    TernacError,
    Unavailable,
    UnknownSession,
    UsageError,
)
from ternac.host.server.schema import ErrorResponse

RETRY_SECONDS = 1
STATUS: dict[type[TernacError], tuple[int, str, str]] = {
    UsageError: (400, "invalid_request_error", "invalid_value"),
    SnapshotError: (400, "invalid_request_error", "invalid_snapshot"),
    UnknownSession: (404, "invalid_request_error", "session_not_found"),
    SessionBusy: (409, "conflict_error", "session_busy"),
    Overloaded: (429, "rate_limit_error", "overloaded"),
    Cancelled: (499, "cancelled", "client_gone"),
    Unavailable: (503, "server_error", "unavailable"),
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "a parameter is wrong or not supported; `param` names it",
        401: "the token is missing or wrong",
        404: "no such model or session",
        408: "the body was not received in time",
        409: "the session has a request that is not finished",
        413: "the body is too large",
        421: "the server does not serve that Host",
        429: "too many requests or sessions; see Retry-After",
        503: "no device is left, or the server is shutting down; see Retry-After",
    }.items()
}


class BadParameter(UsageError):
    """A wrong or unsupported parameter, by name."""

    def __init__(self, param: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.param = param


class UnknownModel(UsageError):
    """A model that this server does not have."""


def body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """Return the error object; what UTF-8 cannot encode is replaced."""
    message, param = _clean(message), None if param is None else _clean(param)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: TernacError) -> int:
    """Return the HTTP status of an error."""
    return _entry(error)[0]


def _entry(error: TernacError) -> tuple[int, str, str]:
    if isinstance(error, UnknownModel):
        return 404, "invalid_request_error", "model_not_found"
    found = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    return found or (500, "server_error", "internal_error")


def body_of(error: TernacError) -> dict[str, Any]:
    """Return the error object of an error, with its hint."""
    _, kind, code = _entry(error)
    text = f"{error} ({error.hint})" if error.hint else str(error)
    param = "model" if isinstance(error, UnknownModel) else getattr(error, "param", None)
    return body(text, kind, code, param)


def response(error: TernacError) -> JSONResponse:
    """Return the HTTP response of an error."""
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
    return JSONResponse(body_of(error), status, headers)


def install(app: FastAPI) -> None:
    """Give all errors of ``app`` this form."""

    @app.exception_handler(TernacError)
    async def _typed(request: Request, error: TernacError) -> JSONResponse:
        return response(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(part) for part in first["loc"] if part != "body"]
        param = next(iter(where), None)
        text = first["msg"]
        if first["type"] == "extra_forbidden":
            text = f"{'.'.join(where)} is not supported by this server"
        elif where:
            text = f"{'.'.join(where)}: {text}{_value(first.get('input'))}"
        return JSONResponse(body(text, "invalid_request_error", "invalid_value", param), 400)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        found = body(str(error.detail), "invalid_request_error", str(error.detail).lower().replace(" ", "_"))
        return JSONResponse(found, error.status_code, error.headers)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()


def _value(value: object) -> str:
    """Return a short value for a message, else ""."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        text = ascii(value)
        return f", not {text}" if len(text) <= 40 else ""
    return ""
