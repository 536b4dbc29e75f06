"""Trials of one flipped bit, or one reset, on a simulated board that the real host drives."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternac.compile.geometry import preset
from ternac.errors import NoAnswer, TernacError
from ternac.host.board.client import Patience
from ternac.host.device import Device
from ternac.run.sampling import Sampling
from tests.host.adversary import Clock, virtual_time
from tests.host.boards import numpy_tokens, small_program

GEOMETRY = preset("tiny")
PROGRAM = small_program()
PATIENCE = Patience(base=0.5, step=0.02, retries=2)
CONVERSATIONS = ((b"ab", 3, Sampling(), 1), (b"x", 3, Sampling(False, 200, 4, 50), 2))
"""Prompt, tokens, sampling and seed of the sessions of a trial."""
WANT = [bytes(numpy_tokens(PROGRAM, prompt, n, rule, seed)) for prompt, n, rule, seed in CONVERSATIONS]
HOST_SECONDS = 120
"""Of the real clock, after which a trial counts as a hang of the host."""


@dataclass(frozen=True)
class Item:
    """A register or memory of the board."""

    number: int
    bits: int
    rows: int
    name: str

    @property
    def kind(self) -> str:
        """Its class in the table."""
        parts = self.name.replace(".", " ").split()
        inner = parts[1:] if parts[0] == "core" else parts
        place = inner[0] if len(inner) > 1 else "core"
        if place == "columns" and self.rows > 1:
            place = inner[1].rstrip("0123456789_")
        return f"{place} {'memory' if self.rows > 1 else 'registers'}"


class Line:
    """A connection to a board of its own, as a transport."""

    name = "a board with faults"
    byte_seconds = 0.0

    def __init__(self, path: Path, clock: Clock, restart: tuple[str, int, float] | None = None) -> None:
        """``restart``: ("write" or "read", at which of them, after which share of the bytes written)."""
        self.clock, self.cycle, self.stuck, self.repairs = clock, 0, False, 0
        self.writes = self.reads = 0
        self._at, self.path = restart, path
        self.restart(path)

    def restart(self, path: Path) -> None:
        """Go on with another board: this one was configured again, and what was on the line is lost."""
        if hasattr(self, "_socket"):
            self.end()
        self.sent, self.quiet = 0, False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(HOST_SECONDS)
        self._socket.connect(str(path))

    def configure_again(self) -> None:
        """Let the board be as after power-up; what is on the line is lost."""
        self.restart(self.path.with_name("empty"))

    def _restart_at(self, what: str, number: int) -> bool:
        return self._at is not None and self._at[:2] == (what, number)

    def tell(self, kind: str, data: bytes = b"") -> None:
        """Send a packet (`board.cpp`)."""
        try:
            self._socket.sendall(kind.encode() + struct.pack("<I", len(data)) + data)
        except OSError:
            raise NoAnswer(f"{self.name}: the line is cut") from None

    def packet(self) -> tuple[str, bytes]:
        """Return the next packet."""
        head = self._exactly(5)
        return head[:1].decode(), self._exactly(struct.unpack("<I", head[1:])[0])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part = self._socket.recv(count - len(data))
            except TimeoutError:
                raise AssertionError("the simulated board is stuck") from None
            except OSError:
                part = b""
            if not part:
                raise NoAnswer(f"{self.name}: the line is cut")
            data += part
        return data

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self._at is not None and self._restart_at("write", self.writes):
            cut = int(self._at[2] * len(data))
            self._send(data[:cut])
            self.restart(self.path.with_name("empty"))
            data = data[cut:]
        self._send(data)

    def _send(self, data: bytes) -> None:
        if data:
            self.tell("W", data)
        self.sent += len(data)
        self.quiet = False

    def read(self, timeout: float) -> bytes:
        self.reads += 1
        if self._restart_at("read", self.reads):
            self.restart(self.path.with_name("empty"))
        while not self.quiet:
            if not self.sent:  # a board that was just configured has said nothing
                break
            kind, data = self.packet()
            if kind == "D":
                return data
            came, self.cycle = (int(word) for word in data.split())
            self.quiet = came == self.sent
            self.stuck |= kind == "T"
        self.clock.now += timeout
        return b""

    def settle(self) -> None:
        """Read until the board waits."""
        while not self.quiet:
            self.read(0)

    def close(self) -> None:
        """Nothing: the next host opens the same board."""

    def end(self) -> None:
        """Close the connection; the board ends."""
        with suppress(OSError):
            self._socket.close()


class Board:
    """The processes that hold a loaded board and an empty one, and the items of a board."""

    def __init__(self, executable: Path, folder: Path) -> None:
        self.path, self.clock = folder / "loaded", Clock()
        self.processes = [self._started(executable, folder / name) for name in ("loaded", "empty")]
        Line(folder / "empty", self.clock).end()  # the first connection: nothing is loaded
        line = Line(self.path, self.clock)
        line.tell("L")
        rows = [text.split(" ", 3) for text in line.packet()[1].decode().splitlines()]
        self.items = [Item(int(n), int(bits), int(depth), name) for n, bits, depth, name in rows]
        with virtual_time(self.clock):
            with device(line):
                pass
            line.settle()
            line.end()
            line = Line(self.path, self.clock)
            assert talk(line) == WANT
            line.settle()
        self.cycles, self.writes, self.reads = line.cycle, line.writes, line.reads
        """Of a trial without a fault."""
        line.end()

    @staticmethod
    def _started(executable: Path, path: Path) -> subprocess.Popen[bytes]:
        path.unlink(missing_ok=True)
        process = subprocess.Popen([str(executable), str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        return process

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def device(line: Any) -> Iterator[Device]:
    """Open the board as a host does: the program is loaded unless the board says that it has it."""
    options: Any = {"board": GEOMETRY.name, "transport": line, "patience": PATIENCE, "progress": False}
    with Device.open("serial:faults", PROGRAM, **options) as opened:
        yield opened


def talk(line: Any) -> list[bytes]:
    """Return what the sessions of a trial generate."""
    with device(line) as opened:
        found = []
        for prompt, count, rule, seed in CONVERSATIONS:
            with opened.session(seed=seed) as session:
                found.append(bytes(session.tokens(prompt, count, rule)))
        client = opened.board.client
        line.repairs += client.resent + client.lost
        return found


def trial(board: Board, rng: random.Random) -> dict[str, Any]:
    """Run one trial; returns its fault, its outcome, and whether the board is well afterwards."""
    kinds: dict[str, list[Item]] = {}
    for item in board.items:
        kinds.setdefault(item.kind, []).append(item)
    cycle = rng.randrange(board.cycles)
    if rng.random() < 0.2:
        what = rng.choice(("write", "read"))
        number = 1 + rng.randrange(board.writes if what == "write" else board.reads)
        line = Line(board.path, board.clock, (what, number, rng.random()))
        fault: dict[str, Any] = {"kind": "restart", "at": f"{what} {number}"}
    else:
        kind = rng.choice(sorted(kinds))
        item = rng.choices(kinds[kind], [one.bits * one.rows for one in kinds[kind]])[0]
        bit, row = rng.randrange(item.bits), rng.randrange(item.rows)
        fault = {"kind": kind, "item": item.name, "bit": bit, "row": row, "cycle": cycle}
        line = Line(board.path, board.clock)
        line.tell("F", f"{cycle} {item.number} {bit} {row}".encode())
    try:
        return {**fault, **outcome_of(line)}
    finally:
        line.end()


def outcome_of(line: Any) -> dict[str, Any]:
    """Let the host talk to a board with a fault; returns what came of it, and what heals the board."""
    began = time.monotonic()
    try:
        found = talk(line)
        if found == WANT:
            result = "repaired" if line.repairs else "no effect"
        else:
            result = "wrong"
    except TernacError as error:
        result, kind = "refused", type(error).__name__
    outcome: dict[str, Any] = {"outcome": result}
    if result == "refused":
        outcome["error"] = kind
    if line.stuck:
        outcome["stuck"] = True
    if result in ("wrong", "refused"):
        outcome["after"] = _after(line)
    assert time.monotonic() - began < HOST_SECONDS, "the host hangs"
    return outcome


def _after(line: Any) -> str:
    """Return what makes the board right again: nothing, or to configure it again, which loads the program."""
    with suppress(TernacError):
        if talk(line) == WANT:
            return "next host"
    line.configure_again()
    with suppress(TernacError):
        if talk(line) == WANT:
            return "configured again"
    return "never"
