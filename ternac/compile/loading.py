"""The frames that load an image: shared by the driver, the flash image and the tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.link import HASH_BYTES, MAX_WRITE_BYTES, SEQUENCE, Command, Frame, WriteRequest


def program_id(image: Image) -> bytes:
    """Return the sixteen bytes under which a board knows the image: the start of the program's hash."""
    return bytes.fromhex(image.program_hash)[:HASH_BYTES]


def write_payload(mem: int, block: int, address: int, words: np.ndarray, bytes_per_word: int) -> bytes:
    """Return the payload of one WRITE of unsigned words."""
    data = np.asarray(words).astype("<u4").reshape(-1, 1).view(np.uint8)[:, :bytes_per_word]
    return WriteRequest(mem, block, address, data.tobytes()).encode()


def load_requests(image: Image, limit: int = MAX_WRITE_BYTES) -> Iterator[tuple[Command, bytes]]:
    """Yield (command, payload) of every request that loads ``image`` into an engine, in order.

    The first unloads what is there, so that an interrupted load leaves an engine that refuses to run;
    then come the memories in WRITEs of at most ``limit`` data bytes, then the COMMIT. State is not
    touched: sessions clear theirs.
    """
    yield Command.COMMIT, bytes(HASH_BYTES)
    for mem, blocks in image.memories.items():
        size = image.geometry.memory(mem).bytes_per_word
        step = limit // size
        for block, words in enumerate(blocks):
            for address in range(0, len(words), step):
                part = words[address : address + step]
                yield Command.WRITE, write_payload(mem, block, address, part, size)
    yield Command.COMMIT, program_id(image)


def flash_image(image: Image) -> bytes:
    """Return the wire bytes that ``FlashBoot`` plays: HELLO, which opens the line, and the load, numbered on
    from it, closed by erased bytes that end it.
    """
    requests = enumerate([(Command.HELLO, b""), *load_requests(image)])
    frames = (Frame(kind, seq % SEQUENCE, payload).wire() for seq, (kind, payload) in requests)
    return b"".join(frames) + b"\xff" * 16


assert len(Mem) - 1 == Mem.ROWS  # the controller takes every number up to the last as a memory
