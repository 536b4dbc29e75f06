"""A board behind the link, with its session slots."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ternac.compile.compiler import Image, Symbol
from ternac.compile.loading import program_id
from ternac.errors import UsageError
from ternac.host.backend import Meter, Recall, State
from ternac.host.board.banks import Banks
from ternac.host.board.client import BatchMember, Gap, LinkClient, RunAnswer
from ternac.host.board.loader import load_image
from ternac.host.board.pipeline import Chain
from ternac.host.board.restart_guard import Guard
from ternac.host.board.slots import Journal, Place, Places
from ternac.host.memory import check_state
from ternac.link import MAX_BATCH_TOKENS, MAX_PROMPT, MAX_WORDS, Identity
from ternac.program.program import Program
from ternac.run.sampling import Sampling

__all__ = ["JOURNAL", "BoardBackend"]

JOURNAL = 16_384
"""Tokens after which a session's state is read from the board, so that no more are ever fed again."""
SMOOTH, LEAST = 0.03, 8
"""Seconds of work in one answer of a stream, and tokens, whichever is more."""


class BoardBackend:
    """A board that holds ``image``; sessions beyond its slots take turns, the longest unused is moved out.

    Construct with :meth:`load` done by the caller, or call it: nothing is written before.

    Of every session the host keeps a state that it had and the tokens fed since, at most ``journal`` and
    those of one request: 2 bytes a state word and a token. A session that is in no slot has no tokens, unless
    it was interrupted. When a request fails, nobody knows whether it was executed; the session's slot then
    counts no more, and the session is written and fed again when it next runs.
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
        self._guard = Guard(client, image, lambda: self.places.forget())
        self.places = Places(self._guard.sessions, program.state_words)
        self._banks = Banks(client, program, image)

    def load(self, *, force: bool = False, progress: bool = True) -> bool:
        """Write the image unless the board says that it holds it; True when it was written.

        A load that fails half-way leaves the board empty, never with a mixture; call again to begin anew, or
        to go on where weights stream (`ternac.host.board.loader`).
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
        with self._changing([session]) as (draft,):
            chain = Chain(self.client, tokens, count, sampling, rng)
            chosen: list[int] = []
            while not chain.done:
                fed, answer = self._take(session, draft, chain, MAX_WORDS)
                draft.tokens.extend(fed + answer.tokens[:-1])
                chosen += answer.tokens
            return chosen, chain.rng

    def stream(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> Generator[int]:
        """While tokens are handed out the engine works on the next ones."""
        self.places.end_stream(session)
        place, chain = self.places[session], Chain(self.client, tokens, count, sampling, rng)
        journal, whole = place.journal.draft(), False
        place.stream = chain
        try:
            while not chain.done:
                fed, answer = self._take(session, journal, chain, self._chunk())
                if not answer.tokens:
                    journal.tokens.extend(fed)
                for at, token in enumerate(answer.tokens):
                    journal.tokens.extend(fed)
                    place.journal, fed = journal, [token]
                    whole = chain.done and at + 1 == len(answer.tokens)
                    yield token
                    if place.stream is not chain:
                        raise UsageError("the session was used elsewhere while its tokens were streamed")
            place.journal, whole = journal, True
        finally:
            if place.stream is chain:
                if whole and place.later is not None:
                    journal.known(place.later)
                if not whole:
                    self.places.vacate(session)
                place.stream = place.later = None

    def _take(self, session: int, journal: Journal, chain: Chain, chunk: int) -> tuple[list[int], RunAnswer]:
        """The next answer of a chain, with more sent behind it. ``journal`` says where the session stands
        without what is under way; what the line loses is begun again from there."""
        place = self.places[session]
        while True:
            began = chain.taken if chain.under_way else time.perf_counter()
            try:
                if not chain.under_way:
                    self._guard.look()
                    base = self._settle(session, journal)
                    if len(journal.tokens) >= self.journal:
                        journal.known(self._read_state(base))
                self._send(place, chain, chunk, len(journal.tokens))
                fed, answer = chain.take(self._guard.sure)
            except Gap:
                self.places.lost(session)
                chain.restart()
                continue
            finally:
                chain.taken = time.perf_counter()
                self.meter.seconds += chain.taken - began
            self.meter.steps += len(fed) + max(len(answer.tokens) - 1, 0)
            self.meter.cycles += answer.cycles
            self._send(place, chain, chunk, len(journal.tokens) + len(fed) + len(answer.tokens))
            return fed, answer

    def _send(self, place: Place, chain: Chain, chunk: int, fed: int) -> None:
        """Keep the line busy, if the session still has its slot, until the journal would be full."""
        if place.slot is not None:
            chain.send(self.image.session_base(place.slot), chunk, self.journal - fed)

    def _chunk(self) -> int:
        """Tokens worth an answer: as many as take SMOOTH seconds by the engine's own count of cycles."""
        if not (self.identity.clock_hz and self.meter.cycles):
            return self.chunk
        a_second = self.identity.clock_hz * self.meter.steps / self.meter.cycles
        return max(LEAST, min(int(SMOOTH * a_second), MAX_WORDS))

    @property
    def together(self) -> int:
        """Sessions that the engine can run at the same time."""
        return min(len(self.image.entries), len(self.places.slots))

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
        if self.together == 1:  # an engine with one context knows no BATCH
            return [self.run(sessions[0], [tokens[0]], count, sampling, rngs[0])]
        step = self.image.entries[1]
        found: list[tuple[list[int], int]] = [([], rng) for rng in rngs]
        last = list(tokens)
        with self._changing(sessions) as drafts:
            self._guard.look()
            bases = [self._settle(session, draft) for session, draft in zip(sessions, drafts, strict=True)]
            while len(found[0][0]) < count:
                number = min(count - len(found[0][0]), MAX_BATCH_TOKENS)
                members = [
                    BatchMember(f[1], base, token) for f, base, token in zip(found, bases, last, strict=True)
                ]
                began = time.perf_counter()
                answers, cycles = self.client.batch(members, step, number, sampling)
                self._guard.sure()
                self.meter.seconds += time.perf_counter() - began
                self.meter.steps += number * len(sessions)
                self.meter.cycles += cycles
                for draft, base, token, (chosen, _) in zip(drafts, bases, last, answers, strict=True):
                    draft.tokens.extend([token, *chosen[:-1]])
                    if len(draft.tokens) >= self.journal:
                        draft.known(self._read_state(base))
                found = [(f[0] + chosen, rng) for f, (chosen, rng) in zip(found, answers, strict=True)]
                last = [f[0][-1] for f in found]
        return found

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Run one token, then read the logits from the banks."""
        with self._changing([session]) as (draft,):
            self._take(session, draft, Chain(self.client, [token], 0, Sampling(), 1), 0)
            draft.tokens.append(token)
            return self.read_vector(self.image.logits)

    def read_vector(self, symbol: Symbol, base: int = 0) -> npt.NDArray[np.int32]:
        """The int32 elements of a symbol of the image (``base``: the session's, for a state)."""
        vector = self._banks.read_vector(symbol, base)
        self._guard.sure()
        return vector

    def get_state(self, session: int) -> State:
        """From the board, or from here where the board does not hold the session."""
        with self._changing([session]) as (draft,):
            if draft.tokens:
                self._guard.look()
                draft.known(self._read_state(self._settle(session, draft)))
            return draft.state.copy()

    def set_state(self, session: int, state: State) -> None:
        """Kept here until the session runs. UsageError for another type or length."""
        check_state(state, self.program)
        place = self.places[session]
        self.places.lost(session)
        place.stream, place.journal = None, Journal(state.copy())

    def recall(self, session: int) -> Recall:
        """A state that the session had, and the tokens fed since."""
        return self.places[session].journal.recall()

    def release(self, session: int) -> None:
        """Free its slot."""
        self.places.remove(session)

    def close(self) -> None:
        """Close the line; the board keeps program and states."""
        self.client.transport.close()

    @contextmanager
    def _changing(self, sessions: Sequence[int]) -> Iterator[list[Journal]]:
        """Drafts of the sessions' journals, which count when all went well. After an exception the sessions
        are what they were, and what their slots hold counts no more."""
        places = [self.places[session] for session in sessions]
        for session in sessions:
            self.places.end_stream(session)
        drafts = [place.journal.draft() for place in places]
        try:
            yield drafts
        except BaseException:
            for session in sessions:
                self.places.lost(session)
            raise
        for place, draft in zip(places, drafts, strict=True):
            place.journal = draft

    def _settle(self, session: int, journal: Journal) -> int:
        """Bring a session to where ``journal`` leads, in a slot, unless it is in one: its session base."""
        place = self.places[session]
        if place.slot is None:
            if place.later is not None:
                journal.known(place.later)
                place.later = None
            slot, other = self.places.next_slot()
            base = self.image.session_base(slot)
            if other is not None:
                self._move_out(other, base)
            self._banks.write_state(base, journal.state)
            for at in range(0, len(journal.tokens), MAX_PROMPT):
                self.client.run(base, journal.tokens[at : at + MAX_PROMPT], 0, Sampling(), 1)
            self._guard.sure()
            self.places.settle(session, slot)
        assert place.slot is not None
        self.places.used(place.slot)
        return self.image.session_base(place.slot)

    def _read_state(self, base: int) -> State:
        state = self._banks.read_state(base)
        self._guard.sure()
        return state

    def _move_out(self, session: int, base: int) -> None:
        """Take a session's state from its slot."""
        place = self.places[session]
        state = self._read_state(base)
        if place.stream is None:
            place.journal.known(state)
        else:
            place.later = state
        self.places.vacate(session)
