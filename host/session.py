"""A running text on any back end, with the same tokens, snapshots and rules everywhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.files import write_bytes
from ternac.host.backend import Backend, State
from ternac.program.loops import check_loops
from ternac.run.generation import Generation, Run
from ternac.run.sampling import Sampling, seed_state
from ternac.run.snapshot import Snapshot
from ternac.text.tokenizer import ByteTokenizer, TextStream, encode_prompt, tokenizer_of


class Session:
    """Open with ``Device.session()``; usable as a context manager. After `close` methods raise UsageError.

    A back end may work ahead, but the session (``pending``, ``rng``, ``fed``, snapshot, what comes next)
    always stands where the tokens yielded so far lead, also when a stream is abandoned or fails.
    """

    def __init__(self, backend: Backend, seed: int = 1, on_close: Callable[[], None] = lambda: None) -> None:
        self.program = backend.program
        self._text = Generation(self.program.vocab, seed_state(seed))
        self._backend = backend
        self._on_close = on_close
        self._session: int | None = backend.open()
        self._live: Generator[int] | None = None

    @property
    def rng(self) -> int:
        """State of the generator."""
        return self._text.rng

    @property
    def pending(self) -> int | None:
        """The token chosen last, fed first when generation continues; None in a new session."""
        return self._text.pending

    @property
    def fed(self) -> int:
        """Tokens that the state has seen."""
        return self._text.fed

    @property
    def new(self) -> bool:
        """Nothing was fed or chosen yet: a prompt begins the text."""
        return self._text.new

    @property
    def ended(self) -> bool:
        """The token chosen last ends a text (`Program.special`)."""
        return self._text.pending in self.program.special.eos

    def reseed(self, seed: int) -> None:
        """Start the generator from ``seed``."""
        self._text.rng = seed_state(seed)

    @overload
    def generate(
        self,
        prompt: str = ...,
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        seed: int | None = ...,
        ignore_eos: bool = ...,
        loops: int | None = ...,
    ) -> Iterator[str]: ...

    @overload
    def generate(
        self,
        prompt: bytes,
        max_tokens: int = ...,
        temperature: float = ...,
        top_k: int = ...,
        seed: int | None = ...,
        ignore_eos: bool = ...,
        loops: int | None = ...,
    ) -> Iterator[bytes]: ...

    def generate(
        self,
        prompt: str | bytes = "",
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int | None = None,
        ignore_eos: bool = False,
        loops: int | None = None,
    ) -> Iterator[str] | Iterator[bytes]:
        """Feed ``prompt``, then stream ``max_tokens`` tokens as they come: text for str, bytes for bytes.

        The stream ends before a token that ends the text (`Program.special`); with ``ignore_eos`` that is a
        token like any other. A prompt that begins the session gets what the program puts in front.
        Temperature 0 takes the most likely token; otherwise tokens are drawn, among the ``top_k`` most likely
        if that is not 0, from a generator set by ``seed`` (None: as it stands). Without a prompt the text is
        continued; a new session needs one. A prompt of bytes needs a program whose tokens are bytes;
        `tokens` works for any program. ``loops`` as in `tokens`.
        """
        tokenizer = tokenizer_of(self.program, assume_bytes=True)
        data = prompt.encode() if isinstance(prompt, str) else bytes(prompt)
        if not isinstance(prompt, str) and not isinstance(tokenizer, ByteTokenizer):
            raise UsageError(
                f"the tokens of {self.program.name} are not bytes", "give the prompt as str, or use tokens()"
            )
        sampling = Sampling.from_temperature(temperature, self.program.logit_scale_bits, top_k)
        feed = encode_prompt(self.program, tokenizer, data, begins=self.new)
        stream = self.tokens(feed, max_tokens, sampling, seed, ignore_eos=ignore_eos, loops=loops)
        if not ignore_eos:
            stream = (token for token in stream if token not in self.program.special.eos)
        if isinstance(prompt, str):
            return _decode(stream, tokenizer.stream(feed))
        return (bytes((token,)) for token in stream)

    def tokens(
        self,
        prompt: Iterable[int] = (),
        count: int = 1,
        sampling: Sampling | None = None,
        seed: int | None = None,
        *,
        ignore_eos: bool = False,
        loops: int | None = None,
    ) -> Iterator[int]:
        """Feed the pending token and ``prompt``, then yield ``count`` tokens, each when it is known.

        A token that ends the text (`Program.special`) is the last one, unless ``ignore_eos``. The last token
        yielded stays pending (with ``count`` 0: the last of the prompt). By default tokens are chosen by
        argmax, and the generator stays as it is. ``loops``: how often the program's loops run at each token
        fed here, the pending one included (None: as the program says); the session does not keep it.

        Raises UsageError at once if a token is outside the vocabulary, a new session's prompt is empty, or
        the program has no such loops.
        """
        check_loops(self.program, loops)
        self._end_stream()
        feed = self._text.feed(prompt, count)
        if seed is not None:
            self.reseed(seed)
        ends = () if ignore_eos else self.program.special.eos
        return self._stream(feed, count, sampling or Sampling(), ends, loops)

    def _stream(
        self, feed: list[int], count: int, sampling: Sampling, ends: tuple[int, ...], loops: int | None
    ) -> Iterator[int]:
        text = self._text
        if not count:
            if feed[:-1]:
                self._backend.run(self._open(), Run(feed[:-1], loops=loops))
            text.advance(feed, (), sampling)
        while count:
            session = self._end_stream()
            run = Run(feed, count, sampling, text.rng, loops)
            live = self._live = self._backend.stream(session, run)
            for token in live:
                text.advance(feed, (token,), sampling)
                feed, count = [token], count - 1
                ended = token in ends
                if ended:  # a back end may have worked ahead: it goes back to where the text ends
                    self._end_stream()
                yield token
                if ended:
                    return
                if self._live is not live:  # the session was used meanwhile: continue from where it stands
                    break
            if count and text.pending is None:
                raise UsageError("the session was stepped elsewhere while it was generating")
            feed = [] if text.pending is None else [text.pending]

    def step(self, token: int, loops: int | None = None) -> npt.NDArray[np.int32]:
        """Feed one token; returns logits int32 [vocab]. A pending token is dropped. ``loops`` as in
        `tokens`.
        """
        session = self._end_stream()
        self._text.check([token])
        check_loops(self.program, loops)
        logits = self._backend.step(session, token, loops)
        self._text.stepped()
        return logits

    @property
    def state(self) -> State:
        """Copy of the state, int16 [program.state_words]."""
        return self._backend.get_state(self._end_stream())

    def snapshot(self) -> bytes:
        """Return the whole session as bytes, good for any executor of the same program."""
        return self._text.snapshot(self.state).to_bytes(self.program)

    def restore(self, data: bytes) -> None:
        """Become the session of ``data``.

        Raises SnapshotError, and changes nothing, if the bytes are damaged or of another program.
        """
        self._become(Snapshot.from_bytes(data, self.program))

    def save(self, path: str | Path) -> None:
        """Write the snapshot to a file, whole or not at all. Raises UsageError if it cannot be written."""
        write_bytes(path, self.snapshot())

    def load(self, path: str | Path) -> None:
        """Become the session that `save` wrote, on whatever executor.

        Raises SnapshotError naming the file if it is damaged or of another program, UsageError if it cannot
        be read; then nothing has changed.
        """
        self._become(Snapshot.read(path, self.program))

    def _become(self, found: Snapshot) -> None:
        self._backend.set_state(self._end_stream(), found.state)
        self._text.restore(found)

    def close(self) -> None:
        """Release the session in the back end. Closing twice is allowed."""
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

    def _end_stream(self) -> int:
        """Close a stream in progress, so that the back end stands where the session does; returns its
        number there.
        """
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
    """Yield text as soon as a character is whole; bytes that are no text become U+FFFD."""
    for token in tokens:
        if text := stream.feed(token):
            yield text
    if text := stream.finish():
        yield text
