"""The server with OpenAI's own client: texts, streams, chats, stops, usage, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="openai is not installed: pip install 'ternac[test]'")

import numpy as np
import openai

from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import EXP, Sampling, seed_state, xorshift32
from tests.host.server.http_server import Running, running
from tests.host.server.serving import alone
from tests.host.server.test_http import call

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
        ("logprobs", 21), ("n", 65), ("n", 129), ("best_of", 2), ("suffix", "x"), ("top_p", 1.5),
        ("frequency_penalty", 2.1), ("presence_penalty", -3), ("logit_bias", {"5": 101.0}),
        ("logit_bias", {"256": 1.0}), ("logit_bias", {"a": 1.0}), ("min_p", -0.1),
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
        ("response_format", {"type": "json_object"}), ("top_logprobs", 3), ("modalities", ["audio"]),
        ("functions", [{"name": "f"}]), ("n", 0),
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


def test_a_chat_loop_sends_back_what_it_got(client: Any) -> None:
    """As every client writes it: the message of the first answer is the second request's."""
    messages: list[Any] = [{"role": "user", "content": "one"}]
    for said in ("two", "three"):
        asked = {"model": PROGRAM.name, "messages": messages, "temperature": 0, "max_tokens": 10}
        answer = client.chat.completions.create(**asked).choices[0].message
        messages.append(answer)
        messages.append({"role": "user", "content": said})
    words = ["one", messages[1].content, "two", messages[3].content, "three"]
    speakers = ["User", "Assistant"] * 3
    prompt = "".join(f"{who}:\n{word.strip()}\n\n" for who, word in zip(speakers, words, strict=False))
    got = client.chat.completions.create(model=PROGRAM.name, messages=messages, temperature=0, max_tokens=10)
    want = text_alone(prompt + "Assistant:\n", 10)
    assert got.choices[0].message.content == want.partition("\n\n")[0]
    dumped = [one if isinstance(one, dict) else one.model_dump() for one in messages]
    client.chat.completions.create(model=PROGRAM.name, messages=dumped, max_tokens=1)


@pytest.mark.parametrize("value", [None, [], {}, ""])
def test_what_asks_for_nothing_passes(client: Any, value: Any) -> None:
    """Fields of OpenAI's API that this server has not, with each neutral value."""
    fields = ["tools", "tool_choice", "functions", "function_call", "audio", "prediction", "reasoning_effort",
              "response_format", "stop", "verbosity", "web_search_options", "modalities"]  # fmt: skip
    own = ["refusal", "annotations", "audio", "function_call", "tool_calls"]
    message = {"role": "user", "content": "hi"} | dict.fromkeys(own, value)
    asked = {"model": PROGRAM.name, "max_tokens": 3, "temperature": 0}
    nothing = {"role": "assistant", "content": value}
    got = client.chat.completions.create(
        messages=[message, nothing], extra_body=dict.fromkeys(fields, value), **asked
    )
    assert got.choices[0].message.content == text_alone("User:\nhi\n\nAssistant:\n\n\nAssistant:\n", 3)
    client.completions.create(prompt="a", extra_body={"suffix": value, "stop": value}, **asked)


@pytest.mark.parametrize(
    "body, message",
    [
        ({"stop": list("abcde")}, "stop needs a text of 1 to 256 characters, or a list of up to 4"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         "messages.0.content: parts of type 'image_url' are not supported: the model reads text only"),
        ({"messages": [{"role": "user", "content": 5}]},
         'messages.0.content needs a text, or a list of parts {"type": "text", "text": ...}, not 5'),
        ({"messages": [{"role": "tool", "content": "x"}]},
         "messages.0.role can only be 'system', 'developer', 'user' or 'assistant', not 'tool'"),
        ({"messages": []}, "messages needs at least 1 of them, has 0"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}]},
         "messages.0.tool_calls is not supported by this server"),
        ({"messages": [{"role": "user", "content": "x", "colour": 1}]},
         "messages.0.colour is not supported by this server"),
        ({"colour": 1}, "colour is not supported by this server"),
        ({"path": 1}, "path is not supported by this server"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias: '99999999' is no token id, which are 0 to 255"),
        ({"logit_bias": {"9": 101}}, "logit_bias needs at most 100, not 101"),
        ({"temperature": "hot"}, "temperature needs a number, not 'hot'"),
        ({"temperature": 101}, "temperature needs at most 100, not 101"),
        ({"n": 1.5}, "n needs a whole number, not 1.5"),
        ({"stream": "yes"}, "stream needs true or false, not 'yes'"),
        ({"response_format": {"type": "json_object"}},
         'response_format can only be {"type": "text"}, not \'json_object\''),
        ({"tools": [{"type": "function"}]}, "tools is not supported by this server"),
    ],
)  # fmt: skip
def test_messages_name_the_cause(client: Any, body: dict[str, Any], message: str) -> None:
    asked = {"model": PROGRAM.name, "messages": [{"role": "user", "content": "x"}]} | body
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, body=asked)
    assert caught.value.body["message"] == message
    assert caught.value.param == next(iter(body))


