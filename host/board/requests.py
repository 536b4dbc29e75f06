"""Requests on a byte line: numbers, checks, time-outs, retries, one or two in flight (docs/link.md)."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from ternac.errors import BadFrame, DeviceError, DeviceRefused, LostAnswer, NoAnswer
from ternac.host.board.transport import Transport
from ternac.link import ANSWER, Command, Frame, SlipDecoder, Status

__all__ = ["SERIAL", "SIMULATED", "Patience", "Requests", "Sent"]

REASONS = {
    Status.UNKNOWN_COMMAND: "it does not know this request",
    Status.BAD_LENGTH: "the request has a wrong length",
    Status.BAD_MEMORY: "there is no such memory",
    Status.NOT_LOADED: "no program is loaded",
}


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
"""Good answers after a lost one during which one request at a time is sent."""


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

    A resent request carries the same bytes, and a board executes the same bytes in a row only once. When all
    retries are used up, BadFrame is raised if something came that failed its check, else NoAnswer;
    DeviceRefused if the board answers with an error status. A cut line is NoAnswer at once.

    Where `Identity.window` is 2, a RUN that follows may be sent while one is in flight. Then nothing is
    resent, since the device knows only its last request; what is lost ends in LostAnswer, and the window is 1
    for the next ``serial_answers`` good answers.
    """

    def __init__(
        self, transport: Transport, patience: Patience = SERIAL, serial_answers: int = SERIAL_ANSWERS
    ) -> None:
        self.transport, self.patience, self.serial_answers = transport, patience, serial_answers
        self.resent = self.lost = 0
        self.requests = self.bytes_sent = self.bytes_received = 0
        self.answered = 0.0
        """Time of the last good answer (time.monotonic)."""
        self.tail: Sent | None = None
        """The request sent last."""
        self._window = 1
        self._serial_for = 0  # good answers until two may be in flight again
        self._seq = 0
        self._bad_frames = 0
        self._in_flight: deque[Sent] = deque()
        self._decoder = SlipDecoder()
        self._came: deque[bytes] = deque()

    @property
    def damaged(self) -> int:
        """Frames that came and failed their check."""
        return self._bad_frames + self._decoder.spoiled

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""
        return 1 if self._serial_for else self._window

    def request(self, command: Command, payload: bytes = b"", steps: int = 0) -> bytes:
        """Send a request and return the payload of its answer, waiting for ``steps`` tokens of work. Requests
        in flight are answered first.
        """
        while self._in_flight:
            self._advance()
        return self.collect(self.post(command, payload, steps))

    def post(self, command: Command, payload: bytes, steps: int) -> Sent:
        """Send a request without waiting. While others are in flight it must be a RUN that follows."""
        frame = Frame(command, self._seq, payload)
        self._seq = (self._seq + 1) & 0xFF
        timeout = (
            self.patience.base + steps * self.patience.step + BYTES_ON_THE_LINE * self.transport.byte_seconds
        )
        self.tail = sent = Sent(frame, frame.wire(), timeout)
        self._write(sent)
        self.requests += 1
        self._in_flight.append(sent)
        return sent

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
            if answer[0] == Status.OUT_OF_ORDER:
                raise LostAnswer(f"{self.transport.name}: the board lost the RUN that this one follows")
        except DeviceError as error:
            if isinstance(error, LostAnswer):
                self.lost += 1
                self._serial_for = self.serial_answers
            self._fail_all(error)
            return
        except BaseException:
            self._fail_all(LostAnswer(f"{self.transport.name}: the wait for the answer was interrupted"))
            raise
        self._in_flight.popleft()
        if answer[0] == Status.OK:
            head.answer = answer[1:]
        else:
            head.error = self._refused(Command(head.frame.kind), answer[0])

    def _fail_all(self, error: DeviceError) -> None:
        """Fail all requests in flight; answers to them that still come are ignored."""
        while self._in_flight:
            self._in_flight.popleft().error = error

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
                self.answered = time.monotonic()
                self._serial_for = max(self._serial_for - (attempt == 0), 0)
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

        With several requests in flight a bad frame is skipped. Raises LostAnswer if a later one is answered.
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
        known = status in list(Status)
        reason = REASONS[Status(status)] if known else "the reason is unknown to this version"
        return DeviceRefused(f"{self.transport.name} refused {command.name}: {reason} (status {status})")


def _answers(frame: Frame, request: Sent) -> bool:
    return (frame.kind, frame.seq) == (request.frame.kind | ANSWER, request.frame.seq)
