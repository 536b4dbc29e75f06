"""The routes of OpenAI's API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import APIRouter, Request

from ternac.errors import UsageError
from ternac.host.server import replies, schema, scores
from ternac.host.server.access import client_of
from ternac.host.server.problems import RESPONSES, BadParameter, UnknownModel
from ternac.host.server.scores import CompletionScores, Scored
from ternac.host.server.service import GenerationRequest, Place, Reply, Service
from ternac.host.server.texts import TURN_END, chat_prompt
from ternac.program.loops import check_loops
from ternac.program.summary import loop_summary, memory_summary
from ternac.run.sampling import Reshape, Sampling
from ternac.text.tokenizer import encode_prompt

COMPLETION_TOKENS = 16
"""Default of OpenAI's completions."""
CHAT_TOKENS = 256
DIGITS = 8
"""More than a token id has."""
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
            "special_tokens": service.program.special.meta.get("special_tokens"),
            "state_bytes": 2 * service.program.state_words,
            "memories": memory_summary(service.program),
            "loops": loop_summary(service.program),
            "max_tokens": service.limits.tokens,
            "max_prompt_tokens": service.limits.prompt,
        }
        return schema.ModelCard(id=model, created=service.created, ternac=about)

    def encode(text: str, begins: bool) -> list[int]:
        return encode_prompt(service.program, service.tokenizer, text, begins=begins)

    def check_model(name: str | None) -> None:
        if name not in (None, model):
            raise UnknownModel(f"this server has no model {name!r}", f"it serves {model!r}")

    def generation(
        asked: schema.Asked,
        count: int,
        prompt: Sequence[int],
        seed: int | None,
        logprobs: int | None,
        closes: str = "",
    ) -> GenerationRequest:
        """Return the generation that a request asks for."""
        limits = service.limits
        if count > limits.tokens:
            raise BadParameter(
                "max_tokens", f"max_tokens is {count}, this server generates at most {limits.tokens}"
            )
        if len(prompt) > limits.prompt:
            text = f"the prompt has {len(prompt)} tokens, this server takes at most {limits.prompt}"
            raise BadParameter("messages" if closes else "prompt", text)
        scale = service.program.logit_scale_bits
        temperature = 1.0 if asked.temperature is None else asked.temperature
        temperature = max(temperature, LEAST_TEMPERATURE) if temperature else 0.0
        reshape = Reshape.from_real(
            scale,
            bias=biases(asked.logit_bias or {}),
            presence=asked.presence_penalty or 0.0,
            frequency=asked.frequency_penalty or 0.0,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            min_p=asked.min_p or 0.0,
        )
        sampling = Sampling.from_temperature(temperature, scale, asked.top_k or 0)
        stops = [*asked.stops, *([closes] if closes else [])]
        ends = () if asked.ignore_eos else service.program.special.eos
        try:
            check_loops(service.program, asked.loops)
        except UsageError as error:
            raise BadParameter("loops", str(error), error.hint) from None
        return GenerationRequest(
            prompt,
            count,
            sampling,
            seed,
            stops,
            closes,
            reshape,
            logprobs,
            ends=ends,
            loops=asked.loops,
        )

    def biases(given: dict[str, float]) -> dict[int, float]:
        vocab = service.program.vocab
        for key in given:
            if not (key.isascii() and key.isdigit() and len(key) <= DIGITS and int(key) < vocab):
                text = f"logit_bias: {key[:DIGITS]!r} is no token id, which are 0 to {vocab - 1}"
                raise BadParameter("logit_bias", text)
        return {int(key): value for key, value in given.items()}

    async def begin(
        asked: schema.Asked,
        n: int,
        wants: Sequence[Callable[[Place, int | None], GenerationRequest]],
        client: str,
    ) -> list[Reply]:
        """Begin ``n`` texts of each of ``wants``, text k from the seed plus k; none if one is refused."""
        choices = len(wants) * n
        if asked.session is not None and choices > 1:
            raise BadParameter("session", f"a session continues as one text, not as {choices}")
        if choices > service.limits.client_places:
            param = "n" if n > 1 else "prompt"
            text = f"{choices} texts in one request, this server takes at most {service.limits.client_places}"
            raise BadParameter(param, text)
        begun: list[Reply] = []
        try:
            for want in wants:
                for k in range(n):
                    seed = None if asked.seed is None else asked.seed + k
                    made = partial(_seeded, want, seed)
                    begun.append(await Reply.begin(service, asked.session, made, client))
        except BaseException:
            for reply in begun:
                reply.cancel()
            raise
        return begun

    def logprobs_wanted(asked: schema.CompletionRequest | schema.ChatRequest) -> int | None:
        if isinstance(asked, schema.CompletionRequest):
            wanted = asked.logprobs
        else:
            wanted = (asked.top_logprobs or 0) if asked.logprobs else None
            if asked.top_logprobs and not asked.logprobs:
                raise BadParameter("top_logprobs", "top_logprobs needs logprobs to be true")
        return wanted

    @api.post("/completions", response_model=schema.CompletionResponse, responses=STREAM)
    async def completions(asked: schema.CompletionRequest, request: Request) -> Any:
        """Continue one or several texts."""
        check_model(asked.model)
        count = COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        n, logprobs = asked.n or 1, logprobs_wanted(asked)
        if asked.best_of not in (None, n):
            raise BadParameter("best_of", f"best_of is {asked.best_of}, can only be n, which is {n}")

        def want(prompt: str | list[int], place: Place, seed: int | None) -> GenerationRequest:
            tokens = encode(prompt, place.begins) if isinstance(prompt, str) else prompt
            found = generation(asked, count, tokens, seed, logprobs)
            return replace(found, score_prompt=bool(asked.echo) and logprobs is not None)

        def part(
            index: int, text: str, reason: str | None, found: Sequence[Scored] | None = None
        ) -> dict[str, Any]:
            said = None if found is None else scored[index](found)
            return {"index": index, "text": text, "finish_reason": reason, "logprobs": said}

        wants = [partial(want, prompt) for prompt in asked.prompts]
        begun = await begin(asked, n, wants, client_of(request))
        scored = [CompletionScores(service.tokenizer, logprobs or 0) for _ in begun]
        echo = [
            prompt if isinstance(prompt, str) else service.tokenizer.decode(prompt)
            for prompt in asked.prompts
            for _ in range(n)
        ]
        head = replies.head("cmpl", model)
        if asked.stream:
            said = echo if asked.echo else ()
            options = asked.stream_options
            return replies.stream(service, begun, n, head, "text_completion", part, options, said)
        texts = await replies.collect(begun, request)
        choices = [
            schema.CompletionChoice(
                index=index,
                text=(echo[index] if asked.echo else "") + text,
                finish_reason=replies.reason(reply),
                logprobs=None if logprobs is None else scored[index](reply.job.scores),
            )
            for index, (reply, text) in enumerate(zip(begun, texts, strict=True))
        ]
        return schema.CompletionResponse(
            **head, choices=choices, usage=replies.usage(begun, n), ternac=replies.ran(service, begun[0])
        )

    @api.post("/chat/completions", response_model=schema.ChatResponse, responses=STREAM)
    async def chat(asked: schema.ChatRequest, request: Request) -> Any:
        """Generate the next turn of a chat; docs/server.md says how the messages become a prompt."""
        check_model(asked.model)
        given = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
        count = min(CHAT_TOKENS, service.limits.tokens) if given is None else given
        n, logprobs = asked.n or 1, logprobs_wanted(asked)

        def want(place: Place, seed: int | None) -> GenerationRequest:
            turns = [message.turn for message in asked.messages]
            text = chat_prompt(turns, schema.ROLES["assistant"], open_turn=place.open_turn)
            return generation(asked, count, encode(text, place.begins), seed, logprobs, TURN_END)

        def part(
            index: int, text: str, reason: str | None, found: Sequence[Scored] | None = None
        ) -> dict[str, Any]:
            delta = {"content": text} if reason is None else {}
            said = None if found is None else scores.of_chat(service.tokenizer, found)
            return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": said}

        begun = await begin(asked, n, [want], client_of(request))
        head = replies.head("chatcmpl", model)
        if asked.stream:
            options = asked.stream_options
            return replies.stream(service, begun, n, head, "chat.completion.chunk", part, options)
        texts = await replies.collect(begun, request)
        choices = [
            schema.ChatChoice(
                index=index,
                message=schema.ChatAnswer(content=text),
                finish_reason=replies.reason(reply),
                logprobs=None if logprobs is None else scores.of_chat(service.tokenizer, reply.job.scores),
            )
            for index, (reply, text) in enumerate(zip(begun, texts, strict=True))
        ]
        return schema.ChatResponse(
            **head, choices=choices, usage=replies.usage(begun, n), ternac=replies.ran(service, begun[0])
        )

    return api


