"""The routes of OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request

from ternac.host.server import replies, schema
from ternac.host.server.problems import RESPONSES, BadParameter, UnknownModel
from ternac.host.server.service import GenerationRequest, Reply, Service
from ternac.host.server.texts import TURN_END, chat_prompt, encode
from ternac.run.sampling import Sampling

COMPLETION_TOKENS = 16
"""Default of OpenAI's completions."""
CHAT_TOKENS = 256
LEAST_TEMPERATURE = 1e-6
"""The integer sampler has no smaller temperature: all below it choose the same tokens."""
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the response, or with `stream` its parts as server-sent events",
        "content": {"text/event-stream": {}},
    }
}


def routes(service: Service) -> APIRouter:
    """Routes of models, completions and chat."""
    api = APIRouter(prefix="/v1", responses=RESPONSES)
    model = service.program.name

    @api.get("/models")
    async def models() -> schema.ModelList:
        """List the one model of this server."""
        return schema.ModelList(data=[card()])

    @api.get("/models/{name:path}")
    async def one_model(name: str) -> schema.ModelCard:
        """Describe the model of that name."""
        check_model(name)
        return card()

    def card() -> schema.ModelCard:
        about = {
            "program_hash": service.program.hash,
            "tokenizer": service.tokenizer.name,
            "vocab": service.program.vocab,
            "state_bytes": 2 * service.program.state_words,
            "max_tokens": service.limits.tokens,
            "max_prompt_tokens": service.limits.prompt,
        }
        return schema.ModelCard(id=model, created=service.created, ternac=about)

    def check_model(name: str | None) -> None:
        if name not in (None, model):
            raise UnknownModel(f"this server has no model {name!r}", f"it serves {model!r}")

    def generation(
        asked: schema.Asked, count: int, tokens: Callable[[], list[int]], closes: str = ""
    ) -> GenerationRequest:
        """Return the generation that a request asks for; its prompt is ``tokens()``."""
        limits = service.limits
        if count > limits.tokens:
            raise BadParameter(
                "max_tokens", f"max_tokens is {count}, this server generates at most {limits.tokens}"
            )
        temperature = 1.0 if asked.temperature is None else asked.temperature
        temperature = max(temperature, LEAST_TEMPERATURE) if temperature else 0.0
        sampling = Sampling.from_temperature(temperature, service.program.logit_scale_bits, asked.top_k or 0)
        prompt = tokens()
        if len(prompt) > limits.prompt:
            text = f"the prompt has {len(prompt)} tokens, this server takes at most {limits.prompt}"
            raise BadParameter("messages" if closes else "prompt", text)
        stops = [*asked.stops, *([closes] if closes else [])]
        return GenerationRequest(prompt, count, sampling, asked.seed, stops, closes)

    @api.post("/completions", response_model=schema.CompletionResponse, responses=STREAM)
    async def completions(asked: schema.CompletionRequest, request: Request) -> Any:
        """Continue a text."""
        check_model(asked.model)
        count = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens

        def tokens() -> list[int]:
            text = asked.text
            return encode(service.tokenizer, text) if isinstance(text, str) else text

        def part(text: str, reason: str | None) -> dict[str, Any]:
            return {"index": 0, "text": text, "finish_reason": reason, "logprobs": None}

        reply = await Reply.begin(service, asked.session, lambda _: generation(asked, count, tokens))
        head = replies.head("cmpl", model)
        if asked.stream:
            return replies.stream(service, reply, head, "text_completion", part, asked.stream_options)
        choice = schema.CompletionChoice(
            text=await replies.collect(reply, request), finish_reason=replies.reason(reply)
        )
        return schema.CompletionResponse(
            **head, choices=[choice], usage=replies.usage(reply), ternac=replies.ran(service, reply)
        )

    @api.post("/chat/completions", response_model=schema.ChatResponse, responses=STREAM)
    async def chat(asked: schema.ChatRequest, request: Request) -> Any:
        """Generate the next turn of a chat; docs/server.md says how the messages become a prompt."""
        check_model(asked.model)
        given = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
        count = min(CHAT_TOKENS, service.limits.tokens) if given is None else given

        def want(open_turn: bool) -> GenerationRequest:
            turns = [message.turn for message in asked.messages]
            text = chat_prompt(turns, schema.ROLES["assistant"], open_turn=open_turn)
            return generation(asked, count, lambda: encode(service.tokenizer, text), TURN_END)

        def part(text: str, reason: str | None) -> dict[str, Any]:
            delta = {"content": text} if reason is None else {}
            return {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}

        reply = await Reply.begin(service, asked.session, want)
        head = replies.head("chatcmpl", model)
        if asked.stream:
            return replies.stream(service, reply, head, "chat.completion.chunk", part, asked.stream_options)
        message = schema.ChatAnswer(content=await replies.collect(reply, request))
        return schema.ChatResponse(
            **head,
            choices=[schema.ChatChoice(message=message, finish_reason=replies.reason(reply))],
            usage=replies.usage(reply),
            ternac=replies.ran(service, reply),
        )

    return api
