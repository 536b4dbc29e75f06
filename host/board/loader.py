"""Load an image into a board; a long load that was interrupted is resumed.

Its progress is kept on the board itself, in the first words of a bank, which are unused while no program is
loaded: 16 bytes of a digest over everything to be written, and the number of requests answered. A board that
lost power has lost both; a load of another image begins by overwriting them. One frame holds both, and a
frame is executed whole or not at all, so the progress never counts words that were not written.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import load_requests, program_id
from ternac.errors import LostAnswer
from ternac.host.board.client import LinkClient
from ternac.link import Command, Identity
from ternac.progress import Progress

__all__ = ["JOURNAL_EVERY", "load_image"]

ATTEMPTS = 4
"""Loads that are begun, each where the one before was interrupted by a lost request or a restart."""

JOURNAL_EVERY = 64
"""Requests after which progress is written: at most this many are repeated."""
_DIGEST_WORDS, _COUNT_WORDS = 8, 2


def load_image(
    client: LinkClient, identity: Identity, image: Image, label: str, *, progress: bool = True
) -> int:
    """Write all of ``image`` and commit it; returns the number of requests kept from an interrupted load.

    Only loads of geometries whose weights stream can be resumed: the others take a second. A load that fails
    leaves the board without a program, never with a mixture. The line is open afterwards.
    """
    kept = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            kept = max(kept, _load(client, identity, image, label, progress=progress))
            client.hello()
            return kept
        except LostAnswer:
            if attempt == ATTEMPTS:
                raise
            identity = client.hello()
            if identity.program_hash == program_id(image):  # only the answer to COMMIT was lost
                return kept
    raise AssertionError("not reached")


def _load(client: LinkClient, identity: Identity, image: Image, label: str, *, progress: bool) -> int:
    _, *body, (_, program) = load_requests(image)
    saved = _Progress(client, body) if image.geometry.streams else None
    done = kept = saved.read() if saved and not identity.loaded else 0
    client.commit()
    if saved and not done:
        saved.write(0)
    sizes = np.cumsum([0, *(len(payload) for _, payload in body)])
    with Progress(int(sizes[-1]) if progress else 0, label, "bytes", start=int(sizes[done])) as bar:
        while done < len(body):
            client.request(*body[done])
            done += 1
            if saved and done % JOURNAL_EVERY == 0:
                saved.write(done)
            if progress:
                bar.update(int(sizes[done]), "resumed" if kept else "")
    if saved:
        saved.clear()
    client.commit(program)
    return kept


class _Progress:
    """The number of requests of ``body`` that a board has answered, kept in its bank words of column 0."""

    def __init__(self, client: LinkClient, body: list[tuple[Command, bytes]]) -> None:
        self.client, self.requests = client, len(body)
        digest = hashlib.sha256()
        for _, payload in body:
            digest.update(len(payload).to_bytes(4, "little") + payload)
        self.digest = np.frombuffer(digest.digest()[: 2 * _DIGEST_WORDS], "<u2").astype(np.uint32)

    def read(self) -> int:
        """Return the number of requests that need not be resent; 0 if the board has none of this load."""
        words = self.client.read(0, 0, _DIGEST_WORDS + _COUNT_WORDS)
        done = int(words[_DIGEST_WORDS]) | int(words[_DIGEST_WORDS + 1]) << 16
        good = np.array_equal(words[:_DIGEST_WORDS], self.digest) and done <= self.requests
        return done if good else 0

    def write(self, done: int) -> None:
        """Record that the first ``done`` requests have been answered."""
        words = np.array([*self.digest, done & 0xFFFF, done >> 16], np.uint32)
        self.client.write(Mem.BANK, 0, 0, words, 2)

    def clear(self) -> None:
        """Erase the progress."""
        self.client.write(Mem.BANK, 0, 0, np.zeros(_DIGEST_WORDS + _COUNT_WORDS, np.uint32), 2)
