"""Turn generated text into a response: whole, or as server-sent events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from fastapi import Request
from starlette.responses import StreamingResponse

from ternac.errors import Cancelled, TernacError
from ternac.host.server import schema
from ternac.host.server.problems import body_of
from ternac.host.server.scores import Scored
from ternac.host.server.service import UNREAD, Piece, Reply, Service

PING = 15.0
"""Seconds of silence after which a stream sends a comment, so that proxies do not close it."""


class Part(Protocol):
    """Makes one choice of a stream's event: a piece of text, or the reason why the text ended. ``found``: the
    scores of its tokens, None where there are none.
    """

    def __call__(
        self, index: int, text: str, reason: str | None, found: Sequence[Scored] | None = None
    ) -> dict[str, Any]: ...


def head(prefix: str, model: str) -> dict[str, Any]:
    """Return the first fields of every response."""
    return {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}


def usage(replies: Sequence[Reply], n: int) -> schema.Usage:
    """Return the tokens of the request, which has ``n`` replies to each prompt."""
    prompt = sum(len(reply.request.prompt) for reply in replies[::n])
    made = sum(reply.job.chosen for reply in replies)
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
        loops=reply.request.loops,
    )


def reason(reply: Reply) -> Literal["stop", "length"]:
    """Return why the text ended, in OpenAI's words."""
    return "stop" if reply.job.reason == "stop" else "length"


async def collect(replies: Sequence[Reply], request: Request) -> list[str]:
    """Return the whole texts. Stops them all and raises Cancelled if the client disconnects."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    texts = asyncio.gather(*(reply.collect() for reply in replies))
    texts.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks after a hang-up
    left = asyncio.ensure_future(gone())
    try:
        await asyncio.wait((texts, left), return_when=asyncio.FIRST_COMPLETED)
        if texts.done():
            return texts.result()
        raise Cancelled("the client disconnected")
    finally:
        left.cancel()
        texts.cancel()
        for reply in replies:
            reply.cancel()


END = Piece("")
"""Follows the last piece of a text."""


async def _merged(replies: Sequence[Reply]) -> AsyncGenerator[tuple[int, Piece | None]]:
    """Yield the pieces of all texts as they come, with the text's number, `END` behind them, and None where
    there is a pause. Raises the first error.
    """
    pieces: asyncio.Queue[tuple[int, Piece | None | TernacError]] = asyncio.Queue(UNREAD)

    async def follow(index: int, reply: Reply) -> None:
        try:
            async with aclosing(reply.pieces(PING)) as found:
                async for piece in found:
                    await pieces.put((index, piece))
            await pieces.put((index, END))
        except TernacError as error:
            await pieces.put((index, error))

    tasks = [asyncio.ensure_future(follow(index, reply)) for index, reply in enumerate(replies)]
    try:
        running = len(tasks)
        while running:
            index, piece = await pieces.get()
            if isinstance(piece, TernacError):
                raise piece
            running -= piece is END
            yield index, piece
    finally:
        for task in tasks:
            task.cancel()


def stream(
    service: Service,
    replies: Sequence[Reply],
    n: int,
    start: dict[str, Any],
    kind: str,
    part: Part,
    options: schema.StreamOptions | None,
    echo: Sequence[str] = (),
) -> StreamingResponse:
    """Return events as OpenAI's clients read them, each with the extension; usage and [DONE] come last.

    ``echo``: what each text begins with.
    """
    with_usage = options is not None and bool(options.include_usage)

    def event(choices: list[dict[str, Any]], reply: Reply, **more: Any) -> str:
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
            for index, reply in enumerate(replies):
                if kind == "chat.completion.chunk":
                    delta = {"role": "assistant", "content": ""}
                    first = {"index": index, "delta": delta, "finish_reason": None}
                    yield event([first], reply, **nothing)
                elif echo and reply.request.logprobs is None:
                    yield event([part(index, echo[index], None)], reply, **nothing)
            # With scores the prompt is sent when they are there, in front of the first piece.
            first_of = dict(enumerate(echo))
            async with aclosing(_merged(replies)) as pieces:
                async for index, piece in pieces:
                    reply = replies[index]
                    if piece is None:
                        yield ": waiting\n\n"
                    elif piece is END:
                        yield event([part(index, "", reason(reply))], reply, **nothing)
                    elif reply.request.logprobs is None:
                        yield event([part(index, piece.text, None)], reply, **nothing)
                    else:
                        text = first_of.pop(index, "") + piece.text
                        yield event([part(index, text, None, piece.scores)], reply, **nothing)
            if with_usage:
                yield event([], replies[0], usage=usage(replies, n).model_dump())
            yield "data: [DONE]\n\n"
        except TernacError as error:
            yield f"data: {json.dumps(body_of(error))}\n\n"
        finally:
            for reply in replies:
                reply.cancel()

    return StreamingResponse(
        events(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
