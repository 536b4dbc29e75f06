"""External memory of a wide program: weights, constants in the order of their use, rows of the embedding.

All in one region, each part from a multiple of `PAGE` on. An element is an i16, lowest byte first; a word is
``lanes`` of them, lowest lane first. Constants are words without gaps, up to the last beat of the port, which
is filled with zeros. A row of the embedding is words likewise, filled up to whole beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PAGE", "MemoryMap", "lay_out"]

PAGE = 4096
"""No burst crosses a multiple of this."""


@dataclass(frozen=True)
class MemoryMap:
    """Bytes of external memory and where its parts begin.

    ``constant_words`` of a token; ``row_words`` of a row of the embedding, and ``row_bytes`` from one to the
    next.
    """

    image: npt.NDArray[np.uint8]
    weights: int
    constants: int
    constant_words: int
    rows: int
    row_words: int
    row_bytes: int


def lay_out(
    weights: npt.NDArray[np.uint8],
    constants: npt.NDArray[np.int16],
    embedding: npt.NDArray[np.int16],
    port_bytes: int,
) -> MemoryMap:
    """Place packed ``weights``, ``constants`` [words, lanes] and ``embedding`` [tokens, words, lanes].

    Raises ValueError if constants and embedding do not have as many lanes.
    """
    if constants.shape[-1] != embedding.shape[-1]:
        raise ValueError(f"constants have {constants.shape[-1]} lanes, the embedding {embedding.shape[-1]}")
    rows = _beats(embedding.reshape(len(embedding), -1), port_bytes)
    parts = [weights.reshape(-1), _beats(constants.reshape(1, -1), port_bytes).reshape(-1), rows.reshape(-1)]
    places, at = [], 0
    for part in parts:
        places.append(at)
        at += -(-part.size // PAGE) * PAGE
    image = np.zeros(at, np.uint8)
    for place, part in zip(places, parts, strict=True):
        image[place : place + part.size] = part
    return MemoryMap(
        image, places[0], places[1], len(constants), places[2], embedding.shape[1], rows.shape[1]
    )


def _beats(x: npt.NDArray[Any], port_bytes: int) -> npt.NDArray[np.uint8]:
    """Bytes of each row, filled up to whole beats."""
    data = np.ascontiguousarray(x, "<i2").view(np.uint8)
    return np.pad(data, ((0, 0), (0, -data.shape[1] % port_bytes)))
