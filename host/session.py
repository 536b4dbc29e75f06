"""A running text on any back end: the same tokens, snapshots and rules as ternac.run.session on NumPy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import overload

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.backend import Backend, State
from ternac.run.generation import Run
from ternac.run.sampling import Sampling, seed_state, xorshift32
from ternac.run.session import SavedSession, Snapshot
from ternac.text.tokenizer import ByteTokenizer, TextStream, tokenizer_of


class Session(SavedSession):
    """Open with ``Device.session()``; usable as a context manager. UsageError from every method after close.

    A back end may be ahead with its work, but what the session *is* (``pending``, ``rng``, snapshot, what
    comes next) always corresponds to the tokens handed out, also when a stream is left half-way or fails.
    """

    def __init__(self, backend: Backend, seed: int, on_close: Callable[[], None]) -> None:
        self.program = backend.program
        self.rng = seed_state(seed)
        self.pending: int | None = None
        self.fed = 0
        self._backend = backend
        self._on_close = on_close
        self._session: int | None = backend.open()
        self._live: Generator[int] | None = None

    @overload
    def generate(self, prompt: str = ..., max_tokens: int = ..., temperature: float = ..., top_k: int = ...,
                 seed: int | None = ...) -> Iterator[str]: ...  # fmt: skip

    @overload
    def generate(self, prompt: bytes, max_tokens: int = ..., temperature: float = ..., top_k: int = ...,
                 seed: int | None = ...) -> Iterator[bytes]: ...  # fmt: skip

    def generate(
        self,
        prompt: str | bytes = "",
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int | None = None,
    ) -> Iterator[str] | Iterator[bytes]:
        """Feed ``prompt``, then stream ``max_tokens`` tokens as they come: text for text, bytes for bytes.

        Temperature 0 takes the most likely token; otherwise tokens are drawn, among the ``top_k`` most
        likely if that is not 0, from a generator set by ``seed`` (None: go on with the session's). Without
        a prompt the text goes on; a new session needs one. Bytes for bytes are there only where tokens are
        bytes; :meth:`tokens` works for any program.
        """
        tokenizer = tokenizer_of(self.program, assume_bytes=True)
        data = prompt.encode() if isinstance(prompt, str) else bytes(prompt)
        if not isinstance(prompt, str) and not isinstance(tokenizer, ByteTokenizer):
            raise UsageError(
                f"the tokens of {self.program.name} are not bytes", "give the prompt as str, or use tokens()"
            )
        sampling = Sampling.from_temperature(temperature, self.program.logit_scale_bits, top_k)
        feed = tokenizer.encode(data).ids.tolist()
        stream = self.tokens(feed, max_tokens, sampling, seed)
        if isinstance(prompt, str):
            return _decode(stream, tokenizer.stream(feed))
        return (bytes((token,)) for token in stream)

    def tokens(
        self,
        prompt: Iterable[int] = (),
        count: int = 1,
        sampling: Sampling | None = None,
        seed: int | None = None,
    ) -> Iterator[int]:
        """Feed the pending token and ``prompt``, then yield ``count`` tokens, each when it is known.

        The last token yielded stays pending (with ``count`` 0: the last of the prompt). Defaults: argmax,
        generator as it is. UsageError at once for a token outside the vocabulary or an empty prompt in a
        new session.
        """
        self._settle()
        feed = [int(token) for token in prompt]
        if self.pending is not None:
            feed.insert(0, self.pending)
        if not feed:
            raise UsageError("nothing to go on from: the prompt of a new session is empty")
        if count < 0:
            raise UsageError(f"number of tokens is {count}, needs at least 0")
        bad = [token for token in feed if not 0 <= token < self.program.vocab]
        if bad:
            raise UsageError(f"token {bad[0]} is outside 0..{self.program.vocab - 1}")
        if seed is not None:
            self.rng = seed_state(seed)
        return self._stream(feed, count, sampling or Sampling())

    def _stream(self, feed: list[int], count: int, sampling: Sampling) -> Iterator[int]:
        if not count:
            if feed[:-1]:
                self._backend.run(self._open(), Run(feed[:-1]))
            self.pending, self.fed = feed[-1], self.fed + len(feed) - 1
        while count:
            session = self._settle()
            live = self._live = self._backend.stream(session, Run(feed, count, sampling, self.rng))
            for token in live:
                self.pending, self.fed = token, self.fed + len(feed)
                if not sampling.greedy:
                    self.rng = xorshift32(self.rng)
                feed, count = [token], count - 1
                yield token
                if self._live is not live:  # the session was looked at, and stands at what was handed out
                    break
            if count and self.pending is None:
                raise UsageError("the session was stepped elsewhere while it was generating")
            feed = [] if self.pending is None else [self.pending]

    def step(self, token: int) -> npt.NDArray[np.int32]:
        """Feed one token: logits int32 [vocab]. Forgets a pending token."""
        session = self._settle()
        if not 0 <= token < self.program.vocab:
            raise UsageError(f"token {token} is outside 0..{self.program.vocab - 1}")
        logits = self._backend.step(session, token)
        self.pending = None
        self.fed += 1
        return logits

    @property
    def state(self) -> State:
        """Copy of the state, int16 [program.state_words]."""
        return self._backend.get_state(self._settle())

    def snapshot(self) -> bytes:
        """The whole session as bytes, good for any executor of the same program."""
        return Snapshot(self.state, self.rng, self.pending, self.fed).to_bytes(self.program)

    def restore(self, data: bytes) -> None:
        """Become the session of ``data``; SnapshotError and no change if damaged or of another program."""
        found = Snapshot.from_bytes(data, self.program)
        self._backend.set_state(self._settle(), found.state)
        self.rng, self.pending, self.fed = found.rng, found.pending, found.fed

    def close(self) -> None:
        """Free the session's place; closing twice is allowed."""
        if self._session is not None:
            self._backend.release(self._session)
            self._session, live = None, self._live
            if live is not None:
                live.close()
            self._on_close()

    def _open(self) -> int:
        if self._session is None:
            raise UsageError("the session is closed")
        return self._session

    def _settle(self) -> int:
        """End what is under way, so that the back end stands where the session does: the session's number."""
        session, live, self._live = self._open(), self._live, None
        if live is not None:
            live.close()
        return session

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _decode(tokens: Iterator[int], stream: TextStream) -> Iterator[str]:
    """Text as soon as a character is whole; what is no text becomes U+FFFD."""
    for token in tokens:
        if text := stream.feed(token):
            yield text
    if text := stream.finish():
        yield text
