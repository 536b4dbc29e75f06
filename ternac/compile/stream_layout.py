"""Layout of trit matrices in external memory for the streaming dot engine, and their descriptors.

A word is as wide as the port, ``port_bytes`` bytes. Byte b of a word holds column b of the word's columns in
``encoding.rows`` consecutive rows: one activation per byte, however many trits the byte holds. So a word of
weights meets a word of as many activations, and a port of 16 bytes at 1.6 bits feeds 5 rows x 16 columns a
cycle. A matrix is its row groups in order; a group is its words in order, columns upwards. Rows and columns
are padded with zero trits. See docs/streaming.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.packing import pack2
from ternac.program.trit_code import DECODE, pack_code5

__all__ = ["Descriptor", "Encoding", "matrix_words", "pack_matrix", "unpack_matrix"]

_TWO_BITS = np.array([0, 1, 0, -1], np.int8)[np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3]


class Encoding(enum.Enum):
    """Code of the trits in a byte of streamed weights."""

    #: Four trits, each nonzero and negative, as ``ternac.program.packing.pack2``.
    TWO = "2bit"
    #: Five trits in the code of ``ternac.program.trit_code``.
    FIVE = "1.6bit"

    @property
    def rows(self) -> int:
        """Trits per byte, which is rows per row group."""
        return 4 if self is Encoding.TWO else 5

    @property
    def table(self) -> npt.NDArray[np.int8]:
        """int8[256, rows]: the trits of every byte."""
        return _TWO_BITS if self is Encoding.TWO else DECODE


@dataclass(frozen=True)
class Descriptor:
    """One matrix in external memory and where its activations lie.

    ``address`` in bytes, a multiple of the port's; ``words`` per row group; ``rows``; ``x_base`` in words of
    activation memory; ``fence``: wait for a pulse of ``x_ready`` before the first product.
    """

    address: int
    rows: int
    words: int
    x_base: int = 0
    fence: bool = False

    def groups(self, encoding: Encoding) -> int:
        """Return the number of row groups, the last of which may be padded."""
        return -(-self.rows // encoding.rows)

    def beats(self, encoding: Encoding) -> int:
        """Return the words of memory that the matrix takes."""
        return self.groups(encoding) * self.words


def matrix_words(rows: int, columns: int, port_bytes: int, encoding: Encoding) -> int:
    """Return the words that a matrix takes in memory."""
    return -(-rows // encoding.rows) * -(-columns // port_bytes)


def pack_matrix(trits: npt.NDArray[Any], port_bytes: int, encoding: Encoding) -> npt.NDArray[np.uint8]:
    """Pack int8[rows, columns] into uint8[words * port_bytes].

    Raises ValueError if a trit is not -1, 0 or 1.
    """
    rows, columns = trits.shape
    groups, words = -(-rows // encoding.rows), -(-columns // port_bytes)
    padded = np.zeros((groups * encoding.rows, words * port_bytes), np.int8)
    padded[:rows, :columns] = trits
    ordered = padded.reshape(groups, encoding.rows, words, port_bytes).transpose(0, 2, 3, 1)
    return (pack2 if encoding is Encoding.TWO else pack_code5)(ordered)


def unpack_matrix(
    data: npt.NDArray[np.uint8], rows: int, columns: int, port_bytes: int, encoding: Encoding
) -> npt.NDArray[np.int8]:
    """Return int8[rows, columns], the inverse of `pack_matrix`; padding is ignored."""
    groups, words = -(-rows // encoding.rows), -(-columns // port_bytes)
    codes = encoding.table[data.reshape(groups, words, port_bytes)]
    return codes.transpose(0, 3, 1, 2).reshape(groups * encoding.rows, words * port_bytes)[:rows, :columns]
