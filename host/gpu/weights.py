"""Ternary matrices as the GPU kernels read them: 2 bits a weight, four rows in a byte.

With G = ceil(rows / 4), group g of a matrix holds the rows g, G + g, 2 G + g and 3 G + g. A byte is one
column of a group: bit pair j is trit + 1 of row j G + g. Four columns make a little-endian 32-bit word, which
is what ``dp4a`` multiplies with four activations; a word masked to one bit pair gives that row's share times
4**j. A group is ``words`` words, a multiple of four so that threads read 16 bytes. Places beyond the matrix
hold trit 0.

The +1 of the codes is undone by subtracting the sum of the activations, which takes out whatever stands in
the activations beyond the last column, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ternac.errors import UsageError

ROWS = 4
"""Rows of a group."""
EMPTY = 0x55
"""A byte of four zero trits."""


@dataclass(frozen=True)
class Place:
    """One packed matrix: its shape, and where it begins in the memory of all, in words."""

    rows: int
    columns: int
    start: int

    @property
    def groups(self) -> int:
        """Groups of four rows."""
        return -(-self.rows // ROWS)

    @property
    def words(self) -> int:
        """Words of a group."""
        return -(-self.columns // 16) * 4

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        return self.groups * self.words * 4


class Weights:
    """Packed matrices by name, in one int32 tensor ``memory`` on ``device``."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], device: torch.device | str) -> None:
        self.places: dict[str, Place] = {}
        total = 0
        for name, (rows, columns) in shapes.items():
            place = self.places[name] = Place(rows, columns, total)
            total += place.groups * place.words
        self.memory = torch.empty(max(total, 4), dtype=torch.int32, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.memory.numel() * 4

    def words_of(self, name: str) -> Tensor:
        """The words of a matrix, int32 [groups, words], writable."""
        place = self.places[name]
        return self.memory[place.start :][: place.groups * place.words].view(place.groups, place.words)

    def put(self, name: str, matrix: npt.NDArray[np.int8]) -> None:
        """Pack a matrix, int8 in -1..1, into its place. Raises UsageError if shape or type differ."""
        place = self.places[name]
        if matrix.shape != (place.rows, place.columns) or matrix.dtype != np.int8:
            wanted = f"int8[{place.rows}, {place.columns}]"
            raise UsageError(f"matrix {name} is {matrix.dtype}{list(matrix.shape)}, needs {wanted}")
        codes = np.ones((ROWS, place.groups, place.words * 4), np.uint8)
        whole = codes.reshape(ROWS * place.groups, -1)
        whole[: place.rows, : place.columns] = matrix + 1
        packed = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6
        self.words_of(name).copy_(torch.from_numpy(packed.view(np.int32)))

    def get(self, name: str) -> Tensor:
        """Inverse of :meth:`put`: int8 [rows, columns] on the device."""
        place = self.places[name]
        codes = self.words_of(name).view(torch.uint8).view(place.groups, -1)
        trits = torch.stack([(codes >> 2 * j & 3).to(torch.int8) - 1 for j in range(ROWS)])
        return trits.flatten(0, 1)[: place.rows, : place.columns]


def pack_all(matrices: Mapping[str, npt.NDArray[np.int8]], device: torch.device | str) -> Weights:
    """All matrices packed."""
    shapes = {name: (int(m.shape[0]), int(m.shape[1])) for name, m in matrices.items()}
    packed = Weights(shapes, device)
    for name, matrix in matrices.items():
        packed.put(name, matrix)
    return packed


def fill_random(weights: Weights, seed: int) -> None:
    """Random trits in every place, drawn as packed words on the device: for measurements."""
    device = weights.memory.device
    generator = torch.Generator(device).manual_seed(seed)
    codes = torch.arange(81, device=device)
    legal = sum((codes // 3**j % 3) << 2 * j for j in range(4))
    assert isinstance(legal, Tensor)
    quads = weights.memory.view(torch.uint8)
    step = 1 << 24
    for at in range(0, len(quads), step):
        part = quads[at : at + step]
        drawn = torch.randint(0, 81, (len(part),), generator=generator, device=device)
        part.copy_(legal[drawn].to(torch.uint8))
