"""Sessions: the state of one running text, its generator and its place, on any executor like NumPy's.

A session is open, fed tokens, saved to bytes or a file, restored from them, closed.  The bytes say which
program they belong to and nothing about the executor, so that a session may go on elsewhere.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ternac.errors import SnapshotError, UsageError
from ternac.files import write_bytes
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, U32, Sampling, choose, seed_state

_HEADER = struct.Struct("<4sH32sIiQI")  # magic, version, program hash, rng, pending, fed, words
_MAGIC, _VERSION = b"TNCS", 1


@dataclass(frozen=True)
class Snapshot:
    """A session at rest.

    ``state`` int16 [program.state_words]; ``rng`` generator state 1..2**32-1; ``pending`` the token that was
    chosen last and not fed yet, or None; ``fed`` how many tokens the state has seen.
    """

    state: npt.NDArray[np.int16]
    rng: int
    pending: int | None
    fed: int

    def to_bytes(self, program: Program) -> bytes:
        """Header with the program's hash, the state words (little endian), CRC-32 of it all."""
        pending = -1 if self.pending is None else self.pending
        digest = bytes.fromhex(program.hash)
        head = _HEADER.pack(_MAGIC, _VERSION, digest, self.rng, pending, self.fed, len(self.state))
        data = head + self.state.astype("<i2").tobytes()
        return data + zlib.crc32(data).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes, program: Program) -> Snapshot:
        """Inverse of :meth:`to_bytes`; SnapshotError if damaged or of another program."""
        size = _HEADER.size + 2 * program.state_words + 4
        if len(data) < _HEADER.size + 4 or data[:4] != _MAGIC:
            raise SnapshotError("this is not a session snapshot")
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise SnapshotError("the session snapshot is damaged: its checksum does not match")
        _, version, digest, rng, pending, fed, words = _HEADER.unpack_from(data)
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


class SavedSession:
    """What every session can do that has ``snapshot`` and ``restore``: be kept in a file."""

    def snapshot(self) -> bytes:
        """The whole session as bytes."""
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        """Become the session of ``data``; SnapshotError and no change if damaged or of another program."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the snapshot to a file, whole or not at all; UsageError if it cannot be written."""
        write_bytes(path, self.snapshot())

    def load(self, path: str | Path) -> None:
        """Become the session that :meth:`save` wrote, on whatever executor that was.

        SnapshotError naming the file if it is damaged, foreign or of another program, UsageError if it cannot
        be read; then nothing has changed. Of a file no more is read than its header promises.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_HEADER.size)
                if len(data) == _HEADER.size and data.startswith(_MAGIC):
                    data += file.read(2 * _HEADER.unpack(data)[-1] + 4 + 1)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
        try:
            self.restore(data)
        except SnapshotError as error:
            raise SnapshotError(f"{path}: {error}", error.hint) from None


class Session(SavedSession):
    """One running text on a :class:`NumpyExecutor` (or any executor with its ``open`` and ``step``).

    ``rng`` is the generator state, ``pending`` the token chosen last and not fed yet (it is fed first when
    generation goes on), ``fed`` the number of tokens seen.  Usable as a context manager.  Every method raises
    UsageError after :meth:`close`.
    """

    def __init__(self, executor: NumpyExecutor, sampling: Sampling = GREEDY, seed: int = 1) -> None:
        self.program = executor.program
        self.sampling = sampling
        self.rng = seed_state(seed)
        self.pending: int | None = None
        self.fed = 0
        self._executor = executor
        self._state: npt.NDArray[np.int16] | None = executor.open(1)

    @classmethod
    def open(cls, executor: NumpyExecutor, sampling: Sampling = GREEDY, seed: int = 1) -> Session:
        """A new session with a zero state."""
        return cls(executor, sampling, seed)

    @property
    def state(self) -> npt.NDArray[np.int16]:
        """Copy of the state, int16 [program.state_words]."""
        return self._open_state()[0].copy()

    def step(self, token: int) -> npt.NDArray[np.int32]:
        """Feed one token: logits int32 [vocab].  Forgets a pending token."""
        logits = self._executor.step(self._open_state(), np.array([token]))[0]
        self.pending = None
        self.fed += 1
        return logits

    def generate(self, prompt: Iterable[int] = (), count: int = 1) -> Iterator[int]:
        """Feed the pending token and the prompt, then yield ``count`` chosen tokens, each when it is known.

        The last chosen token stays pending; with ``count`` 0 that is the last token of the prompt.  Without
        a pending token the prompt must not be empty.  An iterator that is abandoned half-way leaves a
        session that goes on from there.
        """
        tokens = [int(token) for token in prompt]
        if self.pending is not None:
            tokens.insert(0, self.pending)
        self._open_state()
        if not tokens:
            raise UsageError("nothing to go on from: the prompt of a new session is empty")
        if count < 0:
            raise UsageError(f"number of tokens is {count}, needs at least 0")
        bad = [token for token in tokens if not 0 <= token < self.program.vocab]
        if bad:
            raise UsageError(f"token {bad[0]} is outside 0..{self.program.vocab - 1}")
        return self._generate(tokens, count)

    def _generate(self, tokens: list[int], count: int) -> Iterator[int]:
        for token in tokens[:-1]:
            self.step(token)
        self.pending = tokens[-1]
        for _ in range(count):
            if self.pending is None:
                raise UsageError("the session was stepped elsewhere while it was generating")
            logits = self.step(self.pending)
            self.pending, self.rng = choose(logits, self.sampling, self.rng)
            yield self.pending

    def snapshot(self) -> bytes:
        """The whole session as bytes (about two bytes per state word)."""
        return Snapshot(self._open_state()[0], self.rng, self.pending, self.fed).to_bytes(self.program)

    def restore(self, data: bytes) -> None:
        """Become the session of ``data``; SnapshotError and no change if damaged or of another program."""
        state = self._open_state()
        found = Snapshot.from_bytes(data, self.program)
        state[0] = found.state
        self.rng, self.pending, self.fed = found.rng, found.pending, found.fed

    def close(self) -> None:
        """Free the state; closing twice is allowed."""
        self._state = None

    def _open_state(self) -> npt.NDArray[np.int16]:
        if self._state is None:
            raise UsageError("the session is closed")
        return self._state

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


assert U32 == (1 << 32) - 1  # the header stores the generator state in 32 bits
