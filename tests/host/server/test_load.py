"""Many clients, some of which hang up, on a board that dies in the middle: no wrong token, no lost session,
no growth. The short form has boards in Python behind the link model; the slow one kills simulated boards.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ternac.errors import NoAnswer
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import LinkClient
from ternac.host.device import Device
from ternac.host.local import LocalBackend
from ternac.host.server.limits import Limits
from ternac.host.server.worker import Source
from ternac.host.session import Session
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.sampling import Sampling
from tests.host.boards import FAST, Line, image_of, make_board, numpy_backend, small_program
from tests.host.server.http_server import Running, running
from tests.host.server.test_http import call


class Client(threading.Thread):
    """Talks in one session, turn after turn; hangs up in the middle of some. Checks every text."""

    def __init__(self, server: Running, program: Program, name: str, turns: int, tokens: int) -> None:
        super().__init__(daemon=True)
        self.server, self.program, self.session = server, program, name
        self.turns, self.tokens = turns, tokens
        self.rng = random.Random(name)
        self.left = self.finished = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._talk()
        except BaseException as error:
            self.error = error

    def _talk(self) -> None:
        temperature = self.rng.choice([0.0, 1.0])
        sampling = Sampling.from_temperature(temperature, self.program.logit_scale_bits)
        assert call(self.server, "PUT", f"/v1/sessions/{self.session}")[0] == 201
        with Session(numpy_backend(self.program), 5) as alone:
            for turn in range(self.turns):
                prompt = "".join(self.rng.choices("abcdef \n", k=self.rng.randrange(1, 30)))
                count = self.rng.randrange(1, self.tokens)
                asked = {
                    "prompt": prompt,
                    "max_tokens": count,
                    "temperature": temperature,
                    "session": self.session,
                }
                asked |= {"stream": self.rng.random() < 0.5} | ({} if turn else {"seed": 5})
                abandoned = 0
                while self.rng.random() < 0.3:
                    abandoned += 1
                    self._hang_up(asked | {"stream": True})
                self.left += abandoned
                text = self._ask(asked)
                kept = call(self.server, "GET", f"/v1/sessions/{self.session}")[2]
                # A request that was abandoned was executed whole, before that was noticed, or not at all.
                for _ in range(1 + abandoned):
                    if not turn:
                        alone.reseed(5)
                    want = bytes(alone.tokens(prompt.encode(), count, sampling)).decode(errors="replace")
                    if alone.snapshot() == kept:
                        break
                assert text == want, f"{self.session}, turn {turn}"
                assert alone.snapshot() == kept
                self.finished += 1

    def _ask(self, asked: dict[str, Any]) -> str:
        until = time.monotonic() + 60
        while True:
            status, _, data = call(self.server, "POST", "/v1/completions", asked)
            if status == 200:
                break
            assert status in (409, 429), data  # the hung up request is not yet gone, or too many are there
            assert time.monotonic() < until
            time.sleep(0.01)
        if not asked["stream"]:
            return str(json.loads(data)["choices"][0]["text"])
        events = [line[6:] for line in data.decode().split("\n\n") if line.startswith("data: ")]
        assert events.pop() == "[DONE]"
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)

    def _hang_up(self, asked: dict[str, Any]) -> None:
        data = json.dumps(asked).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        with socket.create_connection(("127.0.0.1", self.server.port)) as line:
            line.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + data)
            line.settimeout(self.rng.random() * 0.05)
            with contextlib.suppress(TimeoutError):
                line.recv(self.rng.randrange(1, 1000))


def load(
    server: Running, program: Program, clients: int, turns: int, tokens: int, strike: Callable[[], None]
) -> list[Client]:
    """All clients at the same time; ``strike`` comes in the middle. Every text was right."""
    crowd = [Client(server, program, f"s{n}-{time.monotonic_ns()}", turns, tokens) for n in range(clients)]
    for client in crowd:
        client.start()
    while sum(client.finished for client in crowd) < clients * turns // 3:
        assert not [client.error for client in crowd if client.error]
        assert any(client.is_alive() for client in crowd)
        time.sleep(0.005)
    strike()
    for client in crowd:
        client.join(300)
        assert not client.is_alive()
    errors = [client.error for client in crowd if client.error]
    assert not errors, errors
    assert sum(client.finished for client in crowd) == clients * turns
    server.settle()
    for client in crowd:
        assert call(server, "DELETE", f"/v1/sessions/{client.session}")[0] == 204
    return crowd


class Mortal(Line):
    """A board in Python whose line is cut when somebody says so."""

    cut = threading.Event()

    def write(self, data: bytes) -> None:
        if self.cut.is_set():
            raise NoAnswer("the line is cut")
        super().write(data)


def test_many_clients_and_a_board_that_dies() -> None:
    """Two boards with noise on their lines, one of which dies for a while; NumPy waits behind them."""
    program = small_program()
    image = image_of(program)
    lines = [Mortal(make_board(image), seed=n, faults=0.02) for n in range(2)]
    lines[0].cut = threading.Event()

    def open_board(line: Mortal) -> BoardBackend:
        if line.cut.is_set():
            raise NoAnswer("no board")
        client = LinkClient(line, FAST)
        backend = BoardBackend(client, client.hello(), program, image, chunk=8)
        backend.load(progress=False)
        return backend

    def board(n: int) -> Source:
        return Source(f"board{n}", lambda: open_board(lines[n]))

    spare = Source("spare", lambda: numpy_backend(program), fallback=True)
    with running(program, sources=[board(0), board(1), spare], limits=Limits(queue=8), reopen=0.1) as server:
        crowd = load(server, program, clients=12, turns=4, tokens=40, strike=lines[0].cut.set)
        assert sum(client.left for client in crowd) > 5
        devices = {device.label: device for device in server.stats.devices}
        assert (devices["board0"].losses, devices["board0"].up) == (1, False)
        lines[0].cut.clear()
        until = time.monotonic() + 20
        while not server.stats.devices[0].up:
            assert time.monotonic() < until
            time.sleep(0.02)
        load(server, program, clients=6, turns=2, tokens=30, strike=lines[1].cut.set)


def test_memory_does_not_grow() -> None:
    """What thousands of requests, kept and abandoned sessions leave behind is nothing."""
    program = small_program()
    with running(program, ["numpy"], limits=Limits(queue=8)) as server:
        load(server, program, clients=4, turns=4, tokens=10, strike=lambda: None)
        held = []
        tracemalloc.start()
        try:
            for _ in range(3):
                load(server, program, clients=4, turns=12, tokens=10, strike=lambda: None)
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
        assert held[2] - held[1] < 100_000, held
        (worker,) = server.service.scheduler.workers
        assert not worker.ring
        assert server.service.scheduler.stats().jobs == 0
        assert isinstance(worker.backend, LocalBackend)
        assert not worker.backend._states
        assert not server.service._background


@pytest.mark.slow
def test_simulated_boards_that_are_killed() -> None:
    """The RTL in Verilator as a process: killed, its sessions go on elsewhere, and it is started again."""
    program = random_program(np.random.default_rng(3), d=16, m=24, layers=1, vocab=256)
    opened: list[Device] = []

    def open_sim() -> Any:
        opened.append(Device.open("sim", program, board="tiny", progress=False))
        return opened[-1].backend

    def kill() -> None:
        process = opened[-1].backend.client.transport.process  # type: ignore[attr-defined]
        os.kill(process.pid, signal.SIGKILL)

    spare = Source("spare", lambda: numpy_backend(program), fallback=True)
    with running(program, sources=[Source("sim", open_sim), spare], reopen=0.5) as server:
        for _ in range(3):
            load(server, program, clients=8, turns=3, tokens=30, strike=kill)
            until = time.monotonic() + 60
            while not server.stats.devices[0].up:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert server.stats.devices[0].losses == 3
        assert server.stats.moves > 0
        assert len(opened) == 4
