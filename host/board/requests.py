"""Requests on a byte line: numbers, checks, time-outs, retries, one or two under way (docs/link.md)."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from ternac.errors import BadFrame, DeviceError, DeviceRefused, NoAnswer
from ternac.host.board.transport import Transport
from ternac.link import ANSWER, Command, Frame, SlipDecoder, Status

__all__ = ["SERIAL", "SIMULATED", "Gap", "Patience", "Requests", "Sent"]

REASONS = {
    Status.UNKNOWN_COMMAND: "it does not know this request",
    Status.BAD_LENGTH: "the request has a wrong length",
    Status.BAD_MEMORY: "there is no such memory",
    Status.NOT_LOADED: "no program is loaded",
}


@dataclass(frozen=True)
class Patience:
    """How long to wait: ``base`` seconds for an answer, ``step`` more per token run; ``retries`` resends."""

    base: float = 0.5
    step: float = 0.02
    retries: int = 4


SERIAL = Patience()
SIMULATED = Patience(base=30.0, step=20.0, retries=1)


class Gap(DeviceError):
    """An answer was lost between others, or a RUN that follows found nothing to follow: what the device has
    executed of the requests that were under way is not known, and cannot be asked for."""


@dataclass(eq=False)
class Sent:
    """A request that is under way, or was: ``answer`` its payload, or ``error`` why there will be none."""

    frame: Frame
    wire: bytes
    timeout: float
    answer: bytes | None = None
    error: DeviceError | None = None


class Requests:
    """Requests over ``transport``; a request that is alone is sent again until a right answer comes.

    A repeated request carries the same bytes, and a board executes the same bytes in a row only once. When
    all retries are used up: BadFrame if something came that failed its check, else NoAnswer. DeviceRefused
    when the board answers with an error status. A cut line is NoAnswer at once.

    Where `identity` says ``window`` 2, a RUN that follows may be sent while one is under way. Then nothing is
    sent again, since the device knows only the last request; what is lost ends in `Gap`, and for the next
    CALM good answers the window is 1.
    """

    CALM = 32

    def __init__(self, transport: Transport, patience: Patience = SERIAL) -> None:
        self.transport, self.patience = transport, patience
        self.resent = self.gaps = 0
        self.answered = 0.0
        """When the last good answer came (time.monotonic)."""
        self.tail: Sent | None = None
        """The request sent last."""
        self._window, self._calm = 1, 0
        self._seq = 0
        self._under_way: deque[Sent] = deque()
        self._decoder = SlipDecoder()
        self._came: deque[bytes] = deque()

    @property
    def window(self) -> int:
        """Requests that may be under way now."""
        return 1 if self._calm else self._window

    def request(self, command: Command, payload: bytes = b"", steps: int = 0) -> bytes:
        """Send a request, return the payload of its answer; ``steps`` tokens of work are waited for. What is
        under way is answered before."""
        while self._under_way:
            self._advance()
        return self.collect(self.post(command, payload, steps))

    def post(self, command: Command, payload: bytes, steps: int) -> Sent:
        """Send a request without waiting. While others are under way it must be a RUN that follows."""
        frame = Frame(command, self._seq, payload)
        self._seq = (self._seq + 1) & 0xFF
        timeout = self.patience.base + steps * self.patience.step + 1500 * self.transport.byte_seconds
        self.tail = sent = Sent(frame, frame.wire(), timeout)
        self.transport.write(sent.wire)
        self._under_way.append(sent)
        return sent

    def collect(self, sent: Sent) -> bytes:
        """The payload of the answer to what was posted."""
        while sent.answer is None:
            if sent.error is not None:
                raise sent.error
            self._advance()
        return sent.answer

    def _advance(self) -> None:
        """Wait until the first of those under way is answered, or all have failed."""
        head = self._under_way[0]
        try:
            answer = self._answer(head)
            if answer[0] == Status.OUT_OF_ORDER:
                raise Gap(f"{self.transport.name}: a RUN found nothing to follow")
        except DeviceError as error:
            if isinstance(error, Gap):
                self.gaps += 1
                self._calm = self.CALM
            self._give_up(error)
            return
        except BaseException:
            self._give_up(Gap(f"{self.transport.name}: waiting for the answer was interrupted"))
            raise
        self._under_way.popleft()
        if answer[0] == Status.OK:
            head.answer = answer[1:]
        else:
            head.error = self._refused(Command(head.frame.kind), answer[0])

    def _give_up(self, error: DeviceError) -> None:
        """None of those under way will be answered; what still comes of them is passed over."""
        while self._under_way:
            self._under_way.popleft().error = error

    def _answer(self, head: Sent) -> bytes:
        """Status and payload for the first request under way, sent again where it is the only one."""
        damaged, attempts = 0, self.patience.retries + 1 if len(self._under_way) == 1 else 1
        for attempt in range(attempts):
            if attempt:
                self.resent += 1
                self.transport.write(head.wire)
            answer, bad = self._await(head)
            damaged += bad
            if answer is not None:
                self.answered = time.monotonic()
                self._calm = max(self._calm - (attempt == 0), 0)
                return answer
        where = f"{Command(head.frame.kind).name} to {self.transport.name}, {attempts} attempts"
        if attempts == 1 and len(self._under_way) > 1:
            raise Gap(f"{where}: no answer within {head.timeout:.1f} s")
        if damaged:
            raise BadFrame(f"{where}: answers fail their check", "check cable and baud rate")
        raise NoAnswer(
            f"{where}: no answer within {head.timeout:.1f} s each", "is the board powered and flashed?"
        )

    def _await(self, head: Sent) -> tuple[bytes | None, int]:
        """Wait for the first of both: (status and payload, 0), or (None, 1) when a frame fails its check;
        among several requests wait on for what comes after it. Gap when a later one is answered."""
        deadline = time.monotonic() + head.timeout
        alone = len(self._under_way) == 1
        spoiled = self._decoder.spoiled
        while True:
            while self._came:
                frame = Frame.decode(self._came.popleft())
                if frame is None:
                    spoiled -= 1
                elif frame.payload and _answers(frame, head):
                    return frame.payload, 0
                elif any(_answers(frame, other) for other in self._under_way):
                    raise Gap(f"{self.transport.name}: the answer before this one is missing")
            if self._decoder.spoiled != spoiled and alone:
                return None, 1
            left = deadline - time.monotonic()
            if left <= 0:
                return None, 0
            self._came.extend(self._decoder.feed(self.transport.read(left)))

    def _refused(self, command: Command, status: int) -> DeviceRefused:
        known = status in list(Status)
        reason = REASONS[Status(status)] if known else "the reason is unknown to this version"
        return DeviceRefused(f"{self.transport.name} refused {command.name}: {reason} (status {status})")


def _answers(frame: Frame, request: Sent) -> bool:
    return (frame.kind, frame.seq) == (request.frame.kind | ANSWER, request.frame.seq)
