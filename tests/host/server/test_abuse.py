"""Clients that take more than their share, or nothing at all, and one honest client beside them.

Abusers come from other addresses of the loopback interface than the honest one, which has to be served
whatever they do. What is refused is counted; only the absence of an answer is measured in time.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.host.server import connections
from ternac.host.server.limits import Limits, may_take
from ternac.host.server.log_limit import LogLimit
from ternac.host.server.service import build_service
from ternac.program.random import random_program
from ternac.run.sampling import GREEDY
from tests.host.server.http_server import Running, running  # first: it skips without the server's packages
from tests.host.server.serving import Shaky, alone, source

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one address of the loopback interface")

PROGRAM = random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=256)
ABUSER, OTHER = "127.0.0.2", "127.0.0.3"
SECONDS = 30.0
"""Patience of the honest client: far more than it needs on an idle machine."""


@contextmanager
def clients() -> Iterator[Callable[..., socket.socket]]:
    """Makes connections, which are closed at the end."""
    made: list[socket.socket] = []

    def connect(server: Running, address: str = ABUSER, buffer: int = 0) -> socket.socket:
        link = socket.socket()
        if buffer:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        link.settimeout(SECONDS)
        link.bind((address, 0))
        link.connect(("127.0.0.1", server.port))
        made.append(link)
        return link

    try:
        yield connect
    finally:
        for link in made:
            link.close()


def request(path: str, body: dict[str, Any] | None = None, more: str = "") -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data


def stream(tokens: int, seed: int = 1) -> dict[str, Any]:
    return {"prompt": "a", "max_tokens": tokens, "stream": True, "temperature": 1, "seed": seed}


def honest(server: Running, tokens: int = 5) -> bytes:
    """The text that the honest client gets; it is the right one."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    try:
        body = {"prompt": [97], "max_tokens": tokens, "temperature": 0}
        link.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        found = link.getresponse()
        data = json.loads(found.read())
        assert found.status == 200, data
        return data["choices"][0]["text"].encode()
    finally:
        link.close()


def closed(server: Running, reason: str) -> int:
    """How many connections the server closed for ``reason``."""
    name = f'ternac_connections_closed_total{{reason="{reason}"}} '
    line = next(line for line in server.service.metrics.text().decode().splitlines() if line.startswith(name))
    return int(float(line[len(name) :]))


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def status(link: socket.socket) -> int:
    """Status of the response that begins there; 0 if the server closed the connection."""
    try:
        first = link.recv(4096)
    except ConnectionError:
        return 0
    return int(first.split(b" ")[1]) if first else 0


def test_idle_connections_make_room_for_those_that_ask() -> None:
    with running(PROGRAM, limits=Limits(connections=8)) as server, clients() as connect:
        idle = [connect(server) for _ in range(40)]
        idle[-1].sendall(b"GET /health HTTP/1.1\r\n")  # a head that does not end
        assert honest(server)
        wait_for(lambda: closed(server, "evicted") >= 32)
        assert status(idle[0]) == 0
        body = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
        for _ in range(20):  # bodies that do not come
            connect(server, OTHER).sendall(body)
        assert honest(server)
        assert closed(server, "refused") == 0


def test_where_all_connections_are_at_work_one_more_is_told_so() -> None:
    with (
        running(PROGRAM, limits=Limits(connections=2), sources=[source(Shaky(PROGRAM))]) as server,
        clients() as connect,
    ):
        busy = [connect(server) for _ in range(2)]
        for link in busy:
            link.sendall(request("/v1/completions", stream(4000)))
            assert status(link) == 200
        more = connect(server)
        assert status(more) == 503
        assert closed(server, "refused") == 1
        for link in busy:
            link.close()
        wait_for(lambda: not server.stats.jobs)
        assert honest(server)


def test_a_head_that_comes_byte_by_byte_is_given_up() -> None:
    with running(PROGRAM, limits=Limits(head_seconds=0.2)) as server, clients() as connect:
        silent, slow, second = (connect(server) for _ in range(3))
        second.sendall(request("/ready"))
        answer = b""
        while not answer.endswith(b'{"ready":true}'):
            answer += second.recv(4096)
        second.sendall(b"GET /hea")  # the next request of a connection that is kept
        for byte in b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A":
            try:
                slow.sendall(bytes((byte,)))
            except ConnectionError:
                break
            time.sleep(0.02)
        assert [status(link) for link in (silent, slow, second)] == [0, 0, 0]
        assert closed(server, "slow_head") == 3
        assert honest(server)


def test_one_client_does_not_get_all_places() -> None:
    limits = Limits(queue=8, tokens=10**6)
    with running(PROGRAM, limits=limits) as server, clients() as connect:
        links = [connect(server, buffer=4096) for _ in range(14)]
        for number, link in enumerate(links):
            # what a request says of its origin does not make it another client
            said = f"X-Forwarded-For: 10.0.0.{number}\r\nAuthorization: Bearer {number}\r\n"
            link.sendall(request("/v1/completions", stream(10**6, number), said))
        found = [status(link) for link in links]
        assert found.count(200) == limits.client_places == 7
        assert found.count(429) == 7
        assert honest(server) == bytes(alone(PROGRAM, [97], 5, GREEDY)).decode(errors="replace").encode()
        assert server.stats.jobs == 7


