"""Whether a board still holds what was written to it: a number in a bank word that nothing else uses."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import program_id
from ternac.errors import DeviceRefused
from ternac.host.board.client import Gap, LinkClient

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

    def __init__(self, client: LinkClient, image: Image, forget: Callable[[], None]) -> None:
        """``forget`` is called when the board holds no session any more."""
        self._client, self._image, self._forget = client, image, forget
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

    def look(self) -> None:
        """Before requests: the sessions are forgotten if the board does not hold them. DeviceRefused if it
        does not hold the program either."""
        client = self._client
        idle = time.monotonic() - client.answered >= QUICK
        if not self._number or idle or self._resent != client.resent:
            self._check()

    def sure(self) -> None:
        """Behind requests: Gap if the board was configured anew under one that had to be sent again, for then
        nothing that it said counts; DeviceRefused as of `look`."""
        if self._resent != self._client.resent and not self._check():
            raise Gap(f"{self._name}: the board was configured anew", "call again: its sessions are kept")

    @property
    def _name(self) -> str:
        return self._client.transport.name

    def _check(self) -> bool:
        """Whether the number is where it was; if not, another one is there from now on."""
        if self._address is None:
            return True
        client = self._client
        held = self._number and int(client.read(0, self._address, 1)[0]) == self._number
        if not held:
            self._forget()
            if client.hello().program_hash != program_id(self._image):
                raise DeviceRefused(
                    f"{self._name} was configured anew and does not hold the program",
                    "open the device again, which loads it; state and tokens of its sessions: Backend.recall",
                )
            self._number = 1 + secrets.randbelow(0xFFFF)
            client.write(Mem.BANK, 0, self._address, np.array([self._number], np.uint32), 2)
        self._resent = client.resent
        return bool(held)
