"""The server and texts that end: reason, usage, streams, sessions, devices, special tokens in front."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="openai is not installed: pip install 'ternac[test]'")

import openai

from ternac.host.device import Device
from ternac.run.sampling import Sampling
from ternac.run.snapshot import Snapshot
from tests.host.boards import numpy_tokens, small_program
from tests.host.server.http_server import Running, running
from tests.host.server.serving import Shaky, source
from tests.host.server.test_http import call
from tests.host.test_ends import ending

PLAIN = small_program()
PROMPT = "Hel"
SAMPLING = Sampling.from_temperature(0.9, PLAIN.logit_scale_bits)
WHOLE = numpy_tokens(PLAIN, PROMPT.encode(), 60, SAMPLING, 5)
LAST = next(i for i in range(9, 60) if WHOLE[i] not in WHOLE[:i])
PROGRAM = ending(PLAIN, WHOLE[LAST], bos=7, add_bos=False)
TEXT = bytes(WHOLE[:LAST]).decode(errors="replace")
ASKED = {"model": PROGRAM.name, "prompt": PROMPT, "max_tokens": 60, "seed": 5, "temperature": 0.9}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """Devices that generate four tokens at a time, three texts at once: the text ends inside a slice."""
    with running(PROGRAM, sources=[source(Shaky(PROGRAM, together=3))]) as found:
        yield found


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as found:
        yield found


def ask(server: Running, method: str, path: str, body: Any = None) -> Any:
    return json.loads(call(server, method, path, body)[2])


def test_a_text_ends(client: Any) -> None:
    got = client.completions.create(**ASKED)
    assert (got.choices[0].text, got.choices[0].finish_reason) == (TEXT, "stop")
    assert got.usage.completion_tokens == LAST + 1
    events = list(client.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert "".join(event.choices[0].text for event in events if event.choices) == TEXT
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == "stop"
    assert events[-1].usage.completion_tokens == LAST + 1


def test_an_end_that_is_ignored(client: Any) -> None:
    for stream in (False, True):
        found = client.completions.create(**ASKED, stream=stream, extra_body={"ignore_eos": True})
        choices = [event.choices[0] for event in found] if stream else found.choices
        assert "".join(choice.text for choice in choices) == bytes(WHOLE).decode(errors="replace")
        assert choices[-1].finish_reason == "length"


def test_several_texts_end_each_for_itself(client: Any) -> None:
    found = client.completions.create(**{**ASKED, "n": 6})
    for k, choice in enumerate(found.choices):
        whole = numpy_tokens(PLAIN, PROMPT.encode(), 60, SAMPLING, 5 + k)
        ends = [i for i, token in enumerate(whole) if token in PROGRAM.special.eos]
        assert choice.text == bytes(whole[: ends[0] if ends else 60]).decode(errors="replace")
        assert choice.finish_reason == ("stop" if ends else "length")


def test_a_stop_before_the_end_and_an_end_before_a_stop(client: Any) -> None:
    stop = TEXT[4:6]
    got = client.completions.create(**ASKED, stop=stop).choices[0]
    assert (got.text, got.finish_reason) == (TEXT[: TEXT.index(stop)], "stop")
    held = TEXT[-1] + "never"  # its beginning is held back, and shown when the text ends
    got = client.completions.create(**ASKED, stop=held).choices[0]
    assert (got.text, got.finish_reason) == (TEXT, "stop")


def test_the_end_is_scored_like_every_token(client: Any) -> None:
    got = client.completions.create(**ASKED, logprobs=1).choices[0]
    assert (got.text, got.finish_reason) == (TEXT, "stop")
    assert len(got.logprobs.tokens) == LAST + 1
    events = [event.choices[0] for event in client.completions.create(**ASKED, logprobs=1, stream=True)]
    assert sum(len(event.logprobs.tokens) for event in events if event.logprobs) == LAST + 1
    assert "".join(event.text for event in events) == TEXT


@pytest.mark.parametrize("logprobs", [None, 0])
def test_a_session_stands_behind_the_end(server: Running, logprobs: int | None) -> None:
    """As `Session` leaves it: the end is chosen and not fed; and it goes on from there."""
    assert call(server, "PUT", "/v1/sessions/a", b"")[0] in (201, 204)
    body = {**ASKED, "session": "a", "logprobs": logprobs}
    assert ask(server, "POST", "/v1/completions", body)["choices"][0]["text"] == TEXT
    kept = call(server, "GET", "/v1/sessions/a")[2]
    with Device.open("numpy", PROGRAM) as device, device.session(5) as session:
        assert len(list(session.tokens(PROMPT.encode(), 60, SAMPLING))) == LAST + 1
        assert session.snapshot() == kept
        assert Snapshot.from_bytes(kept, PROGRAM).pending == WHOLE[LAST]
        want = bytes(t for t in session.tokens(b"xy", 5, SAMPLING) if t not in PROGRAM.special.eos)
    rest = {**ASKED, "session": "a", "prompt": "xy", "max_tokens": 5}
    del rest["seed"]
    got = ask(server, "POST", "/v1/completions", rest)["choices"][0]["text"]
    assert got == want.decode(errors="replace")


def test_the_end_closes_a_turn_of_a_chat(server: Running) -> None:
    """Then the next message needs no empty line before it; a turn that was cut needs one."""
    prompt = b"User:\nhi\n\nAssistant:\n"
    whole = numpy_tokens(PLAIN, prompt, 60, Sampling(), 1)
    last = next(i for i in range(5, 60) if whole[i] not in whole[:i])
    program = ending(PLAIN, whole[last])
    body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0, "session": "c"}
    with running(program, sources=[source(Shaky(program))]) as found:
        for count, reason, open_turn in ((60, "stop", "0"), (last, "length", "1")):
            call(found, "PUT", "/v1/sessions/c", b"")
            choice = ask(found, "POST", "/v1/chat/completions", {**body, "max_tokens": count})["choices"][0]
            assert choice["finish_reason"] == reason
            assert choice["message"]["content"] == bytes(whole[:last]).decode(errors="replace")
            headers = call(found, "GET", "/v1/sessions/c")[1]
            assert {k.lower(): v for k, v in headers.items()}["ternac-open-turn"] == open_turn


def test_what_the_tokenizer_is(server: Running) -> None:
    found = ask(server, "GET", "/tokenizer_info")
    assert (found["bos_token_id"], found["eos_token_id"]) == (7, [WHOLE[LAST]])
    assert (found["bos_token"], found["add_bos_token"]) == ("\a", False)
    assert ask(server, "GET", "/v1/models")["data"][0]["ternac"]["special_tokens"] == {
        "add_bos": False, "bos": 7, "eos": [WHOLE[LAST]]
    }  # fmt: skip


def test_a_text_gets_its_token_in_front_once_and_tokens_none() -> None:
    program = ending(PLAIN, bos=7, add_bos=True)
    body = {"max_tokens": 6, "temperature": 0}

    def text(prompt: list[int]) -> str:
        return bytes(numpy_tokens(PLAIN, prompt, 6, Sampling(), 1)).decode(errors="replace")

    with running(program) as server:

        def said(**more: Any) -> Any:
            return ask(server, "POST", "/v1/completions", {**body, **more})["choices"][0]["text"]

        assert said(prompt="ab") == said(prompt="\aab") == text([7, 97, 98])
        assert said(prompt=[97, 98]) == text([97, 98])
        assert said(prompt="") == text([7])
        call(server, "PUT", "/v1/sessions/a", b"")
        first = said(prompt="ab", session="a")
        assert first == text([7, 97, 98])
        fed = [7, 97, 98, *numpy_tokens(PLAIN, [7, 97, 98], 6, Sampling(), 1)]
        assert said(prompt="cd", session="a") == text([*fed, 99, 100])
        whole = ask(server, "POST", "/v1/completions", {**body, "prompt": "ab"})
        assert whole["usage"]["prompt_tokens"] == 3
        for given, tokens in ((None, [7, 97]), (True, [7, 97]), (False, [97])):
            asked = {"prompt": "a", "add_special_tokens": given}
            assert ask(server, "POST", "/tokenize", asked)["tokens"] == tokens
