"""The format of a compressed text: header, blocks, index. docs/compress.md is the page.

Here are only bytes: what stands in a block is coded and decoded elsewhere. Every byte is under a CRC-32, and
a reader checks all lengths before it asks for memory.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ternac.errors import ArchiveError
from ternac.text.exact import TOKENS_A_BYTE

__all__ = ["MAX_BLOCK", "Block", "Entry", "Header", "Index", "Reader", "Writer"]

MAGIC, END_MAGIC, VERSION = b"TNCA", b"TNCZ", 1
MAX_BLOCK = 1 << 24
"""Largest block, in bytes of text."""
_HEADER = struct.Struct("<4sHHI32s")  # magic, version, zero, bytes of a block, program hash
_END = struct.Struct("<IQ32s")  # blocks, bytes of text, SHA-256 of the text
_TAIL = struct.Struct("<Q4s")  # place of the index, magic
_CRC = struct.Struct("<I")
_BLOCK, _INDEX = b"B", b"I"
_STORED, _LZMA = 0, 1
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
DAMAGED_HINT = "get the archive again, or take the text from another copy"


@dataclass(frozen=True)
class Header:
    """``program``: its hash, 32 bytes. ``block``: no block has more bytes of text."""

    program: bytes
    block: int


class Block(NamedTuple):
    """A block: ``text`` bytes with the CRC-32 ``check``, ``tokens`` of them in ``coded``; see
    `ternac.text.exact.Parts` for ``rest`` and ``runs``.
    """

    text: int
    check: int
    tokens: int
    coded: bytes
    rest: bytes = b""
    runs: tuple[int, ...] = ()


class Entry(NamedTuple):
    """A block's bytes of text, and in the archive."""

    text: int
    stored: int


@dataclass
class Index:
    """All blocks of an archive; ``digest``: SHA-256 of the text."""

    entries: list[Entry] = field(default_factory=list)
    digest: bytes = hashlib.sha256().digest()

    @property
    def text(self) -> int:
        """Bytes of the text."""
        return sum(entry.text for entry in self.entries)


def damaged(what: str) -> ArchiveError:
    """Return the error of an archive that is not as it was written."""
    return ArchiveError(f"the archive is damaged: {what}", DAMAGED_HINT)


class Writer:
    """Writes an archive to ``sink``, front to back."""

    def __init__(self, sink: BinaryIO, header: Header) -> None:
        self._sink, self.written = sink, 0
        self._index, self._digest = Index(), hashlib.sha256()
        self._put(_HEADER.pack(MAGIC, VERSION, 0, header.block, header.program))

    def block(self, block: Block, text: bytes) -> None:
        """Write a block, which stands for ``text``."""
        self._digest.update(text)
        rest = _packed(block.rest, block.runs)
        head = b"".join(map(_varint, (block.text, block.tokens, len(block.coded), len(rest))))
        before = self.written
        self._put(_BLOCK + head + _CRC.pack(block.check) + block.coded + rest)
        self._index.entries.append(Entry(block.text, self.written - before))

    def finish(self) -> None:
        """Write the index."""
        index = self._index
        entries = b"".join(_varint(entry.text) + _varint(entry.stored) for entry in index.entries)
        end = _END.pack(len(index.entries), index.text, self._digest.digest())
        self._put(_INDEX + end + entries + _TAIL.pack(self.written, END_MAGIC))

    def _put(self, data: bytes) -> None:
        """Write ``data`` with its CRC behind it."""
        self._sink.write(data + _CRC.pack(zlib.crc32(data)))
        self.written += len(data) + _CRC.size


