"""The byte link between host and board: frames, SLIP, CRC and payloads (docs/link.md is the page).

The RTL (hdl/link), the driver (host) and the model of the device (sim) all import these numbers from here.

A frame is ``type u8, seq u16, payload, crc32 u32``; the CRC is zlib's, over everything before it; all
integers are little endian. On the wire a frame is SLIP-stuffed between two END bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

VERSION = 4

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD
ANSWER = 0x80
"""Set in the type of an answer."""
CRC_BYTES = 4
SEQUENCE = 1 << 16
"""Sequence numbers count modulo this."""


class Command(IntEnum):
    """Request types."""

    HELLO = 1
    WRITE = 2
    READ = 3
    RUN = 4
    COMMIT = 5
    BATCH = 6


class Status(IntEnum):
    """The first payload byte of every answer."""

    OK = 0
    UNKNOWN_COMMAND = 1
    BAD_LENGTH = 2
    BAD_MEMORY = 3
    NOT_LOADED = 4
    OUT_OF_ORDER = 5
    NOT_OPEN = 6
    STUCK = 7


class Layout:
    """Little-endian fields in order: ``Layout("mem u8", "address u16")``, bytes as ``"id 16 bytes"``."""

    def __init__(self, *fields: str) -> None:
        self.fields = tuple((field.split(" ")[0], field.partition(" ")[2]) for field in fields)
        codes = [_CODES.get(kind) or f"{kind.split(' ')[0]}s" for _, kind in self.fields]
        self._struct = struct.Struct("<" + "".join(codes))
        sizes = [struct.calcsize("<" + code) for code in codes]
        self.offsets: dict[str, int] = {name: sum(sizes[:i]) for i, (name, _) in enumerate(self.fields)}
        """Field name to its offset in bytes."""
        self.size: int = self._struct.size
        """Bytes of all fields."""

    def pack(self, *values: int | bytes) -> bytes:
        """Return the fields' values as bytes."""
        return self._struct.pack(*values)

    def unpack(self, data: bytes, offset: int = 0) -> tuple[Any, ...]:
        """Return the fields' values from ``data``; what follows them is ignored."""
        return self._struct.unpack_from(data, offset)


_CODES = {"u8": "B", "u16": "H", "u32": "I"}

HEAD = Layout("type u8", "seq u16")
"""The head of every frame."""
HEAD_BYTES = HEAD.size
HASH_BYTES = 16
IDENTITY = Layout(
    "version u8",
    "window u8",
    "frame_bytes u16",
    "clock_hz u32",
    "bitstream_id 16 bytes",
    "geometry_hash 8 bytes",
    f"program_hash {HASH_BYTES} bytes",
)
"""The answer to HELLO."""
WRITE = Layout("mem u8", "block u8", "address u16")
"""A WRITE; the words follow."""
READ = Layout("count u8", "block u8", "address u16")
"""A READ."""
RUN = Layout("rng u32", "top_k u16", "m u8", "n_generate u8", "flags u8", "session_base u16")
"""A RUN; its tokens, u16 each, follow."""
BATCH = Layout("top_k u16", "m u8", "n_generate u8", "flags u8", "entry_step u16")
"""A BATCH; its sessions follow."""
MEMBER = Layout("rng u32", "session_base u16", "token u16")
"""One session of a BATCH."""

SHIFT_MASK = 0x1F
"""In the flags of RUN and BATCH: the sampling's ``s``."""
FOLLOWS = 0x40
"""Flag of a RUN that is executed only directly after a RUN. Without tokens it continues from the token chosen
last by that RUN, and from its generator."""
GREEDY_FLAG = 0x80
"""Flag of RUN and BATCH: choose by argmax."""

READ_ROWS = 128
"""Added to the block of a READ: it reads the column's rows, 8 bits a word, not its bank."""
READ_SPAN = 64
"""Added to the program's logit scale: the block of a READ of a token's span, in an engine with spans; the
address is the token times `SPAN_WORDS`."""
SPAN_WORDS = 8
"""Words of a span: start 3, size 2, total 3, the lowest first."""
SPAN_TOKENS = 1 << 13
"""Tokens that an engine with spans can have: so many addresses of them there are."""
CLEAR_BLOCK = 255
"""Block of a WRITE to rows whose one byte d clears `CLEAR_WORDS` * (d + 1) words of every column, from the
address on. The next request of another kind waits until they are cleared, a WRITE does not."""
CLEAR_WORDS = 16
"""See `CLEAR_BLOCK`."""
MOST_CLEAR = 256
"""The largest d + 1 there: groups of words, or sectors of an SDRAM, that one WRITE clears."""

READ_MAP = 64
"""Added to log2 of the bursts of a row, the block of a READ from an engine with rows in SDRAM: which of 16
rows, 4 in each bank, are not zero (docs/sdram.md). Its WRITEs to rows, and READs with `READ_ROWS`, take words
of the SDRAM, 65,536 a block, of the half that `HALF_BLOCK` chose; `CLEAR_BLOCK` clears d + 1 sectors."""
HALF_BLOCK = 254
"""Block of a WRITE to rows in SDRAM whose one word is the half of it that WRITE and READ are to use."""

