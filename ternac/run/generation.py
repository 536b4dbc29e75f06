"""A text that is generated: what is asked of a session, and the rules by which it advances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ternac.errors import UsageError
from ternac.run.executor import State
from ternac.run.sampling import GREEDY, Sampling, xorshift32
from ternac.run.snapshot import Snapshot

__all__ = ["Chosen", "Generation", "Run"]


@dataclass(frozen=True)
class Run:
    """Feed ``tokens``, then choose ``count`` tokens, each by ``sampling`` from the logits of the one before.

    The last token chosen is not fed; with ``count`` 0 all of ``tokens`` are fed and nothing is chosen.
    ``rng`` is the generator state (1..2**32-1) before the first choice; argmax does not use it.
    ``loops``: runs of the program's loops (`ternac.program.loops`) at every token fed; None: as it says.
    """

    tokens: Sequence[int]
    count: int = 0
    sampling: Sampling = GREEDY
    rng: int = 1
    loops: int | None = None

    @property
    def steps(self) -> int:
        """Tokens that are fed."""
        return len(self.tokens) + max(self.count - 1, 0)


class Chosen(NamedTuple):
    """The outcome of a `Run`: the tokens chosen and the generator state after them."""

    tokens: list[int]
    rng: int


@dataclass(slots=True)
class Generation:
    """The position of a session in its text; its state is kept elsewhere.

    ``vocab``: tokens of the program. ``rng``: generator state. ``pending``: the token chosen last, which is
    fed first when generation continues, or None. ``fed``: tokens that the state has seen.
    """

    vocab: int
    rng: int
    pending: int | None = None
    fed: int = 0

    def feed(self, prompt: Iterable[int], count: int) -> list[int]:
        """Return the tokens to feed before ``count`` are chosen: the pending one, then ``prompt``.

        Raises UsageError if there are none, one is outside the vocabulary, or ``count`` is negative.
        """
        tokens = [int(token) for token in prompt]
        if self.pending is not None:
            tokens.insert(0, self.pending)
        if not tokens:
            raise UsageError("nothing to continue: the prompt of a new session is empty")
        if count < 0:
            raise UsageError(f"number of tokens is {count}, needs at least 0")
        self.check(tokens)
        return tokens

    @property
    def new(self) -> bool:
        """Nothing was fed or chosen yet: a prompt begins the text."""
        return self.pending is None and not self.fed

    def check(self, tokens: Iterable[int]) -> None:
        """Raises UsageError if a token is outside the vocabulary."""
        bad = next((token for token in tokens if not 0 <= token < self.vocab), None)
        if bad is not None:
            raise UsageError(f"token {bad} is outside 0..{self.vocab - 1}")

    def advance(self, feed: Sequence[int], chosen: Sequence[int], sampling: Sampling) -> None:
        """Move to behind ``chosen``, by ``sampling`` after ``feed``; the last of both together is pending.

        The generator moves once for every token drawn, so that any part of a run can be taken over.
        """
        self.pending = chosen[-1] if chosen else feed[-1]
        self.fed += len(feed) + len(chosen) - 1
        if not sampling.greedy:
            for _ in chosen:
                self.rng = xorshift32(self.rng)

    def stepped(self) -> None:
        """Move by one token that was fed on its own, in place of the pending one."""
        self.pending = None
        self.fed += 1

    def snapshot(self, state: State) -> Snapshot:
        """The session at rest in ``state``."""
        return Snapshot(state, self.rng, self.pending, self.fed)

    def restore(self, found: Snapshot) -> None:
        """Move to where ``found`` was taken."""
        self.rng, self.pending, self.fed = found.rng, found.pending, found.fed
