"""What a session runs on: the NumPy executor, or a board behind the link with its session slots."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ternac.compile import Image, Symbol
from ternac.errors import UsageError
from ternac.executor import NumpyExecutor
from ternac.geometry import Mem
from ternac.host.client import BatchMember, LinkClient
from ternac.host.loader import load_image
from ternac.layout import from_slots, to_slots
from ternac.loading import program_id
from ternac.program import Program
from ternac.protocol import MAX_BATCH_TOKENS, MAX_PROMPT, MAX_WORDS, MAX_WRITE_BYTES, Identity
from ternac.sampling import Sampling, choose

State = npt.NDArray[np.int16]


@dataclass
class Meter:
    """What has been run: tokens fed, engine cycles they took (0 where there are none), seconds spent."""

    steps: int = 0
    cycles: int = 0
    seconds: float = 0.0


class Backend(Protocol):
    """Sessions by number. A state is int16 [program.state_words], in the order of the program's states."""

    name: str
    program: Program
    meter: Meter
    chunk: int
    """Tokens worth asking for at a time."""

    def open(self) -> int:
        """A new session with a zero state."""

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """Feed ``tokens`` (at least one), choose ``count``, feeding all but the last: (chosen, generator)."""

    @property
    def together(self) -> int:
        """Sessions that can run at the same time."""

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """`run` with one token for each of up to `together` different sessions, and what it returns for
        each."""

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Feed one token: logits int32 [vocab]."""

    def get_state(self, session: int) -> State:
        """A copy of the state."""

    def set_state(self, session: int, state: State) -> None:
        """Replace the state."""

    def release(self, session: int) -> None:
        """Forget the session."""

    def close(self) -> None:
        """Release everything."""


class NumpyBackend:
    """The NumPy executor."""

    name = "numpy"
    chunk = 1

    def __init__(self, program: Program) -> None:
        self.program = program
        self.meter = Meter()
        self._executor = NumpyExecutor(program)
        self._states: dict[int, State] = {}
        self._next = 0

    def open(self) -> int:
        """A new session."""
        self._next += 1
        self._states[self._next] = self._executor.open(1)
        return self._next

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """Token by token."""
        logits = np.zeros(0, np.int32)
        for token in tokens:
            logits = self.step(session, token)
        chosen: list[int] = []
        while len(chosen) < count:
            token, rng = choose(logits, sampling, rng)
            chosen.append(token)
            if len(chosen) < count:
                logits = self.step(session, token)
        return chosen, rng

    @property
    def together(self) -> int:
        """One: there is nothing to gain."""
        return 1

    def run_together(
        self,
        sessions: Sequence[int],
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
    ) -> list[tuple[list[int], int]]:
        """One after the other."""
        return [self.run(s, [t], count, sampling, r) for s, t, r in zip(sessions, tokens, rngs, strict=True)]

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """One token."""
        began = time.perf_counter()
        logits = self._executor.step(self._states[session], np.array([token]))[0]
        self.meter.steps += 1
        self.meter.seconds += time.perf_counter() - began
        return logits

    def get_state(self, session: int) -> State:
        """A copy."""
        return self._states[session][0].copy()

    def set_state(self, session: int, state: State) -> None:
        """Replace it."""
        self._states[session][0] = state

    def release(self, session: int) -> None:
        """Forget it."""
        self._states.pop(session, None)

    def close(self) -> None:
        """Forget all."""
        self._states.clear()


@dataclass
class _Place:
    """Where a session's state is: in slot ``slot`` of the board, or here."""

    slot: int | None = None
    state: State | None = field(default=None, repr=False)


class BoardBackend:
    """A board that holds ``image``; sessions beyond its slots take turns, the longest unused is moved out.

    Construct with :meth:`load` done by the caller, or call it: nothing is written before.
    """

    def __init__(
        self, client: LinkClient, identity: Identity, program: Program, image: Image, chunk: int
    ) -> None:
        self.name = client.transport.name
        self.program, self.image, self.client, self.identity = program, image, client, identity
        self.chunk = max(1, min(chunk, MAX_WORDS))
        self.meter = Meter()
        self._places: dict[int, _Place] = {}
        self._slots: OrderedDict[int, int | None] = OrderedDict((i, None) for i in range(image.sessions))
        self._next = 0

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
        self._next += 1
        self._places[self._next] = _Place(state=np.zeros(self.program.state_words, np.int16))
        return self._next

    def run(
        self, session: int, tokens: Sequence[int], count: int, sampling: Sampling, rng: int
    ) -> tuple[list[int], int]:
        """As few RUN requests as their size allows."""
        base = self._base(session)
        left = list(tokens)
        chosen: list[int] = []
        while left:
            part, left = left[:MAX_PROMPT], left[MAX_PROMPT:]
            number = 0 if left else min(count - len(chosen), MAX_WORDS)
            began = time.perf_counter()
            answer = self.client.run(base, part, number, sampling, rng)
            self.meter.seconds += time.perf_counter() - began
            self.meter.steps += len(part) + max(number - 1, 0)
            self.meter.cycles += answer.cycles
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
        bases = [self._base(session) for session in sessions]
        step = self.image.entries[1] if self.together > 1 else 0
        found: list[tuple[list[int], int]] = [([], rng) for rng in rngs]
        last = list(tokens)
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
            found = [(f[0] + chosen, rng) for f, (chosen, rng) in zip(found, answers, strict=True)]
            last = [f[0][-1] for f in found]
        return found

    def step(self, session: int, token: int) -> npt.NDArray[np.int32]:
        """Run one token, then read the logits from the banks."""
        self.run(session, [token], 0, Sampling(), 1)
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
        """From the board, or from here when the session is moved out."""
        place = self._place(session)
        return self._read_state(place.slot) if place.state is None else place.state.copy()

    def set_state(self, session: int, state: State) -> None:
        """Kept here until the session runs."""
        place = self._place(session)
        if place.slot is not None:
            self._slots[place.slot] = None
        place.slot, place.state = None, np.array(state, np.int16)

    def release(self, session: int) -> None:
        """Free its slot."""
        place = self._places.pop(session, None)
        if place is not None and place.slot is not None:
            self._slots[place.slot] = None

    def close(self) -> None:
        """Close the line; the board keeps program and states."""
        self.client.transport.close()

    def _place(self, session: int) -> _Place:
        try:
            return self._places[session]
        except KeyError:
            raise UsageError("the session is closed") from None

    def _base(self, session: int) -> int:
        """The session base of ``session``, brought into a slot if it is not in one."""
        place = self._place(session)
        if place.state is not None:
            slot = next((s for s, user in self._slots.items() if user is None), None)
            if slot is None:
                slot, other = next(iter(self._slots.items()))
                assert other is not None
                self._places[other] = _Place(state=self._read_state(slot))
                self._slots[slot] = None
            self._write_state(slot, place.state)
            place.slot, place.state = slot, None
            self._slots[slot] = session
        assert place.slot is not None
        self._slots.move_to_end(place.slot)
        return self.image.session_base(place.slot)

    def _read_state(self, slot: int | None) -> State:
        assert slot is not None
        state = np.zeros(self.program.state_words, np.int16)
        for name, part in self.program.state_slices().items():
            state[part] = self.read_vector(self.image.states[name], self.image.session_base(slot))
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
