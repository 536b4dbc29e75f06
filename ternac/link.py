"""The byte link between host and board: constants, SLIP, CRC and frame layout (docs/link.md is the prose).

This is the only home of these numbers: the RTL (hdl/link) and the driver (host) both import them from here.

A frame is ``type u8, seq u8, payload, crc32 u32``; the CRC is zlib's, over everything before it; all
integers are little endian. On the wire a frame is SLIP-stuffed between two END bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

VERSION = 3

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
ANSWER = 0x80
"""Set in the type of an answer."""
CRC_BYTES = 4
HEAD_BYTES = 2
"""type and seq."""


class Command(IntEnum):
    """Request types."""

    HELLO = 1
    WRITE = 2
    READ = 3
    RUN = 4
    COMMIT = 5
    BATCH = 6


class Status(IntEnum):
    """First payload byte of every answer."""

    OK = 0
    UNKNOWN_COMMAND = 1
    BAD_LENGTH = 2
    BAD_MEMORY = 3
    NOT_LOADED = 4
    OUT_OF_ORDER = 5


FRAME_BYTES = 320
"""Longest frame a device buffers (before stuffing, CRC included)."""
MAX_WORDS = 255
"""Most words in one READ, most generated tokens in one RUN."""
WRITE_HEAD = 4
"""mem u8, block u8, addr u16."""
RUN_HEAD = 11
"""rng u32, top_k u16, inv_m u8, n_generate u8, inv_s | follows << 6 | greedy << 7 u8, session_base u16."""
RUN_COUNT, RUN_FLAGS = 7, 8
"""Offsets of n_generate and of the flags in a RUN's payload."""
FOLLOWS = 0x40
"""Flag of a RUN that is executed only directly after the RUN with the sequence number before its own. Without
tokens it goes on from what that one chose last, and from its generator."""
GREEDY = 0x80
WINDOW = 2
"""Requests that may be under way at the same time where the line is buffered, the last with FOLLOWS."""
BATCH_HEAD = 7
"""top_k u16, inv_m u8, n_generate u8, inv_s | greedy << 7 u8, entry_step u16."""
BATCH_MEMBER = 8
"""rng u32, session_base u16, token u16, for each session."""
MAX_BATCH_TOKENS = 75
"""Most tokens for each session of one BATCH."""
HASH_BYTES = 16
MAX_WRITE_BYTES = FRAME_BYTES - HEAD_BYTES - WRITE_HEAD - CRC_BYTES
MAX_PROMPT = (FRAME_BYTES - HEAD_BYTES - RUN_HEAD - CRC_BYTES) // 2


@dataclass(frozen=True)
class Identity:
    """What HELLO answers: who the board is and what it holds."""

    bitstream_id: bytes
    geometry_hash: bytes
    clock_hz: int
    program_hash: bytes
    version: int = VERSION
    frame_bytes: int = FRAME_BYTES
    window: int = 1
    """Requests that may be under way: `WINDOW`, or 1 where the device takes no bytes while it works."""

    LENGTH = 48

    @property
    def loaded(self) -> bool:
        """A program is committed (its hash is not all zeros)."""
        return any(self.program_hash)

    def encode(self) -> bytes:
        """The 48 bytes as HELLO answers them; ValueError on wrong sizes."""
        if (
            len(self.bitstream_id) != 16
            or len(self.geometry_hash) != 8
            or len(self.program_hash) != HASH_BYTES
        ):
            raise ValueError("bitstream_id is 16 bytes, geometry_hash 8 bytes, program_hash 16 bytes")
        return b"".join(
            (
                bytes((self.version, self.window)),
                self.frame_bytes.to_bytes(2, "little"),
                self.clock_hz.to_bytes(4, "little"),
                self.bitstream_id,
                self.geometry_hash,
                self.program_hash,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Inverse of :meth:`encode`; ValueError when it is not 48 bytes."""
        if len(data) != cls.LENGTH:
            raise ValueError(f"an identity is {cls.LENGTH} bytes, not {len(data)}")
        return cls(
            version=data[0],
            window=data[1],
            frame_bytes=int.from_bytes(data[2:4], "little"),
            clock_hz=int.from_bytes(data[4:8], "little"),
            bitstream_id=data[8:24],
            geometry_hash=data[24:32],
            program_hash=data[32:48],
        )


PROGRAM_HASH_OFFSET = 32
"""Where the program hash lies in the identity; it is the last field."""


def crc32(data: bytes) -> int:
    """zlib CRC-32."""
    return zlib.crc32(data) & 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """One frame without its CRC. ``kind`` is a Command, with ANSWER set in an answer."""

    kind: int
    seq: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """type, seq, payload, CRC."""
        body = bytes((self.kind, self.seq)) + self.payload
        return body + crc32(body).to_bytes(CRC_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Frame | None:
        """The frame, or None when it is too short or its CRC is wrong."""
        if len(data) < HEAD_BYTES + CRC_BYTES:
            return None
        body, crc = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
        return cls(body[0], body[1], body[2:]) if crc32(body) == crc else None

    def wire(self) -> bytes:
        """The bytes on the wire: stuffed, between two END."""
        return slip_encode(self.encode())


def slip_encode(data: bytes) -> bytes:
    """Stuff ``data`` between two END bytes."""
    stuffed = data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return bytes((END,)) + stuffed + bytes((END,))


class SlipDecoder:
    """Incremental SLIP decoder: feed bytes in any pieces, get whole frames (stuffing undone).

    Bytes before the first END are taken as the tail of a frame (a CRC check is what rejects it); a wrong
    escape or more than ``limit`` bytes spoil the frame, which then is dropped and counted in ``spoiled``.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.spoiled = 0
        self._data = bytearray()
        self._escape = False
        self._bad = False

    def feed(self, data: Iterable[int]) -> list[bytes]:
        """Frames completed by ``data``; empty ones are skipped."""
        frames = []
        for byte in data:
            if byte == END:
                if self._bad or self._escape:
                    self.spoiled += 1
                elif self._data:
                    frames.append(bytes(self._data))
                self._data.clear()
                self._escape = self._bad = False
            elif self._escape:
                self._escape = False
                self._bad |= byte not in (ESC_END, ESC_ESC)
                self._data.append(END if byte == ESC_END else ESC)
            elif byte == ESC:
                self._escape = True
            else:
                self._data.append(byte)
            if len(self._data) > self.limit:
                self._bad = True
                self._data.clear()
        return frames
