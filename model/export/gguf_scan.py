"""The header of a GGUF file, walked before the `gguf` package sees it: every count against the file's size.

    "GGUF", version u32, tensors u64, entries u64
    entries              name, type u32, value
    tensors              name, dimensions u32, each u64, type u32, offset u64

The package believes what a header says: 49 bytes that promise an array of 2^40 elements keep it busy for
days. It also needs up to 0.1 ms for each item, so their number is limited, and it is not shown long arrays:
none of them says anything that is used here.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from ternac import limits
from ternac.errors import BadProgramFile

MAGIC = b"GGUF"
MOST_DIMENSIONS = 4
MOST_NESTING = 4
"""Arrays in arrays."""
LONG = 1000
"""Elements of an array that is not shown to the package."""
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the types that have a fixed size."""
LEAST_ENTRY = 8 + 4 + 1
LEAST_TENSOR = 8 + 4 + 4 + 8


def check_header(path: Path) -> dict[int, int]:
    """Return where the long arrays of a GGUF file's header begin, and their bytes.

    Raises BadProgramFile if it promises more than the file has, OverBudget if it has more items or elements
    than `ternac.limits` allows.
    """
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                raise BadProgramFile(f"{path} is not a readable GGUF file: it is empty", "get it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Walk(data, path).arrays()
    except OSError as error:
        raise BadProgramFile(f"cannot read {path}: {error.strerror or error}") from None


class _Walk:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path = data, path
        self._at = 0
        self._order = "<"
        self._items = self._elements = 0

    def arrays(self) -> dict[int, int]:
        if self._data[: len(MAGIC)] != MAGIC:
            raise self._bad("it does not begin with GGUF")
        self._skip(len(MAGIC))
        version = self._number("I")
        if not version & 0xFFFF:  # written on a machine of the other byte order
            self._order = ">"
        tensors, entries = self._number("Q"), self._number("Q")
        self._need(tensors * LEAST_TENSOR + entries * LEAST_ENTRY, f"{tensors} tensors and {entries} entries")
        self._count(tensors + entries)
        found: dict[int, int] = {}
        for _ in range(entries):
            self._strings(1)
            kind = self._number("I")
            start = self._at
            if self._value(kind, 0) > LONG:
                found[start] = self._at - start
        for _ in range(tensors):
            self._strings(1)
            dimensions = self._number("I")
            if dimensions > MOST_DIMENSIONS:
                raise self._bad(f"a tensor has {dimensions} dimensions, at most {MOST_DIMENSIONS} are known")
            self._skip(8 * dimensions + 4)
            offset = self._number("Q")
            if offset > len(self._data):
                raise self._bad(f"a tensor begins {offset} bytes behind the header of a shorter file")
        return found

    def _value(self, kind: int, depth: int) -> int:
        """Walk over a value; returns its elements, those of arrays in it among them."""
        elements = 0
        if kind in SIZES:
            self._skip(SIZES[kind])
        elif kind == STRING:
            self._strings(1)
        elif kind == ARRAY and depth < MOST_NESTING:
            kind, count = self._number("I"), self._number("Q")
            least = SIZES.get(kind, 8)
            self._need(count * least, f"an array of {count} elements")
            elements = count
            self._elements += count
            limits.GGUF_ELEMENTS.require(self._elements, str(self._path))
            if kind in SIZES:
                self._skip(count * least)
            elif kind == STRING:
                self._strings(count)
            else:
                for _ in range(count):
                    elements += self._value(kind, depth + 1)
            if not depth and elements <= LONG:
                self._count(elements)
        else:
            raise self._bad(f"a value of type {kind} is unknown")
        return elements

    def _count(self, more: int) -> None:
        self._items += more
        limits.GGUF_ITEMS.require(self._items, str(self._path))

    def _strings(self, count: int) -> None:
        length = struct.Struct(self._order + "Q")
        at = self._at
        try:
            for _ in range(count):
                at += length.size + length.unpack_from(self._data, at)[0]
        except (struct.error, OverflowError):
            raise self._bad("the header is cut off") from None
        self._need(at - self._at, f"a text up to byte {at}")
        self._at = at

    def _number(self, form: str) -> int:
        number = struct.Struct(self._order + form)
        self._need(number.size, "a number")
        found: int = number.unpack_from(self._data, self._at)[0]
        self._at += number.size
        return found

    def _skip(self, count: int) -> None:
        self._need(count, f"{count} bytes")
        self._at += count

    def _need(self, count: int, what: str) -> None:
        left = len(self._data) - self._at
        if count > left:
            raise self._bad(f"the header promises {what}, {left} bytes are left")

    def _bad(self, reason: str) -> BadProgramFile:
        return BadProgramFile(f"{self._path} is not a readable GGUF file: {reason}", "get it again")
