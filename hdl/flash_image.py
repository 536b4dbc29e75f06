"""A program image as the bytes that a host would send: what a board without initialized memories reads
from flash.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ternac.compile import Image
from ternac.geometry import Mem
from ternac.protocol import HASH_BYTES, MAX_WRITE_BYTES, Command, Frame


def program_hash(image: Image) -> bytes:
    """What COMMIT says and HELLO answers for an image: the first 16 bytes of its program's hash."""
    return bytes.fromhex(image.program_hash)[:HASH_BYTES]


def load_frames(image: Image) -> Iterator[Frame]:
    """WRITE frames for every word of an image, then COMMIT; sequence numbers count up from 1 and wrap."""
    payloads = [(Command.WRITE, payload) for payload in _writes(image)]
    payloads.append((Command.COMMIT, program_hash(image)))
    for index, (kind, payload) in enumerate(payloads):
        yield Frame(kind, (index + 1) & 0xFF, payload)


def _writes(image: Image) -> Iterator[bytes]:
    for memory in sorted(image.memories):
        size = image.geometry.memory(Mem(memory)).bytes_per_word
        for block, words in enumerate(image.memories[memory]):
            raw = words.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :size].tobytes()
            step = MAX_WRITE_BYTES // size * size
            for at in range(0, len(raw), step):
                yield (
                    memory.to_bytes()
                    + block.to_bytes()
                    + (at // size).to_bytes(2, "little")
                    + raw[at : at + step]
                )


def flash_image(image: Image) -> bytes:
    """What lies at the board's flash offset: the frames as on the wire, ended by erased flash (0xFF)."""
    return b"".join(frame.wire() for frame in load_frames(image)) + b"\xff"