WATCHDOG_CYCLES = 1 << 25
"""An engine that takes more cycles for a token is `Status.STUCK`, within twice this time."""
FRAME_BYTES = 320
"""Longest frame a device buffers (before stuffing, CRC included)."""
MAX_WORDS = 255
"""Most words in one READ, most generated tokens in one RUN."""
WINDOW = 2
"""Requests that may be in flight at the same time where the line is buffered, the last with FOLLOWS."""
MAX_BATCH_TOKENS = 75
"""Most tokens for each session of one BATCH."""
WRITE_HEAD, RUN_HEAD, BATCH_HEAD, BATCH_MEMBER = WRITE.size, RUN.size, BATCH.size, MEMBER.size
PROGRAM_HASH_OFFSET = IDENTITY.offsets["program_hash"]
MAX_WRITE_BYTES = FRAME_BYTES - HEAD_BYTES - WRITE_HEAD - CRC_BYTES
MAX_PROMPT = (FRAME_BYTES - HEAD_BYTES - RUN_HEAD - CRC_BYTES) // 2
"""Most tokens fed by one RUN."""


@dataclass(frozen=True)
class Identity:
    """The answer to HELLO: who the board is and what it holds."""

    bitstream_id: bytes
    geometry_hash: bytes
    clock_hz: int
    program_hash: bytes
    version: int = VERSION
    frame_bytes: int = FRAME_BYTES
    window: int = 1
    """Requests that may be in flight: `WINDOW`, or 1 where the device takes no bytes while it works."""

    LENGTH: ClassVar[int] = IDENTITY.size

    @property
    def loaded(self) -> bool:
        """A program is committed (its hash is not all zeros)."""
        return any(self.program_hash)

    def encode(self) -> bytes:
        """Return the payload. Raises ValueError if an ID or hash has a wrong length."""
        if (len(self.bitstream_id), len(self.geometry_hash), len(self.program_hash)) != (16, 8, HASH_BYTES):
            raise ValueError("bitstream_id is 16 bytes, geometry_hash 8 bytes, program_hash 16 bytes")
        return IDENTITY.pack(*(getattr(self, name) for name, _ in IDENTITY.fields))

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Inverse of `encode`. Raises ValueError if the length is wrong."""
        if len(data) != IDENTITY.size:
            raise ValueError(f"an identity is {IDENTITY.size} bytes, not {len(data)}")
        names = [name for name, _ in IDENTITY.fields]
        return cls(**dict(zip(names, IDENTITY.unpack(data), strict=True)))


@dataclass(frozen=True)
class WriteRequest:
    """Write ``data``, whole words, to a memory from ``address`` on."""

    mem: int
    block: int
    address: int
    data: bytes

    def encode(self) -> bytes:
        return WRITE.pack(self.mem, self.block, self.address) + self.data

    @classmethod
    def decode(cls, data: bytes) -> WriteRequest:
        mem, block, address = WRITE.unpack(data)
        return cls(mem, block, address, data[WRITE.size :])


@dataclass(frozen=True)
class ReadRequest:
    """Read ``count`` bank words; the answer is those words, u16 each."""

    count: int
    block: int
    address: int

    def encode(self) -> bytes:
        return READ.pack(self.count, self.block, self.address)

    @classmethod
    def decode(cls, data: bytes) -> ReadRequest:
        return cls(*READ.unpack(data))


@dataclass(frozen=True)
class Choice:
    """The sampling of RUN and BATCH, as in `ternac.run.sampling.Sampling`."""

    greedy: bool
    m: int
    s: int
    top_k: int

    @property
    def flags(self) -> int:
        return self.s | self.greedy * GREEDY_FLAG

    @classmethod
    def of(cls, top_k: int, m: int, flags: int) -> Choice:
        return cls(bool(flags & GREEDY_FLAG), m, flags & SHIFT_MASK, top_k)


@dataclass(frozen=True)
class RunRequest:
    """Feed ``tokens``, then generate ``count``."""

    session_base: int
    tokens: Sequence[int]
    count: int
    choice: Choice
    rng: int = 0
    follows: bool = False

    def encode(self) -> bytes:
        flags = self.choice.flags | self.follows * FOLLOWS
        head = RUN.pack(self.rng, self.choice.top_k, self.choice.m, self.count, flags, self.session_base)
        return head + encode_words(self.tokens)

    @classmethod
    def decode(cls, data: bytes) -> RunRequest:
        rng, top_k, m, count, flags, base = RUN.unpack(data)
        choice = Choice.of(top_k, m, flags)
        return cls(base, decode_words(data[RUN.size :]), count, choice, rng, bool(flags & FOLLOWS))


@dataclass(frozen=True)
class RunAnswer:
    """The generated tokens, the generator after them, engine cycles of all steps."""

    tokens: list[int]
    rng: int
    cycles: int

    def encode(self) -> bytes:
        return encode_words(self.tokens) + struct.pack("<II", self.rng, self.cycles)

    @classmethod
    def decode(cls, data: bytes, count: int) -> RunAnswer:
        """Raises ValueError if this is no answer to a RUN of ``count`` tokens."""
        if len(data) != 2 * count + 8:
            raise ValueError(f"RUN of {count} tokens answers {len(data)} bytes")
        return cls(decode_words(data[:-8]), *struct.unpack("<II", data[-8:]))


@dataclass(frozen=True)
class BatchMember:
    """One session of a BATCH: its generator, the address of its state, the token to feed first."""

    rng: int
    session_base: int
    token: int


@dataclass(frozen=True)
class BatchRequest:
    """Generate ``count`` tokens in every session; ``entry_step``: code words between contexts' entries."""

    members: Sequence[BatchMember]
    entry_step: int
    count: int
    choice: Choice

    def encode(self) -> bytes:
        choice = self.choice
        head = BATCH.pack(choice.top_k, choice.m, self.count, choice.flags, self.entry_step)
        return head + b"".join(MEMBER.pack(m.rng, m.session_base, m.token) for m in self.members)

    @classmethod
    def decode(cls, data: bytes) -> BatchRequest:
        top_k, m, count, flags, entry_step = BATCH.unpack(data)
        starts = range(BATCH.size, len(data), MEMBER.size)
        members = [BatchMember(*MEMBER.unpack(data, at)) for at in starts]
        return cls(members, entry_step, count, Choice.of(top_k, m, flags))