def test_several_prompts_and_several_texts(client: Any) -> None:
    """Each is what it would be alone: text k of a prompt has the seed plus k."""
    prompts = ["ROMEO:", "JULIET:"]
    asked = {"model": PROGRAM.name, "max_tokens": 12, "seed": 5, "n": 3}
    want = [text_alone(prompt, 12, 1.0, 5 + k) for prompt in prompts for k in range(3)]
    for given in (prompts, [list(prompt.encode()) for prompt in prompts]):
        got = client.completions.create(prompt=given, **asked)
        assert [choice.index for choice in got.choices] == list(range(6))
        assert [choice.text for choice in got.choices] == want
        assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (6 + 7, 6 * 12)
    texts, reasons = [""] * 6, [None] * 6
    for event in client.completions.create(prompt=prompts, stream=True, echo=True, **asked):
        for choice in event.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [prompts[i // 3] + text for i, text in enumerate(want)]
    assert reasons == ["length"] * 6
    chat = client.chat.completions.create(
        model=PROGRAM.name, messages=[{"role": "user", "content": "hi"}], n=2, seed=1, max_tokens=8, stop="\0"
    )
    prompt = "User:\nhi\n\nAssistant:\n"
    want = [text_alone(prompt, 8, 1.0, seed).partition("\n\n")[0] for seed in (1, 2)]
    assert [choice.message.content for choice in chat.choices] == want


def real_logprobs(text: bytes) -> np.ndarray:
    """float64 [len(text), vocab]: the log-softmax after each token."""
    executor = NumpyExecutor(PROGRAM)
    state = executor.open()
    z = np.array([executor.step(state, [token])[0] for token in text]) * 2.0**-PROGRAM.logit_scale_bits
    z -= z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def test_log_probabilities_of_prompt_and_text(client: Any) -> None:
    asked = {"model": PROGRAM.name, "prompt": PROMPT, "temperature": 0, "logprobs": 3}
    got = client.completions.create(max_tokens=5, echo=True, **asked).choices[0]
    want = text_alone(PROMPT, 5)
    assert got.text == PROMPT + want
    found, real = got.logprobs, real_logprobs(got.text.encode())
    assert found.tokens == list(got.text)
    assert found.text_offset == list(range(11))
    assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
    for at, token in list(enumerate(got.text.encode()))[1:]:
        before = real[at - 1]
        assert found.token_logprobs[at] == pytest.approx(before[token], abs=1e-12)
        top = found.top_logprobs[at]
        likeliest = [chr(int(i)) for i in np.argsort(-before, kind="stable")[:3]]
        assert list(top) == likeliest + [t for t in (chr(token),) if t not in likeliest]
        assert at < len(PROMPT) or found.token_logprobs[at] == max(top.values())
    only = client.completions.create(max_tokens=0, echo=True, **asked).choices[0]
    assert (only.text, only.logprobs.token_logprobs) == (PROMPT, found.token_logprobs[:6])
    rest = client.completions.create(max_tokens=5, **asked).choices[0]
    assert (rest.text, rest.logprobs.token_logprobs) == (want, found.token_logprobs[6:])
    none = client.completions.create(max_tokens=5, **(asked | {"logprobs": 0})).choices[0].logprobs
    assert (none.token_logprobs, none.top_logprobs) == (found.token_logprobs[6:], None)
    chat = client.chat.completions.create(
        model=PROGRAM.name, messages=[{"role": "user", "content": "hi"}], temperature=0, max_tokens=3,
        logprobs=True, top_logprobs=2,
    ).choices[0]  # fmt: skip
    assert "".join(one.token for one in chat.logprobs.content) == chat.message.content
    assert all(one.logprob == one.top_logprobs[0].logprob for one in chat.logprobs.content)


def joined(parts: list[Any]) -> dict[str, list[Any]]:
    """The log-probabilities of a stream's events, one behind the other."""
    found = [part.model_dump() for part in parts if part is not None]
    return {key: [one for part in found for one in part[key] or ()] for key in found[0] if key != "refusal"}


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("stop", [None, "e"])
def test_log_probabilities_of_a_stream_are_those_of_the_whole_text(
    client: Any, echo: bool, stop: str | None
) -> None:
    """Event by event each token of the text so far is scored; together they are what a response has."""
    asked = {"model": PROGRAM.name, "prompt": [PROMPT, "JULIET:"], "n": 2, "seed": 4, "logprobs": 2,
             "max_tokens": 20, "echo": echo, "stop": stop}  # fmt: skip
    whole = client.completions.create(**asked).choices
    events = [event.choices[0] for event in client.completions.create(**asked, stream=True)]
    for index, choice in enumerate(whole):
        mine = [event for event in events if event.index == index]
        assert "".join(event.text for event in mine) == choice.text
        assert joined([event.logprobs for event in mine]) == choice.logprobs.model_dump()
        assert mine[-1].finish_reason == choice.finish_reason
        with_scores = [event for event in mine if event.logprobs is not None]
        assert len(with_scores) > 5 or stop
        if stop is None:
            assert all("".join(e.logprobs.tokens) == e.text for e in with_scores)
    only = {**asked, "prompt": PROMPT, "n": 1, "max_tokens": 0, "echo": True, "stop": None}
    (scored,) = [
        e.choices[0] for e in client.completions.create(**only, stream=True) if e.choices[0].logprobs
    ]
    assert scored.text == PROMPT == "".join(scored.logprobs.tokens)


def test_log_probabilities_of_a_streamed_chat(client: Any) -> None:
    asked = {"model": PROGRAM.name, "messages": [{"role": "user", "content": "hi"}], "seed": 2,
             "max_tokens": 12, "logprobs": True, "top_logprobs": 2}  # fmt: skip
    whole = client.chat.completions.create(**asked).choices[0]
    events = [event.choices[0] for event in client.chat.completions.create(**asked, stream=True)]
    assert joined([e.logprobs for e in events])["content"] == whole.logprobs.model_dump()["content"]
    assert "".join(e.delta.content or "" for e in events) == whole.message.content


def test_lm_evaluation_harness_asks_like_this(client: Any) -> None:
    """Its `local-completions`: lists of tokens, scored with echo; the last token is generated and dropped."""
    prompts = [list(b"ROMEO: the"), list(b"JULIET")]
    got = client.completions.create(
        model=PROGRAM.name, prompt=prompts, max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234
    )
    for prompt, choice in zip(prompts, sorted(got.choices, key=lambda c: c.index), strict=True):
        found = choice.logprobs.token_logprobs[1:-1]
        real = real_logprobs(bytes(prompt))
        assert found == pytest.approx([real[i][token] for i, token in enumerate(prompt[1:])], abs=1e-12)
        tops = choice.logprobs.top_logprobs[1:-1]
        greedy = all(one == max(top.values()) for one, top in zip(found, tops, strict=True))
        assert greedy == all(real[i].argmax() == token for i, token in enumerate(prompt[1:]))


@pytest.mark.parametrize(
    "asked",
    [
        {"logit_bias": {"101": 2.5, "10": -100}},
        {"presence_penalty": 1.5, "frequency_penalty": 0.3},
        {"top_p": 0.6}, {"min_p": 0.2}, {"top_p": 0.9, "min_p": 0.05, "logit_bias": {"32": -3}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_reshaped_draws_follow_the_rule(client: Any, asked: dict[str, Any], temperature: float) -> None:
    """The rule of docs/numerics.md, written again with Python's integers."""
    got = client.completions.create(
        model=PROGRAM.name, prompt=PROMPT, max_tokens=30, temperature=temperature, seed=3,
        extra_body={"top_k": 40} | asked,
    )  # fmt: skip
    assert got.choices[0].text.encode() == rule(PROMPT.encode(), 30, temperature, 3, 40, **asked)


def rule(prompt: bytes, count: int, temperature: float, seed: int, top_k: int, **asked: Any) -> bytes:
    unit = 2**PROGRAM.logit_scale_bits
    bias = {int(k): round(v * unit) for k, v in asked.get("logit_bias", {}).items()}
    presence, frequency = (round(asked.get(f"{n}_penalty", 0) * unit) for n in ("presence", "frequency"))
    sampling = Sampling.from_temperature(temperature, PROGRAM.logit_scale_bits, top_k)
    executor, rng, made = NumpyExecutor(PROGRAM), seed_state(seed), b""
    state = executor.open()
    for token in prompt[:-1]:
        executor.step(state, [token])
    for _ in range(count):
        logits = executor.step(state, [(prompt + made)[-1]])[0].tolist()
        z = [
            v + bias.get(i, 0) - made.count(bytes((i,))) * frequency - (i in made) * presence
            for i, v in enumerate(logits)
        ]
        order = sorted(range(len(z)), key=lambda i: (-z[i], i))
        if sampling.greedy:
            made += bytes(order[:1])
            continue
        weight = {i: int(EXP[min(255, ((max(z) - z[i]) * sampling.m) >> sampling.s)]) for i in order[:top_k]}
        total, sums, kept = sum(weight.values()), 0, {}
        for i, w in weight.items():
            if not kept or sums * 65536 < round(asked.get("top_p", 1) * 65536) * total:
                kept[i] = w
                sums += w
        least = round(asked.get("min_p", 0) * 65536) * 65535
        kept = {i: w for i, w in kept.items() if w * 65536 >= least}
        rng = xorshift32(rng)
        r = (rng * sum(kept.values())) >> 32
        for i in sorted(kept):
            r -= kept[i]
            if r < 0:
                made += bytes((i,))
                break
    return made


def test_tokens_of_a_text_and_back(server: Running) -> None:
    def ask(method: str, path: str, body: Any = None) -> Any:
        return json.loads(call(server, method, path, body)[2])

    got = ask("POST", "/tokenize", {"prompt": PROMPT, "add_special_tokens": False})
    assert got == {"tokens": list(PROMPT.encode()), "count": 6}
    assert ask("POST", "/detokenize", {"tokens": got["tokens"]}) == {"prompt": PROMPT}
    assert ask("GET", "/tokenizer_info")["eos_token"] is None
    assert ask("POST", "/detokenize", {"tokens": [256]})["error"]["param"] == "tokens"


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
