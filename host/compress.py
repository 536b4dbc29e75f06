"""Compress a stream by a program's predictions, and back: blocks, several at a time, in constant memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from ternac.errors import ArchiveError, WrongProgram
from ternac.program import zoo
from ternac.program.program import Program
from ternac.run.archive import Block, Header, Index, Reader, Writer, damaged
from ternac.run.texts import Coder
from ternac.text.exact import Parts, blocks, join, split
from ternac.text.tokenizer import Tokenizer, tokenizer_of

__all__ = ["BLOCK", "Totals", "compress", "decompress", "find_program", "read_range"]

BLOCK = 1 << 17
"""Bytes of text in a block."""
SPLITTERS = 2
"""Threads that find the tokens of blocks: the tokenizer's work is done outside of Python."""
Tell = Callable[[int], None]
T = TypeVar("T")


@dataclass
class Totals:
    """What was done. ``rest``: bytes that are not in tokens; ``cost``: of all tokens, in 1/65536 bit."""

    text: int = 0
    stored: int = 0
    blocks: int = 0
    tokens: int = 0
    rest: int = 0
    cost: int = 0


def compress(
    source: Iterable[bytes],
    sink: BinaryIO,
    coder: Coder,
    *,
    block: int = BLOCK,
    tell: Tell = lambda done: None,
) -> Totals:
    """Write the archive of a stream; ``tell`` gets the bytes done.

    Raises UsageError if the program has no tokenizer and is not over bytes.
    """
    program = coder.program
    tokenizer = tokenizer_of(program, assume_bytes=True)
    writer, totals = Writer(sink, Header(bytes.fromhex(program.hash), block)), Totals()
    cut = partial(split, tokenizer, program.vocab)
    with ThreadPoolExecutor(SPLITTERS) as pool:
        for texts, parts in _ahead(pool, cut, _groups(blocks(source, block), coder.rows)):
            made = coder.encode([part.tokens for part in parts])
            for text, part, coded in zip(texts, parts, made, strict=True):
                check = zlib.crc32(text)
                one = Block(len(text), check, len(part.tokens), coded.data, part.rest, part.runs)
                writer.block(one, text)
                totals.text += len(text)
                totals.blocks += 1
                totals.tokens += len(part.tokens)
                totals.rest += len(part.rest)
                totals.cost += coded.cost
            tell(totals.text)
    writer.finish()
    totals.stored = writer.written
    return totals


def decompress(reader: Reader, sink: BinaryIO, coder: Coder, *, tell: Tell = lambda done: None) -> Totals:
    """Write the text of an archive, each block when it has been checked; ``tell`` gets the bytes of the
    archive that are done.

    Raises WrongProgram if it was made with another program than the coder's, ArchiveError if it is damaged.
    """
    totals, digest = Totals(), hashlib.sha256()
    _need(coder.program, reader.header)
    tokenizer = tokenizer_of(coder.program, assume_bytes=True)
    for group in _groups(reader.blocks(), coder.rows):
        for text in _texts(coder, tokenizer, group):
            sink.write(text)
            digest.update(text)
            totals.text += len(text)
        totals.blocks += len(group)
        totals.tokens += sum(block.tokens for block in group)
        totals.rest += sum(len(block.rest) for block in group)
        tell(reader.at)
    totals.stored = reader.at
    assert reader.index is not None
    if digest.digest() != reader.index.digest:
        raise damaged("its text has another SHA-256")
    return totals


def read_range(reader: Reader, sink: BinaryIO, coder: Coder, start: int, end: int | None) -> Totals:
    """Write the bytes ``start`` to ``end`` (None: the last) of the text of an archive; only the blocks with
    them are read. Raises as `decompress`, and ArchiveError if the text has not so many bytes.
    """
    totals = Totals()
    _need(coder.program, reader.header)
    tokenizer = tokenizer_of(coder.program, assume_bytes=True)
    for group in _groups(reader.seek(start, end), coder.rows):
        texts = _texts(coder, tokenizer, [block for _, block in group])
        for (at, _), text in zip(group, texts, strict=True):
            part = text[max(0, start - at) : None if end is None else max(0, end - at)]
            sink.write(part)
            totals.text += len(part)
        totals.blocks += len(group)
    assert reader.index is not None
    _within(reader.index, start, end)
    return totals


def find_program(header: Header) -> Path:
    """Return the file of the shipped program that an archive was made with.

    Raises ArchiveError if it is none of them.
    """
    needed = header.program.hex()
    for name in zoo.names():
        if zoo.open_program(name).hash == needed:
            return zoo.resolve(name)
    raise ArchiveError(
        f"the archive was made with the program {needed}, which is no shipped one",
        "name its file: --model FILE",
    )


def _need(program: Program, header: Header) -> None:
    needed = header.program.hex()
    if needed != program.hash:
        raise WrongProgram(
            f"the archive was made with the program {needed}, and {program.name} is {program.hash}",
            "name the program that it was made with: --model",
            needed=needed,
            given=program.hash,
        )


def _within(index: Index, start: int, end: int | None) -> None:
    if start > index.text or (end is not None and end > index.text):
        raise ArchiveError(f"the text has {index.text} bytes", "ask for a range within them")


def _texts(coder: Coder, tokenizer: Tokenizer, group: list[Block]) -> Iterator[bytes]:
    made = coder.decode([block.coded for block in group], [block.tokens for block in group])
    for block, tokens in zip(group, made, strict=True):
        try:
            text = join(tokenizer, Parts(tokens, block.rest, block.runs))
        except ValueError as error:
            raise damaged(f"a block is of no text, {error}") from None
        if len(text) != block.text or zlib.crc32(text) != block.check:
            raise damaged("a block gives another text")
        yield text


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def _ahead(
    pool: ThreadPoolExecutor, cut: Callable[[bytes], Parts], groups: Iterator[list[bytes]]
) -> Iterator[tuple[list[bytes], list[Parts]]]:
    """Find the tokens of the next group while one is coded."""
    waiting = None
    for texts in groups:
        coming = texts, [pool.submit(cut, text) for text in texts]
        if waiting is not None:
            yield waiting[0], [one.result() for one in waiting[1]]
        waiting = coming
    if waiting is not None:
        yield waiting[0], [one.result() for one in waiting[1]]
