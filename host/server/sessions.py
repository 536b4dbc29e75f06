"""Sessions between requests: a snapshot each, under a name that the client chose."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ternac.errors import Overloaded, SessionBusy, UnknownSession
from ternac.host.server.limits import Limits


@dataclass(frozen=True)
class Kept:
    """A session at rest: its snapshot (docs/program.md), and True if its text ends inside a chat turn."""

    data: bytes
    open_turn: bool = False


@dataclass
class _Entry:
    kept: Kept
    used: float
    ticket: int = 0
    until: float = 0.0


class SessionTable:
    """The sessions of one server or of many replicas; no method waits.

    A request takes a session and gives it back, changed if the request finished. Meanwhile others get
    SessionBusy, until the time for which it was taken is over. A session costs its snapshot, which is of
    constant size. Unused ones are dropped after ``limits.session_seconds``.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._entries: dict[str, _Entry] = {}
        self._tickets = itertools.count(1)

    def put(self, name: str, kept: Kept) -> bool:
        """Keep a session; returns True if it is new. Raises SessionBusy if one of that name is in use,
        Overloaded if there are too many.
        """
        now = self._clock()
        entry = self._entries.get(name)
        if entry is not None and self._busy(entry):
            raise _busy(name)
        self._check_bytes(name, kept)
        if entry is None:
            self._drop_old(now)
            if len(self._entries) >= self._limits.sessions:
                raise Overloaded(
                    f"{len(self._entries)} sessions are kept, which is the limit",
                    "delete one; unused ones are dropped after the time of --session-seconds",
                )
        self._entries[name] = _Entry(kept, now)
        return entry is None

    def get(self, name: str) -> Kept:
        """Return the session as its last finished request left it. Raises UnknownSession."""
        return self._entry(name).kept

    def delete(self, name: str) -> None:
        """Delete a session. Raises UnknownSession, SessionBusy."""
        if self._busy(self._entry(name)):
            raise _busy(name)
        del self._entries[name]

    def take(self, name: str, seconds: float) -> tuple[Kept, int]:
        """Take a session for ``seconds``; returns it and a ticket to give it back with.

        Raises UnknownSession, SessionBusy.
        """
        entry = self._entry(name)
        if self._busy(entry):
            raise _busy(name)
        entry.ticket, entry.until = next(self._tickets), self._clock() + seconds
        return entry.kept, entry.ticket

    def give(self, name: str, ticket: int, kept: Kept | None) -> bool:
        """Give back what was taken, changed unless None; returns False if the ticket has expired.

        Raises Overloaded if all sessions have too many bytes then; it is unchanged.
        """
        entry = self._entries.get(name)
        if entry is None or entry.ticket != ticket:
            return False
        entry.ticket, entry.used = 0, self._clock()
        if kept is not None:
            self._check_bytes(name, kept)
            entry.kept = kept
        return True

    def count(self) -> int:
        """Sessions that are kept."""
        self._drop_old(self._clock())
        return len(self._entries)

    def _check_bytes(self, name: str, kept: Kept) -> None:
        held = sum(len(entry.kept.data) for other, entry in self._entries.items() if other != name)
        if held + len(kept.data) > self._limits.session_bytes:
            raise Overloaded(
                f"the sessions have {held:,} bytes, with this one of {len(kept.data):,} more than the limit "
                f"of {self._limits.session_bytes:,}",
                "delete one; unused ones are dropped after the time of --session-seconds",
            )

    def _entry(self, name: str) -> _Entry:
        self._drop_old(self._clock())
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownSession(
                f"there is no session {name!r}", f"make it: PUT /v1/sessions/{name} with an empty body"
            ) from None

    def _busy(self, entry: _Entry) -> bool:
        return entry.ticket != 0 and self._clock() < entry.until

    def _drop_old(self, now: float) -> None:
        oldest = now - self._limits.session_seconds
        for name in [n for n, e in self._entries.items() if e.used < oldest and not self._busy(e)]:
            del self._entries[name]


class Sessions(Protocol):
    """A `SessionTable` that may be in another process."""

    async def put(self, name: str, kept: Kept) -> bool: ...

    async def get(self, name: str) -> Kept: ...

    async def delete(self, name: str) -> None: ...

    async def take(self, name: str, seconds: float) -> tuple[Kept, int]: ...

    async def give(self, name: str, ticket: int, kept: Kept | None) -> bool: ...

    async def count(self) -> int: ...


class LocalSessions:
    """Sessions in this process, on one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._table = SessionTable(limits)

    async def put(self, name: str, kept: Kept) -> bool:
        return self._table.put(name, kept)

    async def get(self, name: str) -> Kept:
        return self._table.get(name)

    async def delete(self, name: str) -> None:
        self._table.delete(name)

    async def take(self, name: str, seconds: float) -> tuple[Kept, int]:
        return self._table.take(name, seconds)

    async def give(self, name: str, ticket: int, kept: Kept | None) -> bool:
        return self._table.give(name, ticket, kept)

    async def count(self) -> int:
        return self._table.count()

    def held(self) -> int:
        """`count` without waiting."""
        return self._table.count()


def _busy(name: str) -> SessionBusy:
    return SessionBusy(f"session {name!r} has a request that is not finished", "send one request at a time")
