"""Device memory of the executor: states of sessions, tokens and values of the rows that run at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ternac.host.gpu.places import Places

__all__ = ["Rows", "Values"]


class Values:
    """The three areas of values that outlive a phase, [rows, elements] each, for one plan."""

    def __init__(self, places: Places, rows: int, device: torch.device) -> None:
        def area(dtype: torch.dtype, name: str) -> Tensor:
            return torch.zeros(rows, places.sizes[name], dtype=dtype, device=device)

        self.rows = rows
        self.small, self.middle = area(torch.int8, "i8"), area(torch.int16, "i16")
        self.large = area(torch.int32, "acc")

    def area(self, dtype: str) -> Tensor:
        """The area of a dtype: i8, i16 or acc."""
        return {"i8": self.small, "i16": self.middle, "acc": self.large}[dtype]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.small, self.middle, self.large))


class Rows:
    """What the rows of a launch are about: their ``tokens`` and the ``slots`` of their sessions in ``states``
    (int16 [slots, state words]), generators and chosen tokens. Static buffers, so that graphs can hold them.

    ``at``: how many tokens of a row have been chosen; ``settings``: m, s, top_k of the sampling.
    """

    def __init__(self, rows: int, slots: int, words: int, chosen: int, device: torch.device) -> None:
        def integers(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.device, self.count = device, rows
        self.tokens, self.slots = integers(torch.int32, rows), integers(torch.int32, rows)
        self.states = integers(torch.int16, slots, max(words, 1))
        self.rngs, self.at = integers(torch.int64, rows), integers(torch.int64, rows)
        self.chosen = integers(torch.int32, rows, chosen)
        self.settings = integers(torch.int64, 3)
