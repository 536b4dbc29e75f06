"""``ternac serve`` as a process, and OpenAI's client in a chat loop: what people run, up to Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="openai is not installed: pip install 'ternac[test]'")
pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'ternac[serve]'")

import openai

from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.sampling import Sampling
from tests.host.server.serving import alone
from tests.repository.pages import ROOT, steps

SMALL = open_program("shakespeare-small")
TOKEN = "a token of the tests, long".replace(" ", "-")
QUEUE = 4
BODY = 5_000


@contextmanager
def served(*words: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a server in a process of its own, which Ctrl-C ends with status 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "ternac.cli", "serve", *words, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            told = ""
            while not (found := re.search(r"http://127.0.0.1:\d+", told)):
                line = process.stdout.readline()
                assert line, told
                told += line
            yield found[0], process
        finally:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, out
        assert "Traceback" not in out


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    words = ["--max-queue", str(QUEUE), "--max-tokens", "20000", "--max-body", str(BODY)]
    with served("shakespeare-small", *words, TERNAC_SERVE_TOKEN=TOKEN) as (found, _):
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, max_retries=0) as found:
        yield found


def answer_alone(
    program: Program, said: list[str], count: int, temperature: float, seed: int
) -> tuple[str, str]:
    """What NumPy alone answers to the turns of both, and why it ends: the play of docs/server.md."""
    turns = zip(("User", "Assistant") * len(said), said, strict=False)
    prompt = "".join(f"{who}:\n{words.strip()}\n\n" for who, words in turns) + "Assistant:\n"
    sampling = Sampling.from_temperature(temperature, program.logit_scale_bits, 0)
    text = bytes(alone(program, list(prompt.encode()), count, sampling, seed)).decode(errors="replace")
    answer, end, _ = text.partition("\n\n")
    return answer, "stop" if end else "length"


def metric(url: str, name: str) -> float:
    """The value of one line of /metrics; 0 where it is not there yet."""
    request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        found = re.search(rf"^{re.escape(name)} (\S+)$", reply.read().decode(), re.M)
    return float(found[1]) if found else 0.0


def wait_for(url: str, name: str, value: float) -> None:
    until = time.monotonic() + 60
    while metric(url, name) != value:
        assert time.monotonic() < until, f"{name} is {metric(url, name)}, not {value}"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
def test_a_dialogue_of_several_turns_is_numpys(client: Any, stream: bool) -> None:
    messages: list[Any] = []
    said: list[str] = []
    reasons = set()
    for turn, line in enumerate(("Where is thy lady?", "And who art thou?", "Farewell.", "Good night.")):
        asked = {"model": SMALL.name, "max_tokens": 60, "temperature": 0.8, "seed": 10 + turn}
        messages.append({"role": "user", "content": line})
        got = client.chat.completions.create(messages=messages, stream=stream, **asked)
        if stream:
            events = list(got)
            answer = "".join(event.choices[0].delta.content or "" for event in events)
            reason = events[-1].choices[0].finish_reason
            messages.append({"role": "assistant", "content": answer})
        else:
            answer, reason = got.choices[0].message.content, got.choices[0].finish_reason
            messages.append(got.choices[0].message)
        said.append(line)
        assert (answer, reason) == answer_alone(SMALL, said, 60, 0.8, 10 + turn)
        said.append(answer)
        reasons.add(reason)
    assert reasons == {"stop", "length"}


def test_stop_seed_and_length(client: Any) -> None:
    asked: dict[str, Any] = {"model": SMALL.name, "messages": [{"role": "user", "content": "Speak."}]}

    def ask(**more: Any) -> tuple[str, str]:
        choice = client.chat.completions.create(**asked, **more).choices[0]
        return choice.message.content, choice.finish_reason

    first = ask(seed=3, max_tokens=40)
    assert first == ask(seed=3, max_tokens=40) == answer_alone(SMALL, ["Speak."], 40, 1.0, 3)
    assert first != ask(seed=4, max_tokens=40)
    whole, _ = ask(seed=3, max_tokens=12)
    assert whole == first[0][:12]
    stop = first[0][5:8]
    assert ask(seed=3, max_tokens=40, stop=stop) == (first[0][: first[0].index(stop)], "stop")


def test_errors_are_openais_exceptions(client: Any, url: str) -> None:
    asked: dict[str, Any] = {"model": SMALL.name, "messages": [{"role": "user", "content": "x"}]}
    create = client.chat.completions.create
    with pytest.raises(openai.BadRequestError, match="temperature") as bad:
        create(**asked, temperature=-1)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        create(**(asked | {"model": "gpt-4"}))
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    with pytest.raises(openai.APIStatusError) as large:
        create(model=SMALL.name, messages=[{"role": "user", "content": "x" * BODY}])
    assert large.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        create(**asked, max_tokens=20_001)


def test_a_cancelled_stream_ends_at_once_and_frees_its_place(client: Any, url: str) -> None:
    """As many long answers as the queue takes; one more is refused; all are left in the middle."""
    cancelled = 'ternac_texts_total{end="Cancelled"}'
    before = metric(url, cancelled)
    asked: dict[str, Any] = {"model": SMALL.name, "max_tokens": 20_000, "prompt": "ROMEO:", "seed": 1}
    streams = [client.completions.create(**asked, stream=True) for _ in range(QUEUE)]
    assert all(next(iter(stream)).choices[0].text for stream in streams)
    with pytest.raises(openai.RateLimitError) as refused:
        client.completions.create(**(asked | {"max_tokens": 1}))
    assert int(refused.value.response.headers["Retry-After"]) > 0
    for stream in streams:
        stream.close()
    wait_for(url, cancelled, before + QUEUE)
    wait_for(url, "ternac_running", 0)
    got = client.completions.create(**(asked | {"max_tokens": 5}))
    assert got.usage.completion_tokens == 5


def test_a_server_that_is_gone_is_a_connection_error() -> None:
    with served("shakespeare-small") as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
        assert [model.id for model in client.models.list()] == [SMALL.name]
    with client, pytest.raises(openai.APIConnectionError):
        client.models.list()


def test_the_snippets_of_the_page_are_numpys(tmp_path: Path) -> None:
    """The page's own lines, on the server that they are for; only the port is another."""
    snippets = [step.text for step in steps(ROOT / "docs" / "server.md") if step.python]
    text = "\n".join(snippet for snippet in snippets if "client" in snippet)
    assert text.count("stream=True") == 2
    lines = re.search(r"for line in (\(.*?\)):", text)
    assert lines
    with served("shakespeare") as (url, _):
        (tmp_path / "page.py").write_text(text.replace("http://127.0.0.1:8000", url))
        done = subprocess.run(
            [sys.executable, "-W", "error", "page.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    program = open_program("shakespeare")
    sampling = Sampling.from_temperature(1.0, program.logit_scale_bits, 0)
    want = bytes(alone(program, list(b"ROMEO:"), 200, sampling, 1)).decode(errors="replace")
    said: list[str] = []
    for line in re.findall(r'"([^"]+)"', lines[1]):
        said.append(line)
        said.append(answer_alone(program, said, 80, 0.8, 1)[0])
        want += f"{line}\n-- {said[-1]}\n"
    assert done.stdout == want
