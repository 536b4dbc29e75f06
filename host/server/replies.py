"""Turn generated text into a response: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, Protocol

from fastapi import Request
from starlette.responses import StreamingResponse

from ternac.errors import Cancelled, TernacError
from ternac.host.server import schema
from ternac.host.server.problems import body_of
from ternac.host.server.service import Reply, Service

PING = 15.0
"""Seconds of silence after which a stream sends a comment, so that proxies do not close it."""


class Part(Protocol):
    """Makes one choice of a stream's event: a piece of text, or the reason why the text ended."""

    def __call__(self, text: str, reason: str | None) -> dict[str, Any]: ...


def head(prefix: str, model: str) -> dict[str, Any]:
    """Return the first fields of every response."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}


def usage(reply: Reply) -> schema.Usage:
    """Return the tokens of the request."""
    prompt, made = len(reply.request.prompt), reply.job.chosen
    return schema.Usage(prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made)


def ran(service: Service, reply: Reply) -> schema.Ran:
    """Return where the text comes from."""
    label = reply.job.device
    energy = service.devices.energy(label)
    return schema.Ran(
        device=f"{service.replica}{label}",
        executor=service.devices.executor(label),
        moves=reply.job.moves,
        tokens_per_second=reply.tokens_per_second,
        joules_per_token=energy.joules_per_token,
        joules_origin=energy.origin,
        cut_by_time=reply.job.reason == "time",
        session=reply.session,
    )


def reason(reply: Reply) -> Literal["stop", "length"]:
    """Return why the text ended, in OpenAI's words."""
    return "stop" if reply.job.reason == "stop" else "length"


async def collect(reply: Reply, request: Request) -> str:
    """Return the whole text. Stops it and raises Cancelled if the client disconnects."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    text, left = asyncio.ensure_future(reply.collect()), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((text, left), return_when=asyncio.FIRST_COMPLETED)
        if text.done():
            return text.result()
        raise Cancelled("the client disconnected")
    finally:
        left.cancel()
        text.cancel()
        reply.cancel()


def stream(
    service: Service,
    reply: Reply,
    start: dict[str, Any],
    kind: str,
    part: Part,
    options: schema.StreamOptions | None,
) -> StreamingResponse:
    """Return events as OpenAI's clients read them, each with the extension; usage and [DONE] come last."""
    with_usage = options is not None and options.include_usage

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        data = {
            **start,
            "object": kind,
            "choices": choices,
            "ternac": ran(service, reply).model_dump(),
            **more,
        }
        return f"data: {json.dumps(data, allow_nan=False)}\n\n"

    async def events() -> AsyncIterator[str]:
        nothing = {"usage": None} if with_usage else {}
        try:
            if kind == "chat.completion.chunk":
                first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                yield event([first], **nothing)
            async with aclosing(reply.pieces(PING)) as pieces:
                async for piece in pieces:
                    yield ": waiting\n\n" if piece is None else event([part(piece, None)], **nothing)
            yield event([part("", reason(reply))], **nothing)
            if with_usage:
                yield event([], usage=usage(reply).model_dump())
            yield "data: [DONE]\n\n"
        except TernacError as error:
            yield f"data: {json.dumps(body_of(error))}\n\n"
        finally:
            reply.cancel()

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