@dataclass(frozen=True)
class BatchAnswer:
    """For each session its tokens and the generator after them; the engine's cycles for all."""

    chosen: list[tuple[list[int], int]]
    cycles: int

    def encode(self) -> bytes:
        parts = [encode_words(tokens) + rng.to_bytes(4, "little") for tokens, rng in self.chosen]
        return b"".join(parts) + self.cycles.to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes, members: int, count: int) -> BatchAnswer:
        """Raises ValueError if this is no answer to a BATCH of ``members`` sessions and ``count`` tokens."""
        size = 2 * count + 4
        if len(data) != size * members + 4:
            raise ValueError(f"BATCH of {members} x {count} tokens answers {len(data)} bytes")
        parts = [data[at : at + size] for at in range(0, size * members, size)]
        chosen = [(decode_words(part[:-4]), int.from_bytes(part[-4:], "little")) for part in parts]
        return cls(chosen, int.from_bytes(data[-4:], "little"))


def encode_words(words: Sequence[int]) -> bytes:
    """Return words of 16 bits, as a READ answers them."""
    return struct.pack(f"<{len(words)}H", *words)


def encode_span(start: int, size: int, total: int) -> list[int]:
    """Return the `SPAN_WORDS` words of a span."""
    value = start | size << 48 | total << 80
    return [value >> 16 * k & 0xFFFF for k in range(SPAN_WORDS)]


def decode_span(words: Sequence[int]) -> tuple[int, int, int]:
    """Return start, size and total of what `encode_span` made."""
    value = sum(word << 16 * k for k, word in enumerate(words))
    return value & (1 << 48) - 1, value >> 48 & (1 << 32) - 1, value >> 80


def decode_words(data: bytes) -> list[int]:
    """Inverse of `encode_words`. Raises ValueError if a byte is left over."""
    if len(data) % 2:
        raise ValueError(f"{len(data)} bytes are not words of 16 bits")
    return list(struct.unpack(f"<{len(data) // 2}H", data))


def crc32(data: bytes) -> int:
    """Return zlib's CRC-32."""
    return zlib.crc32(data) & 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """One frame without its CRC. ``kind`` is a Command, with ANSWER set in an answer."""

    kind: int
    seq: int
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return type, seq, payload, CRC."""
        body = HEAD.pack(self.kind, self.seq) + self.payload
        return body + crc32(body).to_bytes(CRC_BYTES, "little")

    @classmethod
    def decode(cls, data: bytes) -> Frame | None:
        """Return the frame, or None if it is too short or its CRC is wrong."""
        if len(data) < HEAD_BYTES + CRC_BYTES:
            return None
        body, crc = data[:-CRC_BYTES], int.from_bytes(data[-CRC_BYTES:], "little")
        if crc32(body) != crc:
            return None
        kind, seq = HEAD.unpack(body)
        return cls(kind, seq, body[HEAD.size :])

    def wire(self) -> bytes:
        """Return the bytes on the wire: stuffed, between two END."""
        return slip_encode(self.encode())


def slip_encode(data: bytes) -> bytes:
    """Stuff ``data`` between two END bytes."""
    stuffed = data.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return bytes((END,)) + stuffed + bytes((END,))


class SlipDecoder:
    """Incremental SLIP decoder: feed bytes in any pieces, get whole frames (stuffing undone).

    Bytes before the first END are taken as the end of a frame, which its CRC rejects. A wrong escape or more
    than ``limit`` bytes spoil the frame, which is then dropped and counted in ``spoiled``.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.spoiled = 0
        self._data = bytearray()
        self._escape = False
        self._bad = False

    def feed(self, data: Iterable[int]) -> list[bytes]:
        """Return the frames that ``data`` completes; empty ones are skipped."""
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
