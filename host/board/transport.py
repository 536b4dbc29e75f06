"""Byte lines to a board: serial port, pipe to the simulated board, recorded traffic."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from ternac.errors import NoAnswer, ToolMissing, UsageError
from ternac.files import parse_json
from ternac.link import FRAME_BYTES, Frame, SlipDecoder


class Transport(Protocol):
    """A byte line to one board. A method raises NoAnswer if the line is cut, and then always does."""

    name: str
    byte_seconds: float
    """Time that a byte takes on the line, 0 for a pipe."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``."""

    def read(self, timeout: float) -> bytes:
        """Return at least one byte, or b"" if none came within ``timeout`` seconds."""

    def close(self) -> None:
        """Release the line; closing twice is allowed."""


class SerialTransport:
    """A serial port, 8N1, that no other program can open as long as this one has it.

    Raises ToolMissing if pyserial is not installed, NoAnswer if the port cannot be opened; the message names
    the program that has it.
    """

    def __init__(self, port: str, baud: int) -> None:
        try:
            import serial
        except ModuleNotFoundError:
            raise ToolMissing("a serial board needs pyserial", "pip install pyserial") from None
        self.name = f"{port} at {baud} baud"
        self.byte_seconds = 10 / baud
        self._failures: tuple[type[Exception], ...] = (serial.SerialException, OSError)
        try:
            # exclusive=True is flock, among those who lock too; the terminal's own flag keeps out the rest
            self._port: Any = serial.Serial(port, baud, timeout=0, write_timeout=5, exclusive=True)
            _exclude(self._port, True)
        except (ValueError, *self._failures) as error:
            if getattr(error, "errno", None) in BUSY:
                raise NoAnswer(
                    f"{port} is in use by {holders(port) or 'another program'}",
                    "end it, or take another port: two hosts on one board would mix their tokens",
                ) from None
            hint = "is the board plugged in, and may this user open the port (group dialout)?"
            raise NoAnswer(f"cannot open {port}: {error}", hint) from None
        self._port.reset_input_buffer()

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except self._failures as error:
            raise NoAnswer(f"{self.name}: the line is cut: {error}") from None

    def read(self, timeout: float) -> bytes:
        try:
            self._port.timeout = timeout
            first = self._port.read(1)
            return bytes(first + self._port.read(self._port.in_waiting)) if first else b""
        except self._failures as error:
            raise NoAnswer(f"{self.name}: the line is cut: {error}") from None

    def close(self) -> None:
        with contextlib.suppress(*self._failures):
            _exclude(self._port, False)  # others may have it open still, and the flag would stay
        with contextlib.suppress(*self._failures):
            self._port.close()


BUSY = (errno.EWOULDBLOCK, errno.EBUSY)


def _exclude(port: Any, on: bool) -> None:
    """Let no one open the terminal behind an open port, or let them again."""
    try:
        import fcntl
        import termios
    except ModuleNotFoundError:  # Windows, where every port is exclusive
        return
    if port.is_open:
        fcntl.ioctl(port.fileno(), termios.TIOCEXCL if on else termios.TIOCNXCL)


def holders(port: str) -> str:
    """Return the programs that have a port open, as far as /proc says: "pid 12 (minicom -D ...)"."""
    target, found = os.path.realpath(port), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if any(os.path.realpath(link) == target for link in (entry / "fd").iterdir()):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"pid {entry.name} ({words.strip()[:100]})")
    return ", ".join(found)


class ProcessTransport:
    """A program that is a board on its standard input and output. NoAnswer when it has ended.

    It has a process group of its own: a terminal's Ctrl-C is for the host, which may go on with the board.
    """

    byte_seconds = 0.0

    def __init__(self, command: Sequence[str]) -> None:
        self.name = Path(command[0]).name
        self._errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,
        )

    def _ended(self) -> NoAnswer:
        status = self.process.poll()
        self._errors.seek(0)
        said = self._errors.read()[-500:].decode(errors="replace").strip()
        how = "closed its output" if status is None else f"ended with status {status}"
        return NoAnswer(f"the simulated board {how}" + (f": {said}" if said else ""), "open the device again")

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            while data:
                data = data[self.process.stdin.write(data) or 0 :]
        except (BrokenPipeError, ValueError):
            raise self._ended() from None

    def read(self, timeout: float) -> bytes:
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            raise self._ended()
        ready, _, _ = select.select([self.process.stdout], [], [], max(timeout, 0))
        if not ready:
            return b""
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
            raise self._ended()
        return data

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        self._errors.close()


class RecordingTransport:
    """Records the traffic of another transport: one JSON array ["w" or "r", hex] a line.

    Raises UsageError if the file cannot be written.
    """

    def __init__(self, inner: Transport, path: str | Path) -> None:
        self.inner = inner
        self.name, self.byte_seconds = inner.name, inner.byte_seconds
        try:
            self._file: TextIO = Path(path).open("w")
        except OSError as error:
            raise self._unwritten(path, error) from None

    @staticmethod
    def _unwritten(path: str | Path, error: OSError) -> UsageError:
        return UsageError(f"cannot write {path}: {error.strerror}", "name a file that you may write")

    def _log(self, kind: str, data: bytes) -> None:
        try:
            self._file.write(json.dumps([kind, data.hex()]) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritten(self._file.name, error) from None

    def write(self, data: bytes) -> None:
        self._log("w", data)
        self.inner.write(data)

    def read(self, timeout: float) -> bytes:
        data = self.inner.read(timeout)
        if data:
            self._log("r", data)
        return data

    def close(self) -> None:
        """Close the line and the file."""
        try:
            self.inner.close()
        finally:
            with contextlib.suppress(OSError):  # said when the line was written
                self._file.close()


class ReplayTransport:
    """Replays a recording: answers what was answered, as long as the same bytes are sent.

    Raises UsageError if the file cannot be read, a line of it is no recorded traffic, or the host sends other
    bytes.
    """

    byte_seconds = 0.0

    def __init__(self, path: str | Path) -> None:
        self.name = f"recording {Path(path).name}"
        self._written = bytearray()
        self._reads: list[tuple[int, bytes]] = []  # (bytes written before, answer)
        try:
            lines = Path(path).read_bytes().splitlines()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", "--record writes recordings") from None
        for number, line in enumerate(lines, 1):
            try:
                kind, text = parse_json(line)
                if kind not in ("w", "r"):
                    raise ValueError
                data = bytes.fromhex(text)
            except (ValueError, TypeError):
                raise UsageError(f"{path}, line {number}: this is not recorded traffic") from None
            if kind == "w":
                self._written += data
            else:
                self._reads.append((len(self._written), data))
        self._sent = 0

    def opening(self, last: int | None) -> int:
        """Return the number of the HELLO that was recorded next, in place of one that is drawn."""
        data = self._written[self._sent : self._sent + 2 * FRAME_BYTES]
        frame = next(map(Frame.decode, SlipDecoder().feed(data)), None)
        return frame.seq if frame else 0

    def write(self, data: bytes) -> None:
        if self._written[self._sent : self._sent + len(data)] != data:
            raise UsageError(f"{self.name}: the host sends something else after {self._sent} bytes")
        self._sent += len(data)

    def read(self, timeout: float) -> bytes:
        """Return the next recorded answer if its request has been sent, else b"" at once."""
        if self._reads and self._reads[0][0] <= self._sent:
            return self._reads.pop(0)[1]
        if not self._reads:
            raise NoAnswer(f"{self.name} is over")
        time.sleep(0)
        return b""

    def close(self) -> None:
        pass
