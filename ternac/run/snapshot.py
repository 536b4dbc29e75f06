"""Snapshots: a session at rest, as bytes that any executor of the same program continues.

The bytes say which program they belong to and nothing about the executor (docs/program.md is the page). Of a
memory only the rows travel that are not all zero.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ternac.errors import SnapshotError, UsageError
from ternac.program.program import Program
from ternac.run.executor import State

__all__ = ["Snapshot", "is_snapshot"]

_HEADER = struct.Struct("<4sH32sIiQI")  # magic, version, program hash, rng, pending, fed, words
_MAGIC, _VERSION, _MEMORY_VERSION = b"TNCS", 2, 3
CRC_BYTES = 4


@dataclass(frozen=True)
class Snapshot:
    """A session at rest.

    ``state`` int16 [program.state_words]; ``rng`` generator state 1..2**32-1; ``pending`` the token chosen
    last and not fed yet, or None; ``fed`` the number of tokens that the state has seen.
    """

    state: State
    rng: int
    pending: int | None
    fed: int

    @property
    def new(self) -> bool:
        """Nothing was fed or chosen yet: a prompt begins the text."""
        return self.pending is None and not self.fed

    def to_bytes(self, program: Program) -> bytes:
        """Header with the program's identity, words (little endian), CRC-32 of everything before it."""
        pending = -1 if self.pending is None else self.pending
        digest = bytes.fromhex(program.hash)
        words = _packed(self.state, program)
        head = _HEADER.pack(_MAGIC, _version(program), digest, self.rng, pending, self.fed, len(words))
        data = head + words.astype("<i2", copy=False).tobytes()
        return data + zlib.crc32(data).to_bytes(CRC_BYTES, "little")

    @classmethod
    def from_bytes(cls, data: bytes, program: Program) -> Snapshot:
        """Inverse of `to_bytes`. Raises SnapshotError if the bytes are damaged or of another program."""
        if len(data) < _HEADER.size + CRC_BYTES or data[:4] != _MAGIC:
            raise SnapshotError("this is not a session snapshot")
        if zlib.crc32(data[:-CRC_BYTES]) != int.from_bytes(data[-CRC_BYTES:], "little"):
            raise SnapshotError("the session snapshot is damaged: its checksum does not match")
        _, version, digest, rng, pending, fed, words = _HEADER.unpack_from(data)
        if version == 1:
            raise SnapshotError(
                "this session was saved by an older ternac, which named a program by its whole file",
                "start the session again; programs need no change",
            )
        if version not in (_VERSION, _MEMORY_VERSION):
            versions = f"{_VERSION} and {_MEMORY_VERSION}"
            raise SnapshotError(f"snapshot version {version} is unknown, this ternac reads {versions}")
        if digest.hex() != program.hash:
            raise SnapshotError(
                f"the session belongs to program {digest.hex()[:16]}, not to {program.hash[:16]}",
                "restore it on the program that it was taken from",
            )
        size = _HEADER.size + 2 * words + CRC_BYTES
        sound = len(data) == size and rng != 0 and -1 <= pending < program.vocab
        state = None
        if sound and version == _version(program):
            state = _unpacked(np.frombuffer(data, "<i2", words, _HEADER.size), program)
        if state is None:
            raise SnapshotError("the session snapshot contradicts itself")
        return cls(state, rng, None if pending < 0 else pending, fed)

    @classmethod
    def read(cls, path: str | Path, program: Program) -> Snapshot:
        """Read a snapshot from a file; no more of it is read than its header promises and a session can have.

        Raises UsageError if the file cannot be read, and what `from_bytes` raises, naming the file.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_HEADER.size)
                if len(data) == _HEADER.size and data.startswith(_MAGIC):
                    words = min(_HEADER.unpack(data)[-1], _most_words(program))
                    data += file.read(2 * words + CRC_BYTES + 1)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
        try:
            return cls.from_bytes(data, program)
        except SnapshotError as error:
            raise SnapshotError(f"{path}: {error}", error.hint) from None


def _most_words(program: Program) -> int:
    """Words of a session in which every row is used."""
    return program.state_words + sum(-(-memory.rows // 16) for memory in program.memories.values())


def _version(program: Program) -> int:
    return _MEMORY_VERSION if program.memories else _VERSION


def _packed(state: State, program: Program) -> State:
    """The words that travel: those of the states, then of each memory a bit for every row, the lowest bit
    first, filled up to whole words, and the rows whose bit is 1, which are all that are not zero.
    """
    if not program.memories:
        return state
    parts = [state[: sum(program.states.values())]]
    for name, part in program.memory_slices().items():
        rows = state[part].reshape(program.memories[name].rows, -1)
        used = np.asarray(rows.any(axis=1))
        parts += [_bits(used), rows[used].reshape(-1)]
    return np.concatenate(parts)


def _unpacked(words: npt.NDArray[np.int16], program: Program) -> State | None:
    """Inverse of `_packed`; None if there are other words than it makes."""
    if not program.memories:
        return words.astype(np.int16) if len(words) == program.state_words else None
    state = np.zeros(program.state_words, np.int16)
    at = sum(program.states.values())
    if len(words) < at:
        return None
    state[:at] = words[:at]
    for name, part in program.memory_slices().items():
        count = program.memories[name].rows
        bits = words[at : at + -(-count // 16)]
        at += len(bits)
        flags = np.unpackbits(np.ascontiguousarray(bits, "<i2").view(np.uint8), bitorder="little")
        used = flags[:count].astype(bool)
        if len(flags) < count or flags[count:].any():
            return None
        rows = state[part].reshape(count, -1)
        size = int(used.sum()) * rows.shape[1]
        found = words[at : at + size]
        if len(found) != size or not found.reshape(-1, rows.shape[1]).any(axis=1).all():
            return None
        rows[used] = found.reshape(-1, rows.shape[1])
        at += size
    return state if at == len(words) else None


def _bits(flags: npt.NDArray[np.bool_]) -> State:
    """Flags as words, the lowest bit first."""
    padded = np.zeros(-(-len(flags) // 16) * 16, bool)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view("<i2").astype(np.int16)


def is_snapshot(data: bytes) -> bool:
    """Return True if ``data`` begins as a snapshot does, whole or not."""
    return data.startswith(_MAGIC)
