"""Requests on a byte line: numbers, checks, time-outs, retries, one or two in flight (docs/link.md)."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ternac.errors import BadFrame, DeviceError, DeviceRefused, LostAnswer, NoAnswer, WrongBitstream
from ternac.host.board.transport import Transport
from ternac.link import ANSWER, IDENTITY, SEQUENCE, VERSION, Command, Frame, SlipDecoder, Status

__all__ = ["SERIAL", "SIMULATED", "Patience", "Requests", "Sent", "draw_opening"]

REASONS = {
    Status.UNKNOWN_COMMAND: ("it does not know this request", ""),
    Status.BAD_LENGTH: ("the request has a wrong length", ""),
    Status.BAD_MEMORY: ("there is no such memory", ""),
    Status.NOT_LOADED: ("no program is loaded", ""),
    Status.STUCK: (
        "the engine did not finish a token",
        "configure the board again (its button, or ternac flash); its sessions are kept",
    ),
}
LOST = {
    Status.OUT_OF_ORDER: "an earlier request was lost, or a late one came in between",
    Status.NOT_OPEN: "the board restarted",
}
"""Answers after which nobody knows what the board holds of its sessions."""


@dataclass(frozen=True)
class Patience:
    """Time-outs: ``base`` seconds for an answer, ``step`` more for each token; up to ``retries`` resends."""

    base: float = 0.5
    step: float = 0.02
    retries: int = 4


SERIAL = Patience()
SIMULATED = Patience(base=30.0, step=20.0, retries=1)


BYTES_ON_THE_LINE = 1500
"""The longest request and its answer, stuffed, and what is sent before them: each wait allows for that."""
SERIAL_ANSWERS = 32
"""Answers to RUNs after a lost one during which one request at a time is sent."""
LATE = 4096
"""A line is opened with a number at least so far from the one sent last, either way: no frame of that many
requests that comes late has the number that the board waits for."""


def draw_opening(last: int | None) -> int:
    """Draw the number of a HELLO; ``last``: the one of the request sent last, None if there is none."""
    if last is None:
        return secrets.randbelow(SEQUENCE)
    return (last + LATE + secrets.randbelow(SEQUENCE - 2 * LATE)) % SEQUENCE


@dataclass(eq=False)
class Sent:
    """A request that was sent: later ``answer`` holds its payload, or ``error`` why there will be none."""

    frame: Frame
    wire: bytes
    timeout: float
    answer: bytes | None = None
    error: DeviceError | None = None


class Requests:
    """Requests over ``transport``; a request alone in flight is resent until a right answer comes.

    A resent request carries the same bytes, and a board executes each number once. When all retries are used
    up, BadFrame is raised if something came that failed its check, else NoAnswer; DeviceRefused if the board
    answers with an error status. A cut line is NoAnswer at once.

    Where `Identity.window` is 2, a RUN that follows may be sent while one is in flight. Then nothing is
    resent, since the device knows only its last request; what is lost ends in LostAnswer, and the window is 1
    for the next ``serial_answers`` RUNs that are answered at once.

    The line is open from an answered HELLO until a request fails in a way that leaves unknown what the board
    executed, or until it restarted: ``on_closed`` is called then, every request in flight fails, and so does
    the one at hand. The next request is preceded by a HELLO whose number ``opening`` gives (`draw_opening`).
    """

    def __init__(
        self,
        transport: Transport,
        patience: Patience = SERIAL,
        serial_answers: int = SERIAL_ANSWERS,
        opening: Callable[[int | None], int] = draw_opening,
    ) -> None:
        self.transport, self.patience, self.serial_answers = transport, patience, serial_answers
        self.resent = self.lost = 0
        self.requests = self.bytes_sent = self.bytes_received = 0
        self.openings = 0
        """How often the line was opened."""
        self.tail: Sent | None = None
        """The request sent last."""
        self.on_closed: Callable[[], None] = lambda: None
        """Called when what the board holds of its sessions is not known any more."""
        self._window = 1
        self._serial_for = 0  # RUNs to be answered until two may be in flight again
        self._opening = opening
        self._open = False
        self._seq: int | None = None  # of the request sent last
        self._bad_frames = 0
        self._in_flight: deque[Sent] = deque()
        self._decoder = SlipDecoder()
        self._came: deque[bytes] = deque()

    @property
    def damaged(self) -> int:
        """Frames that came and failed their check."""
        return self._bad_frames + self._decoder.spoiled

    @property
    def opened(self) -> bool:
        """The line is open: the board waits for the request after the one sent last."""
        return self._open

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""
        return 1 if self._serial_for else self._window

    def request(self, command: Command, payload: bytes = b"", steps: int = 0) -> bytes:
        """Send a request and return the payload of its answer, waiting for ``steps`` tokens of work. Requests
        in flight are answered first; LostAnswer is raised if one of them is lost.
        """
        opened = self._open
        while self._in_flight:
            self._advance()
        if opened and not self._open:
            raise LostAnswer(f"{self.transport.name}: an earlier request was lost", "call again")
        return self.collect(self.post(command, payload, steps))

    def post(self, command: Command, payload: bytes, steps: int) -> Sent:
        """Send a request without waiting, behind a HELLO if the line is not open. While others are in flight
        it must be a RUN that follows.
        """
        if command == Command.HELLO:
            self.close_line()
        elif not self._open:
            self.reopen()
        if self._open and self._seq is not None:
            self._seq = (self._seq + 1) % SEQUENCE
        else:
            self._seq = self._opening(self._seq)
        frame = Frame(command, self._seq, payload)
        timeout = (
            self.patience.base + steps * self.patience.step + BYTES_ON_THE_LINE * self.transport.byte_seconds
        )
        self.tail = sent = Sent(frame, frame.wire(), timeout)
        try:
            self._write(sent)
        except BaseException:
            self.close_line()
            raise
        self.requests += 1
        self._in_flight.append(sent)
        return sent

    def reopen(self) -> None:
        """Open the line with a new number."""
        self.request(Command.HELLO)

    def close_line(self, error: DeviceError | None = None) -> None:
        """Let the next request be preceded by a HELLO, and believe nothing that the board is thought to
        hold. All requests in flight fail; answers to them that still come are ignored.
        """
        error = error or LostAnswer(f"{self.transport.name}: the line was opened again")
        while self._in_flight:
            self._in_flight.popleft().error = error
        self._open = False
        self.on_closed()

    def _write(self, sent: Sent) -> None:
        self.transport.write(sent.wire)
        self.bytes_sent += len(sent.wire)

    def collect(self, sent: Sent) -> bytes:
        """Wait for the answer to a posted request; returns its payload."""
        while sent.answer is None:
            if sent.error is not None:
                raise sent.error
            self._advance()
        return sent.answer

    def _advance(self) -> None:
        """Wait until the first request in flight is answered, or all have failed."""
        head = self._in_flight[0]
        try:
            answer = self._answer(head)
            status = answer[0]
            if status in LOST:
                raise LostAnswer(f"{self.transport.name}: {LOST[Status(status)]}", "call again")
        except DeviceError as error:
            if isinstance(error, LostAnswer):
                self.lost += 1
                self._serial_for = self.serial_answers
            self.close_line(error)
            return
        except BaseException:
            self.close_line(LostAnswer(f"{self.transport.name}: the wait for the answer was interrupted"))
            raise
        if status == Status.STUCK:
            self.close_line(self._refused(Command(head.frame.kind), status))
            return
        self._in_flight.popleft()
        if head.frame.kind == Command.HELLO and status == Status.OK:
            self._open = True
            self.openings += 1
        if status == Status.OK:
            head.answer = answer[1:]
        else:
            head.error = self._refused(Command(head.frame.kind), status)

    def _answer(self, head: Sent) -> bytes:
        """Return status and payload for the first request in flight, resent if it is the only one."""
        damaged, attempts = 0, self.patience.retries + 1 if len(self._in_flight) == 1 else 1
        for attempt in range(attempts):
            if attempt:
                self.resent += 1
                self._write(head)
            answer, bad = self._await(head)
            damaged += bad
            if answer is not None:
                at_once = attempt == 0 and head.frame.kind == Command.RUN
                self._serial_for = max(self._serial_for - at_once, 0)
                return answer
        where = f"{Command(head.frame.kind).name} to {self.transport.name}, {attempts} attempts"
        if attempts == 1 and len(self._in_flight) > 1:
            raise LostAnswer(f"{where}: no answer within {head.timeout:.1f} s")
        if damaged:
            raise BadFrame(f"{where}: answers fail their check", "check cable and baud rate")
        raise NoAnswer(
            f"{where}: no answer within {head.timeout:.1f} s each", "is the board powered and flashed?"
        )

    def _await(self, head: Sent) -> tuple[bytes | None, int]:
        """Wait for the answer: (status and payload, 0), or (None, 1) as soon as a frame fails its check.

        With several requests in flight a bad frame is skipped. Raises LostAnswer if a later one is answered,
        WrongBitstream if a board with an older link answers.
        """
        deadline = time.monotonic() + head.timeout
        alone = len(self._in_flight) == 1
        spoiled = self._decoder.spoiled
        while True:
            while self._came:
                frame = Frame.decode(self._came.popleft())
                if frame is None:
                    self._bad_frames += 1
                    spoiled -= 1
                elif version := _older(frame, head):
                    raise WrongBitstream(
                        f"{self.transport.name} speaks version {version} of the link, this host {VERSION}",
                        "flash a current bitstream: ternac flash",
                    )
                elif frame.payload and _answers(frame, head):
                    return frame.payload, 0
                elif any(_answers(frame, other) for other in self._in_flight):
                    raise LostAnswer(f"{self.transport.name}: an answer is missing: a later one came")
            if self._decoder.spoiled != spoiled and alone:
                return None, 1
            left = deadline - time.monotonic()
            if left <= 0:
                return None, 0
            data = self.transport.read(left)
            self.bytes_received += len(data)
            self._came.extend(self._decoder.feed(data))

    def _refused(self, command: Command, status: int) -> DeviceRefused:
        known = status in REASONS
        reason, hint = REASONS[Status(status)] if known else ("the reason is unknown to this version", "")
        return DeviceRefused(
            f"{self.transport.name} refused {command.name}: {reason} (status {status})", hint
        )


def _answers(frame: Frame, request: Sent) -> bool:
    return (frame.kind, frame.seq) == (request.frame.kind | ANSWER, request.frame.seq)


def _older(frame: Frame, request: Sent) -> int:
    """Return the link's version of a board whose heads have a sequence number of one byte, if ``frame`` is
    its answer to a HELLO, else 0.
    """
    status, low = frame.seq >> 8, request.frame.seq & 0xFF
    of_hello = frame.kind == request.frame.kind | ANSWER == Command.HELLO | ANSWER
    if of_hello and (status, frame.seq & 0xFF) == (Status.OK, low) and len(frame.payload) == IDENTITY.size:
        return frame.payload[0] if frame.payload[0] < VERSION else 0
    return 0
