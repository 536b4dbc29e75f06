"""Which session of a board is where: the slots of its engine, and what the host knows of each session."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ternac.errors import UsageError
from ternac.host.backend import ReplayPoint, State

__all__ = ["Journal", "Place", "Places"]


class Journal:
    """Where a session stands, as the host knows it: a state that it had, and the tokens fed since (u16)."""

    __slots__ = ("state", "tokens")

    def __init__(self, state: State, tokens: Iterable[int] = ()) -> None:
        self.state, self.tokens = state, array("H", tokens)

    def known(self, state: State) -> None:
        """The host has seen ``state``, where the session stands now: nothing needs to be fed again."""
        self.state, self.tokens = state, array("H")

    def draft(self) -> Journal:
        """A copy to work on; the states are never changed in place."""
        return Journal(self.state, self.tokens)

    def recall(self) -> ReplayPoint:
        """For another back end."""
        return ReplayPoint(self.state.copy(), tuple(self.tokens))


@dataclass(slots=True)
class Place:
    """One session: its journal, and the slot that holds where that leads; without one it exists only here.

    ``stream`` is who generates in it. Then the slot may be ahead of the journal, by the tokens that have not
    been handed out; ``later`` is the state of such a slot when it was given away.
    """

    journal: Journal = field(repr=False)
    slot: int | None = None
    stream: object = None
    later: State | None = field(default=None, repr=False)


class Places:
    """Sessions by number, and the slots in the order of their last use."""

    def __init__(self, slots: int, state_words: int) -> None:
        self.slots: OrderedDict[int, int | None] = OrderedDict((slot, None) for slot in range(slots))
        self._words = state_words
        self._places: dict[int, Place] = {}
        self._next = 0

    def open(self) -> int:
        """A new session with a zero state, in no slot."""
        self._next += 1
        self._places[self._next] = Place(Journal(np.zeros(self._words, np.int16)))
        return self._next

    def __getitem__(self, session: int) -> Place:
        """UsageError for one that is not open."""
        try:
            return self._places[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def remove(self, session: int) -> None:
        """Forget a session, if it is there."""
        self.end_stream(session)
        self.vacate(session)
        self._places.pop(session, None)

    def end_stream(self, session: int) -> None:
        """Something else than its stream wants the session: what the stream ran ahead does not count."""
        place = self._places.get(session)
        if place is not None and place.stream is not None:
            place.stream = None
            self.lost(session)

    def vacate(self, session: int) -> None:
        """The session is in no slot any more."""
        place = self._places.get(session)
        if place is not None and place.slot is not None:
            self.slots[place.slot] = None
            place.slot = None

    def lost(self, session: int) -> None:
        """What the board has of the session, or had when its slot was given away, does not count any more."""
        self.vacate(session)
        if session in self._places:
            self._places[session].later = None

    def forget(self) -> None:
        """The board holds nothing of any session any more."""
        for slot, user in self.slots.items():
            if user is not None:
                self._places[user].slot = None
                self.slots[slot] = None

    def settle(self, session: int, slot: int) -> None:
        """``slot``, which nobody has, now holds where the session stands."""
        assert self.slots[slot] is None
        self.slots[slot], self[session].slot = session, slot

    def used(self, slot: int) -> None:
        """It is the last now that is given to another session."""
        self.slots.move_to_end(slot)

    def next_slot(self) -> tuple[int, int | None]:
        """The slot that the next session gets: a free one, else the longest unused; and who has it."""
        free = next((slot for slot, user in self.slots.items() if user is None), None)
        return (free, None) if free is not None else next(iter(self.slots.items()))