class Reader:
    """Reads an archive from ``source``, of which ``at`` bytes are read. Raises ArchiveError at whatever is
    not as it was written.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._seen, self.at = source, 0, 0
        data = self._take(_HEADER.size)
        magic, version, zero, block, program = _HEADER.unpack(data)
        if magic != MAGIC:
            raise ArchiveError("this is no archive of ternac compress", "name one, mostly FILE.tnc")
        self._check()
        if version != VERSION or zero:
            raise ArchiveError(
                f"the archive is of version {version}, this reader knows {VERSION}", "update ternac"
            )
        if not 1 <= block <= MAX_BLOCK:
            raise damaged(f"blocks of {block} bytes")
        self.header = Header(program, block)
        self.index: Index | None = None
        """The index, once the last block has been read."""

    def blocks(self) -> Iterator[Block]:
        """Read on from block to block, and the index in the end, which must be that of the blocks."""
        entries: list[Entry] = []
        while True:
            before = self.at
            kind = self._take(1, fresh=True)
            if kind == _INDEX:
                break
            block = self._block(kind)
            entries.append(Entry(block.text, self.at - before))
            yield block
        index, place = self._read_index()
        if index.entries != entries or place != before:
            raise damaged("its index is not that of its blocks")
        if self._source.read(1):
            raise damaged("something follows its end")
        self.index = index

    def seek(self, start: int, end: int | None) -> Iterator[tuple[int, Block]]:
        """Read the index of a file, then the blocks with bytes ``start`` to ``end`` (None: all) of the text,
        each with its place in the text.
        """
        source, least = self._source, _TAIL.size + _CRC.size
        size = source.seek(0, 2)
        source.seek(max(0, size - least))
        tail = source.read(least)
        if len(tail) < least or tail[8:12] != END_MAGIC:
            raise damaged("it has no end")
        (place, _) = _TAIL.unpack(tail[: _TAIL.size])
        if not _HEADER.size < place < size:
            raise damaged("its index is nowhere")
        self.at = source.seek(place)
        if self._take(1, fresh=True) != _INDEX:
            raise damaged("its index is nowhere")
        index, said = self._read_index()
        header = _HEADER.size + _CRC.size
        if self.at != size or said != place or header + sum(e.stored for e in index.entries) != place:
            raise damaged("its index is not that of its blocks")
        self.index = index
        at = 0
        for entry in index.entries:
            if at + entry.text > start and (end is None or at < end):
                self.at = source.seek(header)
                block = self._block(self._take(1, fresh=True))
                if (block.text, self.at - header) != entry:
                    raise damaged("its index is not that of its blocks")
                yield at, block
            at, header = at + entry.text, header + entry.stored

    def _block(self, kind: bytes) -> Block:
        if kind != _BLOCK:
            raise damaged(f"a block begins with {kind.hex() or 'nothing'}")
        most = self.header.block
        text, tokens = self._number(most, "bytes"), self._number(TOKENS_A_BYTE * most, "tokens")
        coded, rest = self._number(5 * tokens + 8, "coded bytes"), self._number(8 * text + 64, "other bytes")
        if not text or tokens > TOKENS_A_BYTE * text:
            raise damaged(f"a block has {tokens} tokens for {text} bytes")
        (check,) = _CRC.unpack(self._take(_CRC.size))
        data, other = self._take(coded), self._take(rest)
        self._check()
        plain, runs = _unpacked(other, text)
        return Block(text, check, tokens, data, plain, runs)

    def _read_index(self) -> tuple[Index, int]:
        """Read behind the index's first byte; returns the index, and where it says that it begins."""
        count, total, digest = _END.unpack(self._take(_END.size))
        entries = []
        for _ in range(count):  # ends early where the bytes do
            text = self._number(self.header.block, "bytes")
            entries.append(Entry(text, self._number(1 << 32, "stored bytes")))
        place, magic = _TAIL.unpack(self._take(_TAIL.size))
        self._check()
        index = Index(entries, digest)
        if magic != END_MAGIC or index.text != total:
            raise damaged("its index does not add up")
        return index, place

    def _take(self, count: int, *, fresh: bool = False) -> bytes:
        """Read ``count`` bytes, which the next CRC is also of; ``fresh``: it begins here."""
        data = self._source.read(count)
        if len(data) < count:
            raise ArchiveError("the archive ends early", DAMAGED_HINT)
        self._seen = zlib.crc32(data, 0 if fresh else self._seen)
        self.at += count
        return data

    def _check(self) -> None:
        seen = self._seen
        if self._take(_CRC.size) != _CRC.pack(seen):
            raise damaged("a checksum is wrong")
        self._seen = 0

    def _number(self, most: int, what: str) -> int:
        """Read a number of at most ``most``, seven bits a byte, the lowest first."""
        found = shift = 0
        while True:
            (byte,) = self._take(1)
            found |= (byte & 127) << shift
            shift += 7
            if found > most or shift > 35:
                raise damaged(f"a block has {found} {what}, of at most {most}")
            if byte < 128:
                return found


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def _packed(rest: bytes, runs: tuple[int, ...]) -> bytes:
    """Number of runs, each run, how the rest is stored, the rest; nothing where there are no runs."""
    if not runs:
        return b""
    small = lzma.compress(rest, lzma.FORMAT_RAW, filters=_FILTERS)
    how, data = (_LZMA, small) if len(small) < len(rest) else (_STORED, rest)
    return _varint(len(runs)) + b"".join(map(_varint, runs)) + bytes((how,)) + data


def _unpacked(data: bytes, text: int) -> tuple[bytes, tuple[int, ...]]:
    """Inverse of `_packed`, for a block of ``text`` bytes."""
    if not data:
        return b"", ()
    numbers: list[int] = []
    at = 0
    while not numbers or len(numbers) <= numbers[0]:
        value = shift = 0
        while True:
            if at >= len(data) or shift > 35:
                raise damaged("the runs of a block do not add up")
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        numbers.append(value)
    runs, need = tuple(numbers[1:]), sum(numbers[2::2])
    if not runs or sum(runs) != text or at >= len(data):
        raise damaged("the runs of a block do not add up")
    how, rest = data[at], data[at + 1 :]
    if how == _LZMA:
        try:
            reader = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
            rest = reader.decompress(rest, need + 1)
        except lzma.LZMAError:
            raise damaged("the rest of a block cannot be read") from None
    elif how != _STORED:
        raise damaged(f"the rest of a block is stored in the way {how}")
    if len(rest) != need:
        raise damaged("the rest of a block has another length")
    return rest, runs
