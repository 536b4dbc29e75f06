"""Ternary matrices as the kernels read them: 2 or 1.6 bits per weight, in one piece of aligned memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.native.library import load

BITS = {"2": 4, "1.6": 5}
"""Bits per weight, as users write it, to trits per byte."""
FIVE_FROM = 32 << 20
"""Bytes at 2 bits from which 1.6 bits are the better choice: what a last-level cache hardly holds."""


class Weights:
    """Packed matrices by name, [rows, columns] each.

    ``lanes`` 8 or 16 and ``trits`` 4 or 5 decide the layout (host/native/weights.c). Memory is taken at once
    for all ``shapes``; then :meth:`put` each matrix. The memory is freed with the object.
    """

    def __init__(self, shapes: dict[str, tuple[int, int]], lanes: int, trits: int) -> None:
        self._ffi, self._lib = load()
        self.lanes, self.trits, self.shapes = lanes, trits, dict(shapes)
        self._offsets: dict[str, int] = {}
        total = 0
        for name, (rows, columns) in shapes.items():
            self._offsets[name] = total
            total += -(-self._lib.tn_packed_size(lanes, trits, rows, columns) // 64) * 64
        self.nbytes = total + 8192  # kernels fetch a little ahead
        memory = self._lib.tn_alloc(self.nbytes)
        if memory == self._ffi.NULL:
            raise UsageError(f"the system refuses {self.nbytes:,} bytes for the packed weights")
        size = self.nbytes
        lib = self._lib
        self._memory = self._ffi.gc(memory, lambda pointer: lib.tn_free(pointer, size), size)

    def pointer(self, name: str) -> Any:
        """Address of a packed matrix, `const void *`."""
        return self._ffi.cast("uint8_t *", self._memory) + self._offsets[name]

    def packed_size(self, name: str) -> int:
        """Bytes of a packed matrix."""
        return int(self._lib.tn_packed_size(self.lanes, self.trits, *self.shapes[name]))

    def put(self, name: str, matrix: npt.NDArray[np.int8]) -> None:
        """Pack a matrix, int8 in -1..1, into its place."""
        rows, columns = self.shapes[name]
        if matrix.shape != (rows, columns) or matrix.dtype != np.int8:
            raise UsageError(
                f"matrix {name} is {matrix.dtype}{list(matrix.shape)}, needs int8[{rows}, {columns}]"
            )
        source = self._ffi.from_buffer("int8_t[]", np.ascontiguousarray(matrix))
        self._lib.tn_pack(self.lanes, self.trits, source, rows, columns, self.pointer(name))

    def bytes_of(self, name: str) -> npt.NDArray[np.uint8]:
        """The packed bytes of a matrix, writable."""
        size = self.packed_size(name)
        return np.frombuffer(self._ffi.buffer(self.pointer(name), size), np.uint8)

    def get(self, name: str) -> npt.NDArray[np.int8]:
        """Inverse of :meth:`put`."""
        rows, columns = self.shapes[name]
        codes = self.bytes_of(name).reshape(-1, -(-columns // 16) * 4, self.lanes, 4).astype(np.int16)
        base = 4 if self.trits == 4 else 3
        digits = np.stack([codes // base**j % base - 1 for j in range(self.trits)], axis=1)
        whole = digits.transpose(0, 1, 3, 2, 4).reshape(
            -1, codes.shape[1] * 4
        )  # block, group, lane | quad, column
        return whole[:rows, :columns].astype(np.int8)


def pack_all(matrices: dict[str, npt.NDArray[np.int8]], lanes: int, trits: int) -> Weights:
    """All matrices packed."""
    shapes = {name: (int(m.shape[0]), int(m.shape[1])) for name, m in matrices.items()}
    packed = Weights(shapes, lanes, trits)
    for name, matrix in matrices.items():
        packed.put(name, matrix)
    return packed


def trits_per_byte(bits: str | None, isa: str, sizes: Iterable[tuple[int, int]]) -> int:
    """4 or 5 from the user's ``bits`` ("2", "1.6"; None: 1.6 where memory is the limit and decoding is
    cheap).
    """
    if bits is not None:
        if bits not in BITS:
            raise UsageError(f"{bits!r} bits per weight", f"choose from: {', '.join(BITS)}")
        return BITS[bits]
    large = sum(rows * columns for rows, columns in sizes) // 4 > FIVE_FROM
    return 5 if large and isa == "avx512vnni" else 4
