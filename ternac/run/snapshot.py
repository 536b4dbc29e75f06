"""Snapshots: a session at rest, as bytes that any executor of the same program continues.

The bytes say which program they belong to and nothing about the executor (docs/program.md is the page).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ternac.errors import SnapshotError, UsageError
from ternac.program.program import Program
from ternac.run.executor import State

__all__ = ["Snapshot"]

_HEADER = struct.Struct("<4sH32sIiQI")  # magic, version, program hash, rng, pending, fed, words
_MAGIC, _VERSION = b"TNCS", 2
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
        """Header with the program's identity, state words (little endian), CRC-32 of everything before it."""
        pending = -1 if self.pending is None else self.pending
        digest = bytes.fromhex(program.hash)
        head = _HEADER.pack(_MAGIC, _VERSION, digest, self.rng, pending, self.fed, len(self.state))
        data = head + self.state.astype("<i2").tobytes()
        return data + zlib.crc32(data).to_bytes(CRC_BYTES, "little")

    @classmethod
    def from_bytes(cls, data: bytes, program: Program) -> Snapshot:
        """Inverse of `to_bytes`. Raises SnapshotError if the bytes are damaged or of another program."""
        size = _HEADER.size + 2 * program.state_words + CRC_BYTES
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
        if version != _VERSION:
            raise SnapshotError(f"snapshot version {version} is unknown, this ternac reads {_VERSION}")
        if digest.hex() != program.hash:
            raise SnapshotError(
                f"the session belongs to program {digest.hex()[:16]}, not to {program.hash[:16]}",
                "restore it on the program that it was taken from",
            )
        if words != program.state_words or len(data) != size or rng == 0 or not -1 <= pending < program.vocab:
            raise SnapshotError("the session snapshot contradicts itself")
        state = np.frombuffer(data, "<i2", words, _HEADER.size).astype(np.int16)
        return cls(state, rng, None if pending < 0 else pending, fed)

    @classmethod
    def read(cls, path: str | Path, program: Program) -> Snapshot:
        """Read a snapshot from a file; no more of it is read than its header promises.

        Raises UsageError if the file cannot be read, and what `from_bytes` raises, naming the file.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_HEADER.size)
                if len(data) == _HEADER.size and data.startswith(_MAGIC):
                    data += file.read(2 * _HEADER.unpack(data)[-1] + CRC_BYTES + 1)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
        try:
            return cls.from_bytes(data, program)
        except SnapshotError as error:
            raise SnapshotError(f"{path}: {error}", error.hint) from None
