"""Device memory of the executor: constants, states of sessions, tokens and values of the rows in flight."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ternac.host.gpu.plan import Places
from ternac.program.ops import Role, roles_of
from ternac.program.program import Program

__all__ = ["Constants", "Rows", "Values", "piece_of"]


def piece_of(role: Role) -> str:
    """Return the piece of `Constants` that holds constants of ``role``."""
    return "bytes" if role.dtype is np.int8 else "words"


class Constants:
    """The constants of a program except its trits, in two pieces of device memory.

    ``bytes`` int8: embeddings; ``words`` int16: tables, norm tables, gains, curves, wide embeddings.

    ``offset``: where each constant begins, in elements of its piece.
    """

    def __init__(self, program: Program, device: torch.device | str) -> None:
        self.offset: dict[str, int] = {}
        parts: dict[str, list[np.ndarray]] = {"bytes": [], "words": []}
        sizes = {"bytes": 0, "words": 0}
        for name, role in roles_of(program.ops, program.consts).items():
            if role.name == "trits":
                continue
            piece = piece_of(role)
            array = program.consts[name].reshape(-1)
            self.offset[name] = sizes[piece]
            padded = np.zeros(-(-len(array) // 64) * 64, np.int8 if piece == "bytes" else np.int16)
            padded[: len(array)] = array
            parts[piece].append(padded)
            sizes[piece] += len(padded)
        self.bytes = torch.from_numpy(np.concatenate([np.zeros(64, np.int8), *parts["bytes"]])[64:])
        self.words = torch.from_numpy(np.concatenate([np.zeros(64, np.int16), *parts["words"]])[64:])
        if not len(self.bytes):
            self.bytes = torch.zeros(64, dtype=torch.int8)
        if not len(self.words):
            self.words = torch.zeros(64, dtype=torch.int16)
        self.bytes, self.words = self.bytes.to(device), self.words.to(device)

    def piece(self, name: str) -> Tensor:
        """Return the array of ``name``, which is bytes or words."""
        return self.bytes if name == "bytes" else self.words

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.bytes.numel() + 2 * self.words.numel()


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

    def of_bits(self, bits: int) -> Tensor:
        """The area whose elements have ``bits`` bits."""
        return {8: self.small, 16: self.middle, 32: self.large}[bits]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.small, self.middle, self.large))


class Rows:
    """Inputs and results of the rows of a launch: ``tokens``, the ``slots`` of their sessions in ``states``
    (int16 [slots, state words]), generators and chosen tokens. Static buffers, so that graphs can hold them.

    With 0 ``slots`` the executor puts a tensor of its own there.

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
