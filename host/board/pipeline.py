"""A run on a board: RUN requests that follow one another, so that the engine does not wait for the line."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ternac.host.backend import ReplayPoint, State
from ternac.host.board.client import LinkClient, Sent
from ternac.link import MAX_PROMPT, RunAnswer
from ternac.run.generation import Run

__all__ = ["Journal", "RunPipeline"]


class Journal:
    """The host's knowledge of a session: a state that it had, and the tokens fed since (u16), all with
    ``loops``.
    """

    __slots__ = ("loops", "state", "tokens")

    def __init__(self, state: State, tokens: Iterable[int] = (), loops: int | None = None) -> None:
        self.state, self.tokens, self.loops = state, array("H", tokens), loops

    def rebase(self, state: State) -> None:
        """Start from ``state``, in which the session stands now: nothing needs to be fed again."""
        self.state, self.tokens = state, array("H")

    def copy(self) -> Journal:
        """Return a copy to work on; states are never changed in place."""
        return Journal(self.state, self.tokens, self.loops)

    def replay_point(self) -> ReplayPoint:
        """Return the same for another back end."""
        return ReplayPoint(self.state.copy(), tuple(self.tokens), self.loops)


@dataclass(frozen=True)
class _Request:
    """A RUN in flight that feeds ``tokens`` (one that follows without its own: 1), then chooses ``count``."""

    sent: Sent
    tokens: int
    count: int

    @property
    def steps(self) -> int:
        return self.tokens + self.count


class RunPipeline:
    """The rest of one run, the requests in flight for it, and the tokens that came and were not yet taken.

    ``journal`` says where the session stands when the tokens taken by `pop` are all that counts. Only answers
    change it and what is left, so that `restart` can begin again from there, wherever the session is brought
    to that point.
    """

    def __init__(self, client: LinkClient, run: Run, journal: Journal) -> None:
        self._client, self._run, self.journal = client, run, journal
        self.rng = run.rng
        """Generator state behind the tokens that have come."""
        self._feed, self._left = list(run.tokens), run.count
        """Tokens to feed next of which no answer tells yet; tokens still to choose."""
        self._unsent = self._feed
        self._flight: deque[_Request] = deque()
        self._came: deque[int] = deque()
        self._fed: list[int] = []
        """Tokens fed before the first of those that came."""
        self.received = 0.0
        """When the last answer was received (time.perf_counter)."""

    @property
    def loops(self) -> int | None:
        """Runs of the program's loops that the run asks for."""
        return self._run.loops

    @property
    def all_sent(self) -> bool:
        """No request is left to be sent."""
        left = self._left - sum(request.count for request in self._flight)
        return not (left if self._run.count else self._unsent)

    @property
    def in_flight(self) -> bool:
        """A request was sent whose answer has not been received."""
        return bool(self._flight)

    @property
    def ready(self) -> bool:
        """`pop` has a token."""
        return bool(self._came)

    @property
    def done(self) -> bool:
        """All is chosen and taken, or where nothing is to be chosen, fed."""
        return not (self._came or (self._left if self._run.count else self._feed))

    def restart(self) -> None:
        """Drop the requests in flight; the next ones begin at ``journal``. All that came must be taken."""
        self._flight.clear()
        self._unsent = self._feed

    def send(self, base: int, chunk: int, journal_limit: int) -> None:
        """Send as many RUNs as may be in flight, each choosing up to ``chunk`` tokens, until the journal
        would have about ``journal_limit`` tokens.

        After the first only RUNs that follow are sent, and only while no other request was sent in between.
        """
        client = self._client
        room = journal_limit - len(self.journal.tokens) - len(self._fed) - len(self._came)
        while len(self._flight) < client.window and sum(request.steps for request in self._flight) < room:
            if self._flight and client.tail is not self._flight[-1].sent:
                return
            left = self._left - sum(request.count for request in self._flight)
            if not (left if self._run.count else self._unsent):
                return
            tokens, unsent = self._unsent[:MAX_PROMPT], self._unsent[MAX_PROMPT:]
            count = 0 if unsent else min(chunk, left)
            run = Run(tokens, count, self._run.sampling, self.rng)
            sent = client.post_run(base, run, follows=bool(self._flight))
            self._flight.append(_Request(sent, len(tokens) or 1, count))
            self._unsent = unsent

    def collect(self) -> RunAnswer:
        """Wait for the answer to the first request in flight. It counts when it is given to `accept`."""
        request = self._flight[0]
        return self._client.collect_run(request.sent, request.count)

    def accept(self, answer: RunAnswer) -> int:
        """Take over what `collect` returned; returns the number of tokens that the engine fed for it."""
        request = self._flight.popleft()
        fed, self._feed = self._feed[: request.tokens], self._feed[request.tokens :]
        if request.count:
            self._fed, self._came = fed, deque(answer.tokens)
            self._feed, self._left = answer.tokens[-1:], self._left - request.count
            self.rng = answer.rng
        else:
            self.journal.tokens.extend(fed)
        if not self._flight:
            self._unsent = self._feed
        return len(fed) + max(request.count - 1, 0)

    def pop(self) -> int:
        """Take the next token: the session then stands before it is fed."""
        token = self._came.popleft()
        self.journal.tokens.extend(self._fed)
        self._fed = [token] if self._came else []
        return token