def tokenizer_routes(service: Service) -> APIRouter:
    """Routes that turn text into tokens and back, as other servers of language models have them."""
    api = APIRouter(responses=RESPONSES)

    @api.post("/tokenize")
    async def tokenize(asked: schema.TokenizeRequest) -> schema.TokenizeResponse:
        """Return the tokens of a text."""
        begins = asked.add_special_tokens is not False
        tokens = encode_prompt(service.program, service.tokenizer, asked.prompt, begins=begins)
        return schema.TokenizeResponse(tokens=tokens, count=len(tokens))

    @api.post("/detokenize")
    async def detokenize(asked: schema.DetokenizeRequest) -> schema.DetokenizeResponse:
        """Return the text of tokens."""
        vocab = service.program.vocab
        bad = next((token for token in asked.tokens if token >= vocab), None)
        if bad is not None:
            raise BadParameter("tokens", f"token {bad} is outside 0..{vocab - 1}")
        return schema.DetokenizeResponse(prompt=service.tokenizer.decode(asked.tokens))

    @api.get("/tokenizer_info")
    async def info() -> schema.TokenizerInfo:
        """Describe the tokenizer, with the tokens that begin and end a text."""
        special, text = service.program.special, service.tokenizer.decode
        return schema.TokenizerInfo(
            name=service.tokenizer.name,
            vocab=service.program.vocab,
            bos_token=None if special.bos is None else text([special.bos]),
            eos_token=text(special.eos[:1]) if special.eos else None,
            add_bos_token=special.add_bos,
            bos_token_id=special.bos,
            eos_token_id=list(special.eos),
        )

    return api


def _seeded(
    want: Callable[[Place, int | None], GenerationRequest], seed: int | None, place: Place
) -> GenerationRequest:
    return want(place, seed)
