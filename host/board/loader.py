"""Loads an image into a board; a long load that was interrupted goes on where it stopped.

How far it got is written down on the board itself, in the first words of a bank, which nobody else uses while
no program is loaded: 16 bytes of a digest over everything that is to be written, and how many requests have
been answered. A board that lost power has lost both; a load of something else begins by overwriting it. One
frame holds it all, and a frame is executed as a whole or not at all, so it never speaks of words that were
not written.
"""

from __future__ import annotations

import hashlib

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import load_requests
from ternac.host.board.client import LinkClient
from ternac.link import Command, Identity
from ternac.progress import Progress

__all__ = ["JOURNAL_EVERY", "load_image"]

JOURNAL_EVERY = 64
"""Requests after which progress is written down: so many at most are repeated."""
_DIGEST_WORDS, _COUNT_WORDS = 8, 2


def load_image(
    client: LinkClient, identity: Identity, image: Image, label: str, *, progress: bool = True
) -> int:
    """Write all of ``image`` and commit it; returns how many requests of an earlier load were still good.

    Only geometries whose weights stream are loaded in a way that can be resumed: the others take a second.
    Whatever ends it, the board is left without a program, never with a mixture.
    """
    unload, *body, commit = load_requests(image)
    journal = _Journal(client, body) if image.geometry.streams else None
    done = kept = journal.read() if journal and not identity.loaded else 0
    client.request(*unload)
    if journal and not done:
        journal.write(0)
    sizes = np.cumsum([0, *(len(payload) for _, payload in body)])
    with Progress(int(sizes[-1]) if progress else 0, label, "bytes", start=int(sizes[done])) as bar:
        while done < len(body):
            client.request(*body[done])
            done += 1
            if journal and done % JOURNAL_EVERY == 0:
                journal.write(done)
            if progress:
                bar.update(int(sizes[done]), "resumed" if kept else "")
    if journal:
        journal.clear()
    client.request(*commit)
    return kept


class _Journal:
    """How many of ``body`` a board has taken, as bank words 0 and up of column 0."""

    def __init__(self, client: LinkClient, body: list[tuple[Command, bytes]]) -> None:
        self.client, self.requests = client, len(body)
        digest = hashlib.sha256()
        for _, payload in body:
            digest.update(len(payload).to_bytes(4, "little") + payload)
        self.digest = np.frombuffer(digest.digest()[: 2 * _DIGEST_WORDS], "<u2").astype(np.uint32)

    def read(self) -> int:
        """Requests that need not be sent again; 0 when the board tells of another load, or of none."""
        words = self.client.read(0, 0, _DIGEST_WORDS + _COUNT_WORDS)
        done = int(words[_DIGEST_WORDS]) | int(words[_DIGEST_WORDS + 1]) << 16
        good = np.array_equal(words[:_DIGEST_WORDS], self.digest) and done <= self.requests
        return done if good else 0

    def write(self, done: int) -> None:
        """The first ``done`` requests have been answered."""
        words = np.array([*self.digest, done & 0xFFFF, done >> 16], np.uint32)
        self.client.write(Mem.BANK, 0, 0, words, 2)

    def clear(self) -> None:
        """Tell of no load."""
        self.client.write(Mem.BANK, 0, 0, np.zeros(_DIGEST_WORDS + _COUNT_WORDS, np.uint32), 2)
