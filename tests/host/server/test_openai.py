"""The server with OpenAI's own client: texts, streams, chats, stops, usage, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="openai is not installed: pip install 'ternac[test]'")

import openai

from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.sampling import Sampling
from tests.host.server.http_server import Running, running
from tests.host.server.serving import alone

PROGRAM: Program = open_program("shakespeare-small")
PROMPT = "ROMEO:"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(PROGRAM, ["auto"]) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as found:
        yield found


def text_alone(prompt: str, count: int, temperature: float = 0.0, seed: int = 1, top_k: int = 0) -> str:
    """What NumPy alone writes."""
    sampling = Sampling.from_temperature(temperature, PROGRAM.logit_scale_bits, top_k)
    return bytes(alone(PROGRAM, list(prompt.encode()), count, sampling, seed)).decode(errors="replace")


def test_models(client: Any) -> None:
    (only,) = client.models.list().data
    assert only.id == PROGRAM.name
    assert only.ternac["program_hash"] == PROGRAM.hash
    assert client.models.retrieve(PROGRAM.name).id == PROGRAM.name
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize("temperature, seed, top_k", [(0, None, 0), (0.8, 7, 0), (1.5, 3, 20), (None, 5, 0)])
def test_completion_is_numpys(client: Any, temperature: float | None, seed: int | None, top_k: int) -> None:
    """The text, usage and reason; the same from a stream, piece by piece."""
    asked: dict[str, Any] = {"model": PROGRAM.name, "prompt": PROMPT, "max_tokens": 80}
    asked |= {} if temperature is None else {"temperature": temperature}
    asked |= {} if seed is None else {"seed": seed}
    extra = {"top_k": top_k} if top_k else {}
    want = text_alone(PROMPT, 80, 1.0 if temperature is None else temperature, seed or 1, top_k)
    whole = client.completions.create(**asked, extra_body=extra)
    assert whole.choices[0].text == want
    assert whole.choices[0].finish_reason == "length"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (6, 80, 86)
    assert whole.ternac["executor"] in ("numpy", "native")
    assert whole.ternac["joules_per_token"] is None
    assert whole.ternac["joules_origin"] == "not measured"
    events = list(
        client.completions.create(
            **asked, extra_body=extra, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(event.choices[0].text for event in events if event.choices) == want
    assert events[-1].usage.completion_tokens == 80
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "length"
    assert len(events) > 3


def test_stop_sequences(client: Any) -> None:
    whole = text_alone(PROMPT, 200)
    stop = whole[60:63]
    want = whole[: whole.index(stop)]
    got = client.completions.create(
        model=PROGRAM.name, prompt=PROMPT, max_tokens=200, temperature=0, stop=["\0", stop]
    )
    assert (got.choices[0].text, got.choices[0].finish_reason) == (want, "stop")
    assert got.usage.completion_tokens == len(want) + 3
    pieces = client.completions.create(
        model=PROGRAM.name, prompt=PROMPT, max_tokens=200, temperature=0, stop=stop, stream=True
    )
    assert "".join(piece.choices[0].text for piece in pieces) == want


def test_prompts_of_every_kind(client: Any) -> None:
    want = text_alone(PROMPT, 10)
    for prompt in (PROMPT, [PROMPT], list(PROMPT.encode())):
        got = client.completions.create(model=PROGRAM.name, prompt=prompt, max_tokens=10, temperature=0)
        assert got.choices[0].text == want
    for prompt in ("", [], [300]):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model=PROGRAM.name, prompt=prompt, max_tokens=10)


def test_chat_is_written_like_a_play(client: Any) -> None:
    messages = [
        {"role": "system", "content": "You are in Verona."},
        {"role": "user", "name": "ROMEO", "content": [{"type": "text", "text": "Is it day?"}]},
    ]
    prompt = "System:\nYou are in Verona.\n\nROMEO:\nIs it day?\n\nAssistant:\n"
    texts = ((seed, text_alone(prompt, 300, 0.8, seed)) for seed in range(100))
    seed, text = next((seed, text) for seed, text in texts if "\n\n" in text)
    want = text[: text.index("\n\n")]
    got = client.chat.completions.create(
        model=PROGRAM.name, messages=messages, max_completion_tokens=300, temperature=0.8, seed=seed
    )
    assert got.choices[0].message.role == "assistant"
    assert (got.choices[0].message.content, got.choices[0].finish_reason) == (want, "stop")
    events = list(
        client.chat.completions.create(
            model=PROGRAM.name, messages=messages, max_tokens=300, temperature=0.8, seed=seed, stream=True
        )
    )
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(event.choices[0].delta.content or "" for event in events) == want
    assert events[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "param, value",
    [
        ("logprobs", 3), ("n", 2), ("best_of", 2), ("echo", True), ("suffix", "x"), ("top_p", 0.5),
        ("frequency_penalty", 1.0), ("presence_penalty", -1.0), ("logit_bias", {"5": 1.0}),
        ("temperature", -1), ("max_tokens", -1), ("max_tokens", 10**9), ("stop", ["a", "b", "c", "d", "e"]),
        ("seed", 1 << 70), ("top_k", 70_000),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(client: Any, param: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=PROGRAM.name, prompt="a", extra_body={param: value})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert param in caught.value.body["message"]


@pytest.mark.parametrize(
    "param, value",
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]), ("tool_choice", "auto"),
        ("response_format", {"type": "json_object"}), ("logprobs", True), ("modalities", ["audio"]),
    ],
)  # fmt: skip
def test_chat_refuses_by_name(client: Any, param: str, value: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=PROGRAM.name, messages=messages, extra_body={param: value})
    assert caught.value.param == param


def test_neutral_values_are_accepted(client: Any) -> None:
    """What clients send unasked changes nothing."""
    got = client.completions.create(
        model=PROGRAM.name, prompt=PROMPT, max_tokens=5, temperature=0, n=1, top_p=1, logprobs=None,
        echo=False, frequency_penalty=0, presence_penalty=0, logit_bias={}, best_of=1, user="me",
    )  # fmt: skip
    assert got.choices[0].text == text_alone(PROMPT, 5)


def test_async_client(server: Running) -> None:
    import asyncio

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="unused") as client:
            found = await asyncio.gather(
                *(
                    client.completions.create(
                        model=PROGRAM.name, prompt=PROMPT, max_tokens=40, temperature=0.9, seed=seed
                    )
                    for seed in range(10)
                )
            )
            return [answer.choices[0].text for answer in found]

    assert asyncio.run(ask()) == [text_alone(PROMPT, 40, 0.9, seed) for seed in range(10)]


def test_a_failing_stream_says_so() -> None:
    """The devices are lost in the middle of a stream, and there is no fallback: the client gets the error."""
    from tests.host.boards import small_program
    from tests.host.server.serving import Shaky, source

    program = small_program()
    with running(program, sources=[source(Shaky(program, fail_at=5))], reopen=0) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)
        stream = client.completions.create(model=program.name, prompt="abc", max_tokens=100, stream=True)
        with pytest.raises(openai.APIError, match="no device is left"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="no device is left") as caught:
            client.completions.create(model=program.name, prompt="abc", max_tokens=5)
        assert caught.value.status_code == 503
        assert caught.value.response.headers["retry-after"] == "1"
        client.close()
