"""Whether a board still holds what was written to it: a number in a bank word that nothing else uses."""

from __future__ import annotations

import secrets
import time

import numpy as np

from ternac.compile import Image
from ternac.geometry import Mem
from ternac.host.client import LinkClient

__all__ = ["QUICK", "Guard"]

QUICK = 0.02
"""Seconds between two answers in which no board can have started anew: configuring the FPGA takes longer."""


class Guard:
    """Notices that a board was configured anew, by its button or a dip of its supply, between two requests.

    With a program in its bitstream such a board answers as before, but its sessions' states are zero. A RUN
    that follows finds out by itself; before any other request the host reads its number again, unless the
    board answered less than `QUICK` seconds ago, and behind one that had to be sent again.

    A line that does not outlive its board (a pipe) needs none of this. ``sessions``: slots of the image that
    are left; the number takes the word behind them, or the last of them. Where there is but one, and no word
    behind it, nothing is noticed.
    """

    def __init__(self, client: LinkClient, image: Image) -> None:
        self._client = client
        self._number = self._resent = 0
        self._address: int | None = None
        self.sessions = image.sessions
        if not client.transport.restarts:
            return
        end = image.geometry.bank_depth - 1
        fit = (end - image.state_base) // image.state_slots if image.state_slots else image.sessions
        self.sessions = max(1, min(image.sessions, fit))
        free = image.state_base + self.sessions * image.state_slots
        if free <= end:
            self._address = free

    def unbroken(self) -> bool:
        """Before a request: whether the board's banks are what they were. If not, they are guarded from now
        on."""
        client = self._client
        if self._number and time.monotonic() - client.answered < QUICK and self._resent == client.resent:
            return True
        return self.sure(always=True)

    def sure(self, *, always: bool = False) -> bool:
        """Behind requests: the same, if any of them since the last look had to be sent again."""
        client = self._client
        if self._address is None or not (always or self._resent != client.resent):
            return True
        held = self._number and int(client.read(0, self._address, 1)[0]) == self._number
        if not held:
            self._number = 1 + secrets.randbelow(0xFFFF)
            client.write(Mem.BANK, 0, self._address, np.array([self._number], np.uint32), 2)
        self._resent = client.resent
        return bool(held)
