"""Which session of a board is where: the slots of its engine, and what the host knows of each session."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from ternac.errors import UsageError
from ternac.host.backends.protocol import Recall, State

__all__ = ["Place", "Places"]


@dataclass
class Place:
    """One session: a state that it had, the tokens fed since (u16), and the slot that holds where they lead.

    Without a slot the session exists only here.
    """

    state: State = field(repr=False)
    tokens: array[int] = field(default_factory=lambda: array("H"), repr=False)
    slot: int | None = None

    def known(self, state: State) -> None:
        """The host has seen ``state``, where the session stands now: nothing needs to be fed again."""
        self.state, self.tokens = state, array("H")

    def draft(self) -> Place:
        """A copy to work on; :meth:`known` on it leaves this one's state alone."""
        return Place(self.state, self.tokens[:], self.slot)

    def recall(self) -> Recall:
        """For another back end."""
        return Recall(self.state.copy(), tuple(self.tokens))

    @property
    def nbytes(self) -> int:
        """Memory of state and tokens."""
        return self.state.nbytes + self.tokens.itemsize * len(self.tokens)


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
        self._places[self._next] = Place(np.zeros(self._words, np.int16))
        return self._next

    def __getitem__(self, session: int) -> Place:
        """UsageError for one that is not open."""
        try:
            return self._places[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def put(self, session: int, place: Place) -> None:
        """Replace what is known of a session; its slot is the same."""
        assert self[session].slot == place.slot
        self._places[session] = place

    def remove(self, session: int) -> None:
        """Forget a session, if it is there."""
        self.vacate(session)
        self._places.pop(session, None)

    def vacate(self, session: int) -> None:
        """What the session's slot holds, if it has one, does not count any more."""
        place = self._places.get(session)
        if place is not None and place.slot is not None:
            self.slots[place.slot] = None
            place.slot = None

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
