"""A text that is generated: what is asked of a session, and where the session stands after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ternac.run.sampling import GREEDY, Sampling

__all__ = ["Chosen", "Run"]


@dataclass(frozen=True)
class Run:
    """Feed ``tokens``, then choose ``count`` tokens, each by ``sampling`` from the logits of the one before.

    The last token chosen is not fed; with ``count`` 0 all of ``tokens`` are fed and nothing is chosen.
    ``rng`` is the generator state (1..2**32-1) before the first choice; argmax does not use it.
    """

    tokens: Sequence[int]
    count: int = 0
    sampling: Sampling = GREEDY
    rng: int = 1

    @property
    def steps(self) -> int:
        """Tokens that are fed."""
        return len(self.tokens) + max(self.count - 1, 0)


class Chosen(NamedTuple):
    """The outcome of a `Run`: the tokens chosen and the generator state after them."""

    tokens: list[int]
    rng: int