def test_a_stream_that_nobody_reads_waits_and_is_given_up() -> None:
    limits = Limits(tokens=10**6, stall_seconds=1.0)
    with running(PROGRAM, limits=limits) as server, clients() as connect:
        link = connect(server, buffer=4096)
        link.sendall(request("/v1/completions", stream(10**6)))
        assert status(link) == 200
        tokens = []
        wait_for(lambda: tokens.append(server.stats.devices[0].tokens) or tokens[-2:-1] == tokens[-1:])
        wait_for(lambda: closed(server, "stalled") == 1)
        assert tokens[-1] < 20_000, "the text went on without a reader"
        wait_for(lambda: not server.stats.jobs)
        assert honest(server)


def test_a_stream_that_is_read_late_is_whole() -> None:
    with running(PROGRAM, limits=Limits(tokens=10**6)) as server, clients() as connect:
        link = connect(server, buffer=4096)
        link.sendall(request("/v1/completions", stream(4000) | {"temperature": 0}, "Connection: close\r\n"))
        assert honest(server)
        time.sleep(0.5)  # long enough for the buffers to fill
        with link.makefile("rb") as file:
            text = file.read().decode()
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        said = "".join(choice["text"] for event in events for choice in event["choices"])
        want = bytes(alone(PROGRAM, [97], 4000, GREEDY)).decode(errors="replace")
        assert said == want


def test_all_of_them_together_and_one_honest_client() -> None:
    limits = Limits(queue=16, connections=24, tokens=10**6, head_seconds=5)
    with running(PROGRAM, limits=limits) as server, clients() as connect:
        for number in range(12):
            connect(server, ABUSER, buffer=4096).sendall(request("/v1/completions", stream(10**6, number)))
        for _ in range(40):
            connect(server, OTHER)
            connect(server, ABUSER).sendall(b"GET / HTTP/1.1\r\nX: ")
            connect(server, OTHER).sendall(b"\x16\x03\x01 no HTTP")
        assert [honest(server) for _ in range(3)] == [honest(server)] * 3


@pytest.mark.parametrize("queue", [1, 2, 3, 4, 5, 8, 16, 64, 1000])
def test_a_newcomer_finds_a_place_however_many_clients_take_what_they_can(queue: int) -> None:
    assert Limits(queue=queue).client_places <= queue
    held = [0] * 5
    changed = True
    while changed:
        changed = False
        for client in range(len(held)):
            if may_take(held[client], queue - sum(held), queue):
                held[client] += 1
                changed = True
    assert sum(held) <= queue
    assert queue < 16 or may_take(0, queue - sum(held), queue)


def test_sessions_have_a_limit_of_bytes() -> None:
    with running(PROGRAM) as server:
        one = len(server.service.new_session().to_bytes(PROGRAM))
    with running(PROGRAM, limits=Limits(session_bytes=2 * one, queue=1)) as server:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        found = []
        for name in ("a", "b", "c", "a"):
            link.request("PUT", f"/v1/sessions/{name}")
            response = link.getresponse()
            found.append(response.status)
            text = response.read()
            assert response.status != 429 or f"{2 * one:,}" in json.loads(text)["error"]["message"]
        assert found == [201, 201, 429, 204]
        link.close()


def test_a_server_whose_requests_need_more_memory_than_sessions_may_does_not_start() -> None:
    one = 2 * PROGRAM.state_words
    with pytest.raises(
        UsageError, match=f"64 requests at a time .* need {64 * one:,}, .* is {10 * one:,}"
    ) as found:
        build_service(PROGRAM, ["numpy"], Limits(session_bytes=10 * one))
    assert "at most 10 requests" in found.value.hint


def test_no_other_page_frames_this_one() -> None:
    with running(PROGRAM) as server:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
        link.request("GET", "/")
        assert "frame-ancestors 'none'" in (link.getresponse().getheader("Content-Security-Policy") or "")
        link.close()


def test_connections_leave_files_for_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections.resource, "getrlimit", lambda which: (256, 4096))
    assert connections.most_connections(Limits()) == 128
    assert connections.most_connections(Limits(connections=1000)) == 256 - 128
    monkeypatch.setattr(connections.resource, "getrlimit", lambda which: (64, 4096))
    assert connections.most_connections(Limits()) == 1


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("x", logging.WARNING, "", 0, text, args, None)


def test_messages_of_a_kind_are_said_some_times_a_minute_and_then_counted() -> None:
    now = [0.0]
    limit = LogLimit(most=3, seconds=60, clock=lambda: now[0])
    assert [limit.filter(record("bad %s", n)) for n in range(10)] == [True] * 3 + [False] * 7
    assert limit.filter(record("other"))
    now[0] = 61
    again = record("bad %s", 11)
    assert limit.filter(again)
    assert again.getMessage() == "bad 11 (and 7 more like it before)"
    many = [limit.filter(record(f"kind {n}")) for n in range(1000)]
    assert sum(many) <= limit.kinds + limit.most


def test_garbage_does_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with running(PROGRAM) as server, clients() as connect:
        for name in ("uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            limits = [each for each in logger.filters if isinstance(each, LogLimit)]
            assert len(limits) == 1, name
            logger.removeFilter(limits[0])
            logger.addFilter(LogLimit())  # with nothing counted before
        for _ in range(100):
            link = connect(server)
            link.sendall(b"no HTTP\r\n\r\n")
            assert status(link) == 400
        assert honest(server)
    assert 1 <= capfd.readouterr().err.count("Invalid HTTP request") <= 10
