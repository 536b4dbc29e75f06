"""How often the LOOPs on a board run: words of its microcode, written when a request asks for others."""

from __future__ import annotations

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.isa import Opcode
from ternac.host.board.client import LinkClient

__all__ = ["LoopCounts"]


class LoopCounts:
    """The counts of ``image``'s LOOPs, in the microcode of every context, on the board behind ``client``."""

    def __init__(self, client: LinkClient, image: Image) -> None:
        own = [inst.count for inst in image.instructions if inst.op == Opcode.LOOP]
        contexts = range(len(image.entries))
        places = (zip(image.loop_words(k), own, strict=True) for k in contexts)
        self._client = client
        self._own = dict(pair for context in places for pair in context)
        """Word of the microcode: the count that the program has there."""
        self._held: int | None = None
        self._known = not self._own

    def set(self, loops: int | None) -> None:
        """Let every LOOP run ``loops`` times, or as often as the program says.

        Waits for the requests in flight if something must be written.
        """
        if self._known and loops == self._held:
            return
        self.forget()
        for word, own in self._own.items():
            count = np.array([own if loops is None else loops], np.uint32)
            self._client.write(Mem.PROGRAM, word % 2, word // 2, count, 2)
        self._held, self._known = loops, True

    def forget(self) -> None:
        """Write all counts at the next `set`: the board may hold others."""
        self._held, self._known = None, not self._own

    def loaded(self) -> None:
        """Take the counts for the program's: its image was written just now."""
        self._held, self._known = None, True
