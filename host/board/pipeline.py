"""A text as a chain of RUNs, each following the one before, so that the engine does not wait for the line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ternac.host.board.client import LinkClient, RunAnswer, Sent
from ternac.link import MAX_PROMPT
from ternac.run.generation import Run

__all__ = ["Chain"]


@dataclass(frozen=True)
class _Link:
    """A RUN that feeds ``tokens`` (one that goes on: one), then chooses ``count``."""

    sent: Sent
    tokens: int
    count: int

    @property
    def steps(self) -> int:
        return self.tokens + self.count


class Chain:
    """What is still to be run of one text, and the RUNs under way for it.

    ``feed`` are the tokens that come next and of which no answer tells yet: of the prompt, later the one
    chosen last; ``left`` so many are still to be chosen; ``rng`` the generator there. Only answers change
    these, so a chain can begin anew from them wherever the session is brought to this point again.
    """

    def __init__(self, client: LinkClient, run: Run) -> None:
        self._client, self._sampling, self._chooses = client, run.sampling, run.count > 0
        self.feed, self.left, self.rng = list(run.tokens), run.count, run.rng
        self._unsent = self.feed
        self._links: deque[_Link] = deque()
        self.taken = 0.0
        """When the last answer was taken."""

    @property
    def done(self) -> bool:
        """All is chosen, or where nothing was to be chosen, fed."""
        return not (self.left if self._chooses else self.feed)

    @property
    def under_way(self) -> bool:
        """Something was sent whose answer has not been taken."""
        return bool(self._links)

    def restart(self) -> None:
        """Forget what is under way."""
        self._links.clear()
        self._unsent = self.feed

    def send(self, base: int, chunk: int, most: int) -> None:
        """Send as many RUNs as may be under way: ``chunk`` tokens in each, about ``most`` tokens in all.

        Behind its own it sends only what follows, and only if nobody else has sent anything since.
        """
        client = self._client
        while len(self._links) < client.window and sum(link.steps for link in self._links) < most:
            if self._links and client.tail is not self._links[-1].sent:
                return
            wanted = self.left - sum(link.count for link in self._links)
            if not (wanted if self._chooses else self._unsent):
                return
            tokens, unsent = self._unsent[:MAX_PROMPT], self._unsent[MAX_PROMPT:]
            count = 0 if unsent else min(chunk, wanted)
            run = Run(tokens, count, self._sampling, self.rng)
            sent = client.post_run(base, run, follows=bool(self._links))
            self._links.append(_Link(sent, len(tokens) or 1, count))
            self._unsent = unsent

    def take(self, sure: Callable[[], None] = lambda: None) -> tuple[list[int], RunAnswer]:
        """The first answer under way: the tokens fed before the first one chosen, and the answer.

        Gap and other DeviceErrors as of the client, or of ``sure``, which says whether an answer counts.
        """
        link = self._links[0]
        answer = self._client.collect_run(link.sent)
        sure()
        self._links.popleft()
        fed, self.feed = self.feed[: link.tokens], self.feed[link.tokens :]
        if link.count:
            self.feed, self.left, self.rng = answer.tokens[-1:], self.left - link.count, answer.rng
        if not self._links:
            self._unsent = self.feed
        return fed, answer
