"""A board behind the link, with its session slots."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ternac.compile import Image, Symbol
from ternac.errors import UsageError
from ternac.geometry import Mem
from ternac.host.backends.memory import check_state
from ternac.host.backends.places import Place, Places
from ternac.host.backends.protocol import Meter, Recall, State
from ternac.host.client import BatchMember, LinkClient
from ternac.host.loader import load_image
from ternac.layout import from_slots, to_slots
from ternac.loading import program_id
from ternac.program import Program
from ternac.protocol import MAX_BATCH_TOKENS, MAX_PROMPT, MAX_WORDS, MAX_WRITE_BYTES, Identity
from ternac.sampling import Sampling

__all__ = ["JOURNAL", "BoardBackend"]

JOURNAL = 16_384
"""Tokens after which a session's state is read from the board, so that no more are ever fed again."""


class BoardBackend:
    """A board that holds ``image``; sessions beyond its slots take turns, the longest unused is moved out.

    Construct with :meth:`load` done by the caller, or call it: nothing is written before.

    Of every session the host keeps a state that it had and the tokens fed since, at most ``journal``: 2 bytes
    a state word and up to 2 * ``journal`` where the session is in a slot, the state alone where it is not.
    When a request fails, nobody knows whether it was executed; the session's slot then counts no more, and
    the session is written and fed again when it next runs.
    """

    def __init__(
        self,
        client: LinkClient,
        identity: Identity,
        program: Program,
        image: Image,
        chunk: int,
        journal: int = JOURNAL,
    ) -> None:
        self.name = client.transport.name
        self.program, self.image, self.client, self.identity = program, image, client, identity
        self.chunk = max(1, min(chunk, MAX_WORDS))
        self.journal = journal
        self.meter = Meter()
        self.places = Places(image.sessions, program.state_words)

    def load(self, *, force: bool = False, progress: bool = True) -> bool:
        """Write the image unless the board says that it holds it; True when it was written.

        A load that fails half-way leaves the board empty, never with a mixture; call again to begin anew, or
        to go on where weights stream (`ternac.host.loader`).
        """
        if not force and self.identity.program_hash == program_id(self.image):
            return False
        load_image(self.client, self.identity, self.image, f"load {self.program.name}", progress=progress)
        return True

    def open(self) -> int:
        """A new session; it takes a slot when it first runs."""
        return self.places.open()

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """As few RUN requests as their size allows."""
        with self._changing([session]) as (place,):
            return self._run(place, tokens, count, sampling, rng)

    def _run(
        self, place: Place, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        left = list(tokens)
        chosen: list[int] = []
        while left:
            part, left = left[:MAX_PROMPT], left[MAX_PROMPT:]
            number = 0 if left else min(count - len(chosen), MAX_WORDS)
            began = time.perf_counter()
            answer = self.client.run(self._base(place), part, number, sampling, rng)
            self.meter.seconds += time.perf_counter() - began
            self.meter.steps += len(part) + max(number - 1, 0)
            self.meter.cycles += answer.cycles
            place.tokens.extend(part + answer.tokens[:-1])
            self._bound(place)
            chosen += answer.tokens
            rng = answer.rng
            if not left and len(chosen) < count:
                left = chosen[-1:]
        return chosen, rng

    @property
    def together(self) -> int:
        """Sessions that the engine can run at the same time."""
        return len(self.image.entries)

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """Feed one token to each of up to `together` sessions and choose ``count`` in each, all at the same
        time.

        Returns what `run` would for each. UsageError for too many sessions, or one twice.
        """
        if not 1 <= len(sessions) <= self.together or len(set(sessions)) != len(sessions):
            raise UsageError(
                f"{len(sessions)} sessions at a time: this engine runs 1 to {self.together} different ones"
            )
        step = self.image.entries[1] if self.together > 1 else 0
        found: list[tuple[list[int], int]] = [([], rng) for rng in rngs]
        last = list(tokens)
        with self._changing(sessions) as places:
            bases = [self._base(place) for place in places]
            while len(found[0][0]) < count:
                number = min(count - len(found[0][0]), MAX_BATCH_TOKENS)
                members = [
                    BatchMember(f[1], base, token) for f, base, token in zip(found, bases, last, strict=True)
                ]
                began = time.perf_counter()
                answers, cycles = self.client.batch(members, step, number, sampling)
                self.meter.seconds += time.perf_counter() - began
                self.meter.steps += number * len(sessions)
                self.meter.cycles += cycles
                for place, token, (chosen, _) in zip(places, last, answers, strict=True):
                    place.tokens.extend([token, *chosen[:-1]])
                    self._bound(place)
                found = [(f[0] + chosen, rng) for f, (chosen, rng) in zip(found, answers, strict=True)]
                last = [f[0][-1] for f in found]
        return found

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Run one token, then read the logits from the banks."""
        with self._changing([session]) as (place,):
            self._run(place, [token], 0, Sampling(), 1)
            return self.read_vector(self.image.logits)

    def read_vector(self, symbol: Symbol, base: int = 0) -> npt.NDArray[np.int32]:
        """The int32 elements of a symbol of the image (``base``: the session's, for a state)."""
        geometry = self.image.geometry
        slots = geometry.slots(symbol.length)
        words = np.zeros((geometry.columns, slots), np.uint32)
        for column in range(geometry.columns):
            for at in range(0, slots, MAX_WORDS):
                n = min(MAX_WORDS, slots - at)
                words[column, at : at + n] = self.client.read(column, symbol.address + base + at, n)
        return from_slots(words, symbol.length)

    def get_state(self, session: int) -> State:
        """From the board, or from here where the board does not hold the session."""
        place = self.places[session]
        if place.tokens:
            with self._changing([session]) as (draft,):
                draft.known(self._read_state(self._base(draft)))
        return self.places[session].state.copy()

    def set_state(self, session: int, state: State) -> None:
        """Kept here until the session runs. UsageError for another type or length."""
        check_state(state, self.program)
        self.places.vacate(session)
        self.places[session].known(state.copy())

    def recall(self, session: int) -> Recall:
        """A state that the session had, and the tokens fed since."""
        return self.places[session].recall()

    def release(self, session: int) -> None:
        """Free its slot."""
        self.places.remove(session)

    def close(self) -> None:
        """Close the line; the board keeps program and states."""
        self.client.transport.close()

    @contextmanager
    def _changing(self, sessions: Sequence[int]) -> Iterator[list[Place]]:
        """Drafts of the sessions' places, all in slots, which count when all went well. After an exception
        the sessions are what they were, and what their slots hold counts no more."""
        try:
            for session in sessions:
                self._settle(session)
            drafts = [self.places[session].draft() for session in sessions]
            yield drafts
        except BaseException:
            for session in sessions:
                self.places.vacate(session)
            raise
        for session, draft in zip(sessions, drafts, strict=True):
            self.places.put(session, draft)

    def _settle(self, session: int) -> None:
        """Bring a session into a slot, if it is not in one, and make that the last to be given away."""
        place = self.places[session]
        if place.slot is None:
            slot, other = self.places.next_slot()
            if other is not None:
                moved = self.places[other]
                moved.known(self._read_state(self.image.session_base(slot)))
                self.places.vacate(other)
            self._write_state(slot, place.state)
            for at in range(0, len(place.tokens), MAX_PROMPT):
                again = place.tokens[at : at + MAX_PROMPT]
                self.client.run(self.image.session_base(slot), again, 0, Sampling(), 1)
            self.places.settle(session, slot)
        assert place.slot is not None
        self.places.used(place.slot)

    def _base(self, place: Place) -> int:
        """The session base of a place that is in a slot."""
        assert place.slot is not None
        return self.image.session_base(place.slot)

    def _bound(self, place: Place) -> None:
        """Read the state where more than ``journal`` tokens would have to be fed again."""
        if len(place.tokens) >= self.journal:
            place.known(self._read_state(self._base(place)))

    def _read_state(self, base: int) -> State:
        state = np.zeros(self.program.state_words, np.int16)
        for name, part in self.program.state_slices().items():
            state[part] = self.read_vector(self.image.states[name], base)
        return state

    def _write_state(self, slot: int, state: State) -> None:
        image, geometry = self.image, self.image.geometry
        words = np.zeros((geometry.columns, image.state_slots), np.uint32)
        for name, part in self.program.state_slices().items():
            symbol = image.states[name]
            at = symbol.address - image.state_base
            words[:, at : at + geometry.slots(symbol.length)] = to_slots(
                state[part].astype(np.int32), geometry
            )
        start, step = image.state_base + image.session_base(slot), MAX_WRITE_BYTES // 2
        for column in range(geometry.columns):
            for at in range(0, image.state_slots, step):
                self.client.write(Mem.BANK, column, start + at, words[column, at : at + step], 2)
