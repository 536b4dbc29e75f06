"""The server and loops: each request has its own, beside those of others, in sessions, and after a loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from ternac.host.device import Device
from ternac.host.executors import open_executor, why_missing
from ternac.host.local import LocalBackend
from ternac.host.server.scheduler import Scheduler
from ternac.host.server.worker import Source
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling
from tests.host.boards import small_program
from tests.host.server.http_server import Running, running
from tests.host.server.serving import Shaky, Watched, source
from tests.host.server.test_http import call, error_of
from tests.program.memory_toy import text_loop_program

PROGRAM = replace(text_loop_program(), meta={"tokenizer": "bytes"})
DRAW = Sampling(False, 200, 4, 50)
PROMPT = list(b"Hello")
ASKED = (None, 1, 2, 3, 4)


def alone(prompt: list[int], count: int, loops: int | None, seed: int = 1) -> list[int]:
    """What a session of NumPy gives that asks for ``loops``."""
    with Device.open("numpy", PROGRAM) as device, device.session(seed) as session:
        return list(session.tokens(prompt, count, DRAW, loops=loops))


@pytest.fixture
def make() -> Iterator[Callable[..., Scheduler]]:
    made: list[Scheduler] = []

    def scheduler(*sources: Source) -> Scheduler:
        made.append(Scheduler(sources))
        return made[-1]

    yield scheduler
    for one in made:
        one.close()


class Native(LocalBackend):
    """The fast executor, which counts what it runs together."""

    def __init__(self) -> None:
        super().__init__(open_executor("native" if not why_missing("native") else "numpy", PROGRAM))
        self.chunk = 3
        self.groups: list[int] = []

    def run_together(self, sessions: Any, runs: Any) -> Any:
        self.groups.append(len(runs))
        return super().run_together(sessions, runs)


def test_jobs_with_different_loops_run_beside_each_other(make: Callable[..., Scheduler]) -> None:
    """With equal sampling: what differs is the loops. Those that agree run together where a device can."""
    backend = Native()
    scheduler = make(Source("native", lambda: backend))
    jobs = [Watched(PROGRAM, [*PROMPT, k], 40, DRAW, k, loops=ASKED[k % 5]) for k in range(15)]
    for job in jobs:
        scheduler.submit(job.job)
    for k, job in enumerate(jobs):
        job.wait()
        assert job.tokens == alone([*PROMPT, k], 40, ASKED[k % 5], k)
    assert backend.together == 1 or backend.groups


@pytest.mark.parametrize("after", [False, True], ids=["not executed", "executed"])
def test_a_job_keeps_its_loops_when_its_device_is_lost(make: Callable[..., Scheduler], after: bool) -> None:
    for fail_at in range(1, 9):
        shaky = Shaky(PROGRAM, fail_at, together=2, after=after)
        spare = Source("spare", lambda: LocalBackend(NumpyExecutor(PROGRAM)), fallback=True)
        scheduler = make(source(shaky), spare)
        jobs = [Watched(PROGRAM, PROMPT, 9, DRAW, k, loops=loops) for k, loops in enumerate((3, 4))]
        for job in jobs:
            scheduler.submit(job.job)
        for k, (job, loops) in enumerate(zip(jobs, (3, 4), strict=True)):
            job.wait()
            assert job.tokens == alone(PROMPT, 9, loops, k)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(PROGRAM, ["auto"]) as found:
        yield found


def ask(server: Running, path: str, **body: Any) -> dict[str, Any]:
    status, _, data = call(server, "POST", path, {"temperature": 0, **body})
    assert status == 200, data
    found: dict[str, Any] = json.loads(data)
    return found


def complete(server: Running, **body: Any) -> dict[str, Any]:
    return ask(server, "/v1/completions", **body)


def greedy(prompt: bytes, count: int, *loops: int | None) -> str:
    """The text of a session of NumPy whose last request asks for the last of ``loops``, each for its own."""
    with Device.open("numpy", PROGRAM) as device, device.session() as session:
        for asked in loops:
            text = bytes(session.tokens(prompt, count, loops=asked)).decode(errors="replace")
    return text


def test_a_completion_asks_for_loops(server: Running) -> None:
    texts = set()
    for loops in ASKED:
        got = complete(server, prompt="Hello", max_tokens=9, loops=loops)
        assert got["choices"][0]["text"] == greedy(b"Hello", 9, loops)
        assert got["ternac"]["loops"] == loops
        texts.add(got["choices"][0]["text"])
    assert len(texts) == 4


def test_scores_are_those_of_the_loops(server: Running) -> None:
    """Prompt and text are scored, and chosen, on the host, token by token."""
    found = [
        complete(server, prompt="Hello", max_tokens=9, loops=loops, logprobs=1, echo=True)["choices"][0]
        for loops in (2, 4)
    ]
    for loops, choice in zip((2, 4), found, strict=True):
        assert choice["text"] == "Hello" + greedy(b"Hello", 9, loops)
    scores = [choice["logprobs"]["token_logprobs"][1:5] for choice in found]
    assert scores[0] != scores[1]


def test_a_chat_asks_for_loops(server: Running) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9}
    prompt = b"User:\nHello\n\nAssistant:\n"
    answers = [ask(server, "/v1/chat/completions", loops=loops, **body) for loops in (1, 4)]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [greedy(prompt, 9, loops) for loops in (1, 4)]
    assert texts[0] != texts[1]


def test_a_session_asks_anew_each_time(server: Running) -> None:
    assert call(server, "PUT", "/v1/sessions/asks", b"")[0] == 201
    for loops in ((3,), (3, None), (3, None, 4)):
        got = complete(server, prompt="Hello", max_tokens=5, loops=loops[-1], session="asks")
        assert got["choices"][0]["text"] == greedy(b"Hello", 5, *loops)


def test_a_stream_says_its_loops(server: Running) -> None:
    body = {"prompt": "Hello", "max_tokens": 5, "temperature": 0, "stream": True, "loops": 4}
    _, _, data = call(server, "POST", "/v1/completions", body)
    events = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line.startswith("data: {")]
    assert {event["ternac"]["loops"] for event in events} == {4}
    assert "".join(event["choices"][0]["text"] for event in events) == greedy(b"Hello", 5, 4)


def test_the_model_says_its_memories_and_loops(server: Running) -> None:
    about = json.loads(call(server, "GET", "/v1/models")[2])["data"][0]["ternac"]
    assert about["memories"]["M"]["bytes"] == 128
    assert [(loop["times"], loop["most"]) for loop in about["loops"]] == [(2, 4)]


@pytest.mark.parametrize("loops", [0, -1, 256, 2.0, "2", True])
def test_no_number_of_loops_is_refused(server: Running, loops: Any) -> None:
    status, _, data = call(server, "POST", "/v1/completions", {"prompt": "a", "loops": loops})
    assert (status, error_of(data)["param"]) == (400, "loops")


def test_loops_that_the_model_has_not_are_refused(server: Running) -> None:
    status, _, data = call(server, "POST", "/v1/completions", {"prompt": "a", "loops": 5})
    error = error_of(data)
    assert (status, error["param"]) == (400, "loops")
    assert error["message"] == "loops is 5, text-loop runs 1..4"
    with running(small_program()) as plain:
        status, _, data = call(plain, "POST", "/v1/completions", {"prompt": "a", "loops": 2})
        assert (status, error_of(data)["param"]) == (400, "loops")
        assert "has no LOOP whose runs can be chosen (leave loops out)" in error_of(data)["message"]
