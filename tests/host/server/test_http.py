"""The server over plain HTTP: sessions, limits, who may ask, what operators see, who goes away."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ternac.compile.geometry import preset
from ternac.host.device import Device
from ternac.host.local import LocalBackend
from ternac.host.server.limits import Limits
from ternac.host.server.worker import Source
from ternac.host.session import Session
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling
from tests.host.boards import Line, image_of, make_board, numpy_backend, small_program
from tests.host.server.http_server import Running, running
from tests.host.server.serving import Shaky, alone, fresh, source

PROGRAM = small_program()
TOKEN = "a-token-of-some-length"
PROMPT = "hello"
HOT = 1.0


def sampling(temperature: float = HOT) -> Sampling:
    return Sampling.from_temperature(temperature, PROGRAM.logit_scale_bits)


def call(
    server: Running, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (in small letters), body."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, dict):
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def complete(server: Running, **asked: Any) -> dict[str, Any]:
    """The response of a completion that is well."""
    status, _, data = call(server, "POST", "/v1/completions", {"prompt": PROMPT, **asked})
    assert status == 200, data
    found: dict[str, Any] = json.loads(data)
    return found


def error_of(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def text_of(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


@pytest.fixture
def server() -> Iterator[Running]:
    with running(PROGRAM, ["numpy"]) as found:
        yield found


# --- sessions -----------------------------------------------------------------------------------------------


def test_a_session_goes_on_without_feeding_again(server: Running) -> None:
    """Three requests give what one would; only new tokens are fed."""
    assert call(server, "PUT", "/v1/sessions/a")[0] == 201
    want = alone(PROGRAM, list(b"hello"), 30, sampling(0), 1)
    first = complete(server, session="a", max_tokens=10, temperature=0)
    second = complete(server, session="a", prompt="", max_tokens=20, temperature=0)
    assert [r["choices"][0]["text"] for r in (first, second)] == [text_of(want[:10]), text_of(want[10:])]
    assert (first["usage"]["prompt_tokens"], second["usage"]["prompt_tokens"]) == (5, 0)
    status, headers, data = call(server, "GET", "/v1/sessions/a")
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert len(data) == 62 + 2 * PROGRAM.state_words
    with Session(numpy_backend(PROGRAM)) as session:
        session.restore(data)
        assert (
            list(session.tokens([], 5, sampling(0)))
            == alone(PROGRAM, list(b"hello"), 35, sampling(0), 1)[30:]
        )


def test_a_snapshot_moves_between_servers(server: Running) -> None:
    """Down from one, up to another: the text goes on, drawn tokens and generator included."""
    call(server, "PUT", "/v1/sessions/a")
    complete(server, session="a", max_tokens=10, temperature=HOT, seed=7)
    data = call(server, "GET", "/v1/sessions/a")[2]
    with running(PROGRAM, ["numpy"]) as other:
        assert call(other, "PUT", "/v1/sessions/b", data)[0] == 201
        got = complete(other, session="b", prompt="", max_tokens=10, temperature=HOT)
    want = alone(PROGRAM, list(b"hello"), 20, sampling(), 7)
    assert got["choices"][0]["text"] == text_of(want[10:])


def test_a_chat_in_a_session_is_the_chat_fed_whole(server: Running) -> None:
    """Also where an answer was cut by its length: its turn is ended before the next begins."""
    call(server, "PUT", "/v1/sessions/a")
    want: list[int] = []
    fed: list[int] = []
    for n, said in enumerate(("one", "two", "three")):
        turn = ("\n\n" if n else "") + f"User:\n{said}\n\nAssistant:\n"
        want = alone(PROGRAM, [*fed, *turn.encode()], 8, sampling(0))
        fed += [*turn.encode(), *want]
        message = {"role": "user", "content": said}
        body = {"messages": [message], "session": "a", "max_tokens": 8, "temperature": 0}
        status, _, data = call(server, "POST", "/v1/chat/completions", body)
        assert status == 200
        answer = json.loads(data)["choices"][0]
        assert (answer["message"]["content"], answer["finish_reason"]) == (text_of(want), "length")
    assert call(server, "GET", "/v1/sessions/a")[1]["ternac-open-turn"] == "1"


def test_sessions_that_cannot_be(server: Running) -> None:
    status, _, data = call(server, "POST", "/v1/completions", {"prompt": "a", "session": "never"})
    assert (status, error_of(data)["code"]) == (404, "session_not_found")
    for method in ("GET", "DELETE"):
        assert call(server, method, "/v1/sessions/never")[0] == 404
    snapshot = fresh(PROGRAM).to_bytes(PROGRAM)
    for wrong in (
        b"x",
        snapshot[:-1],
        bytes(len(snapshot)),
        fresh(small_program(2)).to_bytes(small_program(2)),
    ):
        status, _, data = call(server, "PUT", "/v1/sessions/a", wrong)
        assert (status, error_of(data)["code"]) == (400, "invalid_snapshot")
    assert call(server, "GET", "/v1/sessions/a")[0] == 404
    assert call(server, "PUT", "/v1/sessions/no%20name")[0] == 400
    assert call(server, "PUT", "/v1/sessions/a", snapshot)[0] == 201
    assert call(server, "PUT", "/v1/sessions/a", snapshot)[0] == 204
    assert call(server, "DELETE", "/v1/sessions/a")[0] == 204


def test_sessions_are_as_many_as_the_limit() -> None:
    with running(PROGRAM, limits=Limits(sessions=2)) as server:
        assert [call(server, "PUT", f"/v1/sessions/s{i}")[0] for i in range(3)] == [201, 201, 429]
        assert call(server, "DELETE", "/v1/sessions/s0")[0] == 204
        assert call(server, "PUT", "/v1/sessions/s2")[0] == 201
    with running(PROGRAM, limits=Limits(sessions=1, session_seconds=0.05)) as server:
        assert call(server, "PUT", "/v1/sessions/old")[0] == 201
        time.sleep(0.1)
        assert call(server, "PUT", "/v1/sessions/new")[0] == 201
        assert call(server, "GET", "/v1/sessions/old")[0] == 404


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_scores_and_penalties_survive_a_lost_device(after: bool) -> None:
    """Cut at every request in turn, in the prompt that is scored and in the text: the answer is the same."""
    asked = {"echo": True, "logprobs": 2, "max_tokens": 6, "frequency_penalty": 1.0, "seed": 4, "n": 2}
    with running(PROGRAM) as server:
        want = complete(server, **asked)
        call(server, "PUT", "/v1/sessions/a")
        kept = [complete(server, session="a", max_tokens=4, top_p=0.9, seed=2)["choices"] for _ in range(2)]
    moved = 0
    for at in range(1, 22, 2):
        spare = Source("spare", lambda: numpy_backend(PROGRAM), fallback=True)
        sources = [source(Shaky(PROGRAM, fail_at=at, after=after)), spare]
        with running(PROGRAM, sources=sources, reopen=0) as server:
            got = complete(server, **asked)
            assert got["choices"] == want["choices"]
            assert got["usage"] == want["usage"]
            moved += server.stats.moves
            call(server, "PUT", "/v1/sessions/a")
            for one in kept:
                assert complete(server, session="a", max_tokens=4, top_p=0.9, seed=2)["choices"] == one
    assert moved > 5


def test_a_board_gives_the_same_scores_and_draws() -> None:
    """From the logits that come over its link."""
    board = Line(make_board(image_of(PROGRAM)))
    opened = Device.open("serial:fake", PROGRAM, geometry=preset("tiny"), transport=board, progress=False)
    asked = {"echo": True, "logprobs": 2, "max_tokens": 6, "top_p": 0.8, "presence_penalty": 1, "seed": 4}
    with running(PROGRAM) as server:
        want = complete(server, **asked)["choices"]
    with running(PROGRAM, sources=[source(opened.backend)]) as server:
        assert complete(server, **asked)["choices"] == want


def test_a_prompt_that_is_scored_to_the_end_of_time() -> None:
    class Slow(LocalBackend):
        def step(self, *words: Any) -> Any:
            time.sleep(0.05)
            return super().step(*words)

    sources = [Source("slow", lambda: Slow(NumpyExecutor(PROGRAM)))]
    with running(PROGRAM, sources=sources, limits=Limits(seconds=0.3)) as server:
        body = {"prompt": "x" * 100, "max_tokens": 0, "echo": True, "logprobs": 0}
        status, _, data = call(server, "POST", "/v1/completions", body)
        assert (status, error_of(data)["code"]) == (503, "unavailable")


# --- those who go away --------------------------------------------------------------------------------------


def leave(server: Running, body: dict[str, Any], read: int) -> None:
    """Send a request, read some of the response, hang up."""
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        if read:
            assert len(line.recv(read)) > 0
        else:
            until = time.monotonic() + 10
            while not server.stats.jobs:
                assert time.monotonic() < until
                time.sleep(0.002)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("session", [None, "a"], ids=["alone", "session"])
def test_a_client_that_hangs_up_stops_its_text(stream: bool, session: str | None) -> None:
    """The back end's session is released, the kept one is what it was, and the next request is NumPy's."""
    backend = Shaky(PROGRAM)
    with running(PROGRAM, sources=[source(backend)], limits=Limits(tokens=10**7)) as server:
        call(server, "PUT", "/v1/sessions/a")
        before = complete(server, session="a", max_tokens=10, temperature=0)
        kept = call(server, "GET", "/v1/sessions/a")[2]
        for _ in range(3):
            asked = {"prompt": "x", "max_tokens": 10**6, "stream": stream, "temperature": 0}
            leave(server, asked | ({"session": session} if session else {}), 300 if stream else 0)
            server.settle()
        assert backend.open_sessions == 0
        assert call(server, "GET", "/v1/sessions/a")[2] == kept
        after = complete(server, session="a", prompt="", max_tokens=10, temperature=0)
        texts = [r["choices"][0]["text"] for r in (before, after)]
        want = alone(PROGRAM, list(b"hello"), 20, sampling(0))
        assert texts == [text_of(want[:10]), text_of(want[10:])]
        assert b'ternac_texts_total{end="Cancelled"} 3.0' in call(server, "GET", "/metrics")[2]


# --- limits -------------------------------------------------------------------------------------------------


def test_bodies_prompts_and_tokens_are_bounded() -> None:
    with running(PROGRAM, limits=Limits(body=2000, prompt=100, tokens=50)) as server:
        status, headers, data = call(server, "POST", "/v1/completions", {"prompt": "x" * 3000})
        assert (status, error_of(data)["code"], headers["connection"]) == (413, "body_too_large", "close")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        chunks = (b"x" * 500 for _ in range(1000))  # no length said beforehand, and all of them can be sent
        connection.request(
            "POST", "/v1/completions", chunks, {"Transfer-Encoding": "chunked"}, encode_chunked=True
        )
        assert connection.getresponse().status == 413
        connection.close()
        status, _, data = call(server, "POST", "/v1/completions", {"prompt": "x" * 101})
        assert (status, error_of(data)["param"]) == (400, "prompt")
        status, _, data = call(server, "POST", "/v1/completions", {"prompt": "x", "max_tokens": 51})
        assert (status, error_of(data)["param"]) == (400, "max_tokens")
        assert complete(server, prompt="x" * 100, max_tokens=50)["usage"]["total_tokens"] == 150


def test_time_and_queue_are_bounded() -> None:
    gate = threading.Event()

    class Slow(LocalBackend):
        def run(self, *words: Any) -> Any:
            gate.wait(0.3)
            return super().run(*words)

    limits = Limits(seconds=0.7, queue=2, tokens=10**6)
    with running(
        PROGRAM, sources=[Source("slow", lambda: Slow(NumpyExecutor(PROGRAM)))], limits=limits
    ) as server:
        found: list[dict[str, Any]] = []

        def ask() -> None:
            found.append(complete(server, max_tokens=10**5, prompt="x", temperature=0))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        while server.stats.jobs < 2:
            time.sleep(0.005)
        status, headers, data = call(server, "POST", "/v1/completions", {"prompt": "x"})
        assert (status, error_of(data)["code"], headers["retry-after"]) == (429, "overloaded", "1")
        for thread in threads:
            thread.join()
        for answer in found:
            assert answer["ternac"]["cut_by_time"]
            assert answer["choices"][0]["finish_reason"] == "length"
            made = answer["usage"]["completion_tokens"]
            assert answer["choices"][0]["text"] == text_of(alone(PROGRAM, list(b"x"), made, sampling(0)))
        gate.set()


def test_a_session_takes_one_request_at_a_time() -> None:
    with running(PROGRAM, sources=[source(Shaky(PROGRAM))], limits=Limits(tokens=10**7)) as server:
        call(server, "PUT", "/v1/sessions/a")
        body = {"prompt": "x", "max_tokens": 10**6, "session": "a"}
        thread = threading.Thread(target=leave, args=(server, body | {"stream": True}, 300))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", "/v1/completions", json.dumps(body | {"stream": True}),
                           {"Content-Type": "application/json"})  # fmt: skip
        answer = connection.getresponse()
        assert answer.status == 200
        for method, path, sent in (
            ("POST", "/v1/completions", body),
            ("PUT", "/v1/sessions/a", None),
            ("DELETE", "/v1/sessions/a", None),
        ):
            status, _, data = call(server, method, path, sent)
            assert (status, error_of(data)["code"]) == (409, "session_busy")
        assert call(server, "GET", "/v1/sessions/a")[0] == 200
        connection.close()
        answer.close()
        server.settle()
        assert complete(server, session="a", max_tokens=3)["usage"]["completion_tokens"] == 3
        assert not thread.is_alive()


# --- who may ask --------------------------------------------------------------------------------------------


def test_tokens_are_asked_for() -> None:
    with running(PROGRAM, tokens=["another-token-of-length", TOKEN]) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            status, found, data = call(server, "GET", "/v1/models", **headers)
            assert (status, error_of(data)["code"]) == (401, "invalid_api_key")
            assert found["www-authenticate"] == "Bearer"
        assert call(server, "GET", "/metrics")[0] == 401
        assert call(server, "GET", "/v1/models", Authorization=f"Bearer {TOKEN}")[0] == 200
        for path in ("/", "/page.js", "/health", "/ready"):
            assert call(server, "GET", path)[0] == 200


def test_other_sites_names_are_refused(server: Running) -> None:
    """A page of another site whose name resolves to this machine gets nothing."""
    for host, status in (("evil.example", 421), ("evil.example:80", 421), ("", 421), ("localhost:1", 200),
                         ("[::1]:8000", 200), ("LOCALHOST", 200)):  # fmt: skip
        assert call(server, "GET", "/v1/models", Host=host)[0] == status
    with running(PROGRAM, hosts=None) as anywhere:
        assert call(anywhere, "GET", "/v1/models", Host="ternac.example")[0] == 200


# --- what operators see -------------------------------------------------------------------------------------


def test_health_ready_and_metrics_tell_of_a_lost_device() -> None:
    spare = Source("spare", lambda: numpy_backend(PROGRAM), fallback=True)
    with running(PROGRAM, sources=[source(Shaky(PROGRAM, fail_at=4)), spare], reopen=0) as server:
        assert json.loads(call(server, "GET", "/health")[2])["status"] == "ok"
        assert call(server, "GET", "/ready")[0] == 200
        got = complete(server, max_tokens=30, temperature=0)
        assert got["choices"][0]["text"] == text_of(alone(PROGRAM, list(b"hello"), 30, sampling(0)))
        assert (got["ternac"]["device"], got["ternac"]["moves"]) == ("spare", 1)
        health = json.loads(call(server, "GET", "/health")[2])
        assert (health["status"], health["moves"]) == ("degraded", 1)
        assert [(d["device"], d["up"], d["losses"]) for d in health["devices"]] == [
            ("shaky", False, 1),
            ("spare", True, 0),
        ]
        metrics = call(server, "GET", "/metrics")[2].decode()
        for line in (
            'ternac_device_up{device="shaky"} 0.0', 'ternac_device_up{device="spare"} 1.0',
            "ternac_moves_total 1.0",
            'ternac_tokens_total{kind="prompt"} 5.0', 'ternac_tokens_total{kind="completion"} 30.0',
            'ternac_requests_total{path="/v1/completions",status="200"} 1.0', "ternac_queue_depth 0.0",
            'ternac_device_losses_total{device="shaky"} 1.0', 'ternac_texts_total{end="length"} 1.0',
        ):  # fmt: skip
            assert line in metrics.splitlines(), line


def test_draining_refuses_new_work(server: Running) -> None:
    server.service.scheduler.drain()
    status, headers, data = call(server, "POST", "/v1/completions", {"prompt": "x"})
    assert (status, error_of(data)["code"], headers["retry-after"]) == (503, "unavailable", "1")
    assert call(server, "GET", "/ready")[0] == 503
    assert json.loads(call(server, "GET", "/health")[2])["status"] == "down"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b"\xff", b'{"prompt": NaN}', b'{"prompt": "\\ud800"}', b'{"\\ud800": 1}',
     b'{"prompt": "x", "temperature": 1e400}', b'{"prompt": "x", "seed": 1e300}',
     b'{"prompt": "x", "stop": "\\udfff"}'],
)  # fmt: skip
def test_broken_bodies_are_the_clients_fault(server: Running, body: bytes) -> None:
    status, _, data = call(server, "POST", "/v1/completions", body, Content_Type="application/json")
    assert status == 400
    error_of(data)


def test_unknown_paths_and_methods(server: Running) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/v1/models", 405)):
        found, _, data = call(server, method, path)
        assert found == status
        error_of(data)
