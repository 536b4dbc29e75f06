"""A board behind the link, with its session slots."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from ternac.compile.image import Image, Symbol
from ternac.compile.loading import program_id
from ternac.errors import UsageError
from ternac.host.backend import Meter, ReplayPoint, Speed, State, check_state, check_together
from ternac.host.board.banks import Banks
from ternac.host.board.client import BatchMember, Gap, LinkClient, RunAnswer
from ternac.host.board.loader import load_image
from ternac.host.board.pipeline import Chain
from ternac.host.board.restart_guard import Guard
from ternac.host.board.slots import Journal, Place, Places
from ternac.link import MAX_BATCH_TOKENS, MAX_PROMPT, MAX_WORDS, Identity
from ternac.manifest import read_manifest
from ternac.program.program import Program
from ternac.run.generation import Chosen, Run

__all__ = ["JOURNAL", "BoardBackend"]

JOURNAL = 16_384
"""Tokens after which a session's state is read from the board, so that no more are ever fed again."""
SMOOTH, LEAST = 0.03, 8
"""Seconds of work in one answer of a stream, and tokens, whichever is more."""


class BoardBackend:
    """A board that holds ``image``; sessions beyond its slots take turns, the longest unused is moved out.

    Construct with :meth:`load` done by the caller, or call it: nothing is written before. ``board`` names the
    board; ``measured`` says that time on the line is a board's own, not a simulation's or a recording's.

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
        *,
        board: str = "",
        measured: bool = False,
    ) -> None:
        self.name = client.transport.name
        self.program, self.image, self.client, self.identity = program, image, client, identity
        self.chunk = max(1, min(chunk, MAX_WORDS))
        self.journal = journal
        self._board, self._measured = board, measured
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

    def run(self, session: int, run: Run) -> Chosen:
        """Send as few RUN requests as their size allows."""
        with self._changing([session]) as (draft,):
            chain = Chain(self.client, run)
            chosen: list[int] = []
            while not chain.done:
                fed, answer = self._take(session, draft, chain, MAX_WORDS)
                draft.tokens.extend(fed + answer.tokens[:-1])
                chosen += answer.tokens
            return Chosen(chosen, chain.rng)

    def stream(self, session: int, run: Run) -> Generator[int]:
        """While tokens are yielded the engine works on the next ones."""
        self.places.end_stream(session)
        place, chain = self.places[session], Chain(self.client, run)
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

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        check_together(sessions, runs, self.together, "this engine")
        if self.together == 1:  # an engine with one context knows no BATCH
            return [self.run(sessions[0], runs[0])]
        count, sampling = runs[0].count, runs[0].sampling
        step = self.image.entries[1]
        found = [Chosen([], run.rng) for run in runs]
        last = [run.tokens[0] for run in runs]
        with self._changing(sessions) as drafts:
            self._guard.look()
            bases = [self._settle(session, draft) for session, draft in zip(sessions, drafts, strict=True)]
            while len(found[0].tokens) < count:
                number = min(count - len(found[0].tokens), MAX_BATCH_TOKENS)
                members = [
                    BatchMember(f.rng, base, token) for f, base, token in zip(found, bases, last, strict=True)
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
                found = [
                    Chosen(f.tokens + chosen, rng) for f, (chosen, rng) in zip(found, answers, strict=True)
                ]
                last = [f.tokens[-1] for f in found]
        return found

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Run one token, then read the logits from the banks."""
        with self._changing([session]) as (draft,):
            self._take(session, draft, Chain(self.client, Run([token])), 0)
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

    def recall(self, session: int) -> ReplayPoint:
        """A state that the session had, and the tokens fed since."""
        return self.places[session].journal.recall()

    def release(self, session: int) -> None:
        """Free its slot."""
        self.places.remove(session)

    def speed(self) -> Speed:
        meter, clock = self.meter, self.identity.clock_hz
        wall = meter.tokens_per_second
        cycles = meter.cycles / meter.steps if meter.steps else 0.0
        data = meter.data | {"cycles_per_token": round(cycles, 2)}
        if self._measured:
            data |= {"clock_mhz": clock / 1e6, "engine_tokens_per_second": clock / cycles if cycles else None}
            text = f"measured on board, link included ({cycles:,.0f} cycles/token at {clock / 1e6:g} MHz)"
            return Speed(wall, text, data)
        clock_mhz = routed_clock_mhz(self._board, self.image.geometry.name)
        data |= {"clock_mhz": clock_mhz, "simulation_tokens_per_second": wall}
        text = f"cycle-exact simulation: {cycles:,.0f} cycles/token"
        ran = "" if wall is None else f"; the simulation itself ran {wall:.3g} tokens/s"
        if clock_mhz is None or not cycles:
            return Speed(None, f"{text}, no routed clock for {self._board}{ran}", data)
        return Speed(clock_mhz * 1e6 / cycles, f"{text} x routed clock {clock_mhz:g} MHz{ran}", data)

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
                self.client.run(base, Run(journal.tokens[at : at + MAX_PROMPT]))
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


def routed_clock_mhz(board: str, geometry: str) -> float | None:
    """Clock that a board's (or a variant's) shipped bitstream was routed for; None where there is none."""
    from ternac.hdl.boards.boards import VARIANTS

    manifest = read_manifest(VARIANTS[board].name if board in VARIANTS else board, geometry)
    return None if manifest is None else float(manifest["clock_mhz"])
