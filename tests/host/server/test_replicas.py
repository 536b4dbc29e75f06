"""Replicas: sessions in one table for all, and two local replicas behind Ray Serve."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import socket
import sys
import urllib.request
from typing import Any

import pytest

import tests.host.server.http_server  # noqa: F401  (skips where the extra is missing)
from ternac.errors import Overloaded, SessionBusy, ToolMissing, UnknownSession, UsageError
from ternac.host.server.limits import Limits
from ternac.host.server.replicas import ActorSessions, Table, deploy
from ternac.host.server.sessions import Kept
from ternac.program.zoo import open_program
from ternac.run.sampling import Sampling
from tests.host.server.serving import alone


class Remote:
    """A Table as an actor's handle."""

    def __init__(self, limits: Limits) -> None:
        self._table, self.ask = Table(limits), self
        self.asked = 0

    async def remote(self, *words: Any) -> Any:
        self.asked += 1
        return self._table.ask(*words)


def test_replicas_share_sessions() -> None:
    """What one replica gave back, another takes; errors keep their type."""

    async def talk() -> None:
        actor = Remote(Limits(sessions=1))
        one, two = ActorSessions(actor), ActorSessions(actor)
        assert await one.put("a", Kept(b"first"))
        kept, ticket = await two.take("a", 10)
        assert kept == Kept(b"first")
        with pytest.raises(SessionBusy):
            await one.take("a", 10)
        with pytest.raises(SessionBusy):
            await one.delete("a")
        assert await two.give("a", ticket, Kept(b"second", True))
        assert await one.get("a") == Kept(b"second", True)
        assert not await two.give("a", ticket, Kept(b"late"))
        with pytest.raises(Overloaded):
            await two.put("b", Kept(b""))
        assert await one.count() == 1
        await one.delete("a")
        with pytest.raises(UnknownSession):
            await two.get("a")

    asyncio.run(talk())


def test_what_is_missing_or_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="0 replicas"):
        deploy("shakespeare-small", 0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ToolMissing, match="replicas need Ray"):
        deploy("shakespeare-small")


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'ternac[ray]'"
)
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_local_replicas() -> None:
    """A conversation whose turns any replica may answer is NumPy's, and both do answer some."""
    import ray
    from ray import serve

    program = open_program("shakespeare-small")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    handler = signal.getsignal(signal.SIGTERM)  # Ray takes it over and keeps it
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        deploy("shakespeare-small", 2, ["numpy"], cpus=0.5)

        def call(method: str, path: str, body: Any = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
            with urllib.request.urlopen(request, timeout=120) as answer:
                raw = answer.read()
                return json.loads(raw) if raw and "json" in answer.headers["Content-Type"] else raw

        call("PUT", "/v1/sessions/talk")
        sampling = Sampling.from_temperature(1.0, program.logit_scale_bits)
        want = bytes(alone(program, list(b"ROMEO:"), 200, sampling, 7)).decode(errors="replace")
        got, seen = "", set()
        for turn in range(40):
            asked = {"prompt": "" if turn else "ROMEO:", "max_tokens": 5, "session": "talk"}
            found = call("POST", "/v1/completions", asked | ({} if turn else {"seed": 7}))
            got += found["choices"][0]["text"]
            seen.add(found["ternac"]["device"])
        assert got == want
        assert len(seen) == 2
        assert len(call("GET", "/v1/sessions/talk")) == 62 + 2 * program.state_words
    finally:
        serve.shutdown()
        ray.shutdown()
        signal.signal(signal.SIGTERM, handler)
