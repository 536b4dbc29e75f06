"""The constants of a program beside its trits, in two pieces of device memory: bytes and 16-bit words."""

from __future__ import annotations

import numpy as np
import torch

from ternac.program.program import Program

NARROW = ("embed",)


class Constants:
    """``bytes`` int8: embeddings; ``words`` int16: tables, norm tables, gains, curves, wide embeddings.

    ``offset``: where each constant begins, in elements of its piece.
    """

    def __init__(self, program: Program, device: torch.device | str) -> None:
        self.offset: dict[str, int] = {}
        parts: dict[str, list[np.ndarray]] = {"bytes": [], "words": []}
        sizes = {"bytes": 0, "words": 0}
        for name, role in program.roles().items():
            if role == "trits":
                continue
            piece = "bytes" if role in NARROW else "words"
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

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.bytes.numel() + 2 * self.words.numel()
