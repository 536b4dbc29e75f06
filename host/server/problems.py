"""Errors as OpenAI's clients expect them: a status, and which parameter was wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile
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
from ternac.host.server.schema import FIELDS, NEEDS, UNSUPPORTED, ErrorResponse

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
        text, param = cause(error.errors()[0], error.body)
        return JSONResponse(body(text, "invalid_request_error", "invalid_value", param), 400)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        found = body(str(error.detail), "invalid_request_error", str(error.detail).lower().replace(" ", "_"))
        return JSONResponse(found, error.status_code, error.headers)


def cause(error: Mapping[str, Any], sent: Any) -> tuple[str, str | None]:
    """Return what is wrong with a request and the name of the parameter, from pydantic's first error.

    pydantic tries the types of a field one after the other, and has an error for each.
    """
    kind, context = error["type"], error.get("ctx", {})
    loc = list(error["loc"][1:])
    if kind == "json_invalid":
        return f"the body is not JSON: {context.get('error', '')} at character {loc[-1]}", None
    if not loc:
        return "the body needs to be a JSON object, sent with Content-Type: application/json", None
    # Behind the names of fields and places in lists come the names of types.
    path = list(takewhile(lambda part: isinstance(part, int) or part in FIELDS, loc)) or loc[:1]
    names = [str(part) for part in path if isinstance(part, str)]
    where, param = ".".join(str(part) for part in path), str(path[0])
    if foreign := next((name for name in names if name in UNSUPPORTED), None):
        return f"{where.partition(foreign)[0]}{foreign} is not supported by this server", param
    if part := _foreign_part(path, sent):
        return f"{where}: parts of type {part!r} are not supported: the model reads text only", param
    if kind == "extra_forbidden":
        unknown = ".".join(str(part) for part in loc) if len(path) == len(loc) else f"{where}.{loc[-1]}"
        return f"{unknown if names[0] in FIELDS else loc[-1]} is not supported by this server", param
    needs = next((NEEDS[name] for name in reversed(names) if name in NEEDS), None)
    if needs is None and kind in WORDS:
        needs = WORDS[kind].format(**{key: _number(value) for key, value in context.items()})
    given = _value(error.get("input"))
    if kind == "missing":
        given = ""
    return f"{where} {needs or 'has a value that this server does not take'}{given}", param


WORDS = {
    "missing": "is missing",
    "string_type": "needs a text",
    "int_type": "needs a whole number",
    "float_type": "needs a number",
    "bool_type": "needs true or false",
    "list_type": "needs a list",
    "dict_type": "needs an object",
    "model_type": "needs an object",
    "model_attributes_type": "needs an object",
    "greater_than_equal": "needs at least {ge}",
    "less_than_equal": "needs at most {le}",
    "less_than": "needs less than {lt}",
    "finite_number": "needs a finite number",
    "literal_error": "can only be {expected}",
    "too_short": "needs at least {min_length} of them, has {actual_length}",
    "too_long": "takes at most {max_length} of them, has {actual_length}",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
    "string_pattern_mismatch": "needs the form {pattern}",
    "string_unicode": "needs a text that UTF-8 can encode",
    "int_from_float": "needs a whole number",
}
"""Kinds of pydantic's errors, in words."""


def _foreign_part(path: list[Any], sent: Any) -> str | None:
    """Return the type of the first part of that message's content that is no text."""
    if not (isinstance(sent, dict) and path[:1] == ["messages"] and path[2:3] == ["content"]):
        return None
    parts = sent["messages"][path[1]]["content"]
    kinds = (part.get("type") for part in parts if isinstance(part, dict)) if isinstance(parts, list) else ()
    return next((kind for kind in kinds if isinstance(kind, str) and kind != "text"), None)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()


def _value(value: object) -> str:
    """Return a short value for a message, else ""."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        text = ascii(value)
        return f", not {text}" if len(text) <= 40 else ""
    return ""
