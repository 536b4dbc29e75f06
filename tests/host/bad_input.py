"""What the executors with prompts and generation refuse alike."""

from __future__ import annotations

from typing import Any

import pytest

from ternac.errors import UsageError
from ternac.run.sampling import GREEDY


def refuses_bad_input(executor: Any, state: Any) -> None:
    """Tokens, slots, states and generators that ``executor``, of a program with 9 tokens, must refuse;
    ``state``: two sessions of it.
    """
    for tokens in ([0, 9], [-1, 0], [0.5, 1.0], [0], []):
        with pytest.raises(UsageError):
            executor.step(state, tokens)
    with pytest.raises(UsageError, match="state is int32"):
        executor.step(state.astype("int32"), [0, 1])
    with pytest.raises(UsageError, match=r"a slot is outside 0\.\.1"):
        executor.feed(state, [0, 1], [0, 2])
    with pytest.raises(UsageError, match="one length"):
        executor.feed(state, [0, 1], [0])
    with pytest.raises(UsageError, match="count of at least 1"):
        executor.generate(state, [0, 1], 0, GREEDY, [1, 1])
    with pytest.raises(UsageError, match="generator state"):
        executor.generate(state, [0, 1], 1, GREEDY, [1, 0])
