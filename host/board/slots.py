"""The session slots of a board's engine, and what the host knows of each session."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from ternac.errors import UsageError
from ternac.host.backend import State
from ternac.host.board.pipeline import Journal, RunPipeline

__all__ = ["SessionEntry", "SlotTable"]


@dataclass(slots=True)
class SessionEntry:
    """One session: its journal, and the slot that holds where that leads; without a slot it exists only here.

    ``stream`` is the pipeline whose tokens are being handed out. Then the slot may be ahead of the journal;
    ``evicted_state`` is the state of such a slot when another session took it.
    """

    journal: Journal = field(repr=False)
    slot: int | None = None
    stream: RunPipeline | None = None
    evicted_state: State | None = field(default=None, repr=False)


class SlotTable:
    """Sessions by number, and the slots in the order of their last use."""

    def __init__(self, slots: int, state_words: int) -> None:
        self.users: OrderedDict[int, int | None] = OrderedDict((slot, None) for slot in range(slots))
        """Slot to the session in it, least recently used first."""
        self._words = state_words
        self._entries: dict[int, SessionEntry] = {}
        self._next = 0

    def open(self) -> int:
        """Open a session with a zero state, in no slot; returns its number."""
        self._next += 1
        self._entries[self._next] = SessionEntry(Journal(np.zeros(self._words, np.int16)))
        return self._next

    def __getitem__(self, session: int) -> SessionEntry:
        """Raises UsageError if the session is not open."""
        try:
            return self._entries[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def remove(self, session: int) -> None:
        """Close a session, if it is open."""
        if session in self._entries:
            self.end_stream(session)
            self.vacate(session)
            del self._entries[session]

    def begin_stream(self, session: int, pipeline: RunPipeline) -> SessionEntry:
        """Make ``pipeline`` the session's stream."""
        entry = self[session]
        entry.stream = pipeline
        return entry

    def end_stream(self, session: int) -> None:
        """Drop the session's stream, if it has one, and what that ran ahead in the slot."""
        entry = self[session]
        if entry.stream is not None:
            entry.stream = None
            self.invalidate(session)

    def finish_stream(self, session: int, pipeline: RunPipeline) -> None:
        """End a stream that is over, or was abandoned: then its slot holds too much."""
        entry = self._entries.get(session)
        if entry is None or entry.stream is not pipeline:
            return
        if not pipeline.done:
            self.vacate(session)
        elif entry.evicted_state is not None:
            entry.journal.rebase(entry.evicted_state)
        entry.stream = entry.evicted_state = None

    def vacate(self, session: int) -> None:
        """Free the session's slot, if it has one."""
        entry = self._entries[session]
        if entry.slot is not None:
            self.users[entry.slot] = None
            entry.slot = None

    def invalidate(self, session: int) -> None:
        """Drop what the board has of the session, or had when it was evicted: only the journal counts."""
        if session in self._entries:
            self.vacate(session)
            self._entries[session].evicted_state = None

    def drop_all(self) -> None:
        """Free all slots: the board holds no session any more."""
        for slot, user in self.users.items():
            if user is not None:
                self._entries[user].slot = None
                self.users[slot] = None

    def assign(self, session: int, slot: int) -> None:
        """Record that ``slot``, which is free, holds where the session stands."""
        assert self.users[slot] is None
        self.users[slot], self[session].slot = session, slot

    def touch(self, slot: int) -> None:
        """Mark a slot as used just now."""
        self.users.move_to_end(slot)

    def next_slot(self) -> tuple[int, int | None]:
        """Return the slot for the next session, and the session to evict from it, if it is not free."""
        free = next((slot for slot, user in self.users.items() if user is None), None)
        return (free, None) if free is not None else next(iter(self.users.items()))
