"""A board behind the link, with its session slots."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ternac.compile.image import Image, Symbol
from ternac.compile.loading import program_id
from ternac.errors import BadFrame, DeviceError, LostAnswer, UsageError
from ternac.host.backend import Meter, ReplayPoint, Speed, State, check_state, check_together
from ternac.host.board.banks import Banks
from ternac.host.board.client import LinkClient
from ternac.host.board.loader import load_image
from ternac.host.board.loop_counts import LoopCounts
from ternac.host.board.pipeline import Journal, RunPipeline
from ternac.host.board.slots import SessionEntry, SlotTable
from ternac.link import (
    MAX_BATCH_TOKENS,
    MAX_PROMPT,
    MAX_WORDS,
    READ_SPAN,
    SPAN_WORDS,
    BatchMember,
    Identity,
    RunAnswer,
    decode_span,
)
from ternac.manifest import read_manifest
from ternac.program.loops import check_loops
from ternac.program.program import Program
from ternac.run.generation import Chosen, Run

__all__ = ["JOURNAL", "BoardBackend"]

Answer = TypeVar("Answer")
JOURNAL = 16_384
"""Most tokens to replay: then a session's state is read from the board."""
ANSWER_SECONDS, ANSWER_TOKENS = 0.03, 8
"""Work in one answer of a stream: so many seconds, but at least so many tokens."""
ATTEMPTS = 16
"""Times that something is asked of the board, where each time requests are lost or it restarts."""


class BoardBackend:
    """A board that holds ``image``; sessions beyond its slots take turns, the least recently used is evicted.

    Nothing is written before `load`. ``journal``: most tokens to replay; ``board``: its name; ``measured``:
    time on the line is a board's own, not a simulation's or a recording's.

    Of every session the host keeps a state that it had and the tokens fed since, at most ``journal`` and
    those of one request: 2 bytes a state word and a token. A session in no slot has no tokens, unless it was
    interrupted. When a request is lost or the board restarts, nobody knows what it executed; then no slot
    counts, and each session is written and its tokens are fed again when it next runs. A call under which
    that happens is made again, up to ``ATTEMPTS`` times without progress; then it raises LostAnswer.

    Loops that a request asks for are words of the microcode: they are written before its first token, and
    again, as the program has them, before that of a request without any and when the line is closed.
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
        self.slots = SlotTable(image.sessions, program.state_words)
        self._banks = Banks(client, program, image)
        self._loops = LoopCounts(client, image)
        client.watch(image, self._drop_board)

    def load(self, *, force: bool = False, progress: bool = True) -> bool:
        """Write the image unless the board says that it holds it; returns True when it was written.

        A load that fails half-way leaves the board empty, never with a mixture. Call again to repeat it;
        where weights stream it resumes (`ternac.host.board.loader`).
        """
        if not force and self.identity.program_hash == program_id(self.image):
            _insist(lambda: self._loops.set(None))  # a host that was killed may have left others there
            return False
        load_image(self.client, self.identity, self.image, f"load {self.program.name}", progress=progress)
        self._loops.loaded()
        return True

    def _drop_board(self) -> None:
        """Believe nothing that the board is thought to hold but the program."""
        self.slots.drop_all()
        self._loops.forget()

    def open(self) -> int:
        """Open a session; it takes a slot when it first runs."""
        return self.slots.open()

    def run(self, session: int, run: Run) -> Chosen:
        """Send as few RUN requests as their size allows."""
        check_loops(self.program, run.loops)
        with self._changing([session]) as (journal,):
            pipeline = RunPipeline(self.client, run, journal)
            chosen: list[int] = []
            while not pipeline.done:
                self._receive(session, pipeline, MAX_WORDS)
                while pipeline.ready:
                    chosen.append(pipeline.pop())
            return Chosen(chosen, pipeline.rng)

    def stream(self, session: int, run: Run) -> Generator[int]:
        """While tokens are yielded the engine works on the next ones."""
        check_loops(self.program, run.loops)
        self.slots.end_stream(session)
        pipeline = RunPipeline(self.client, run, self.slots[session].journal.copy())
        entry = self.slots.begin_stream(session, pipeline)
        try:
            while not pipeline.done:
                self._receive(session, pipeline, self.tokens_per_answer())
                while pipeline.ready:
                    token = pipeline.pop()
                    entry.journal = pipeline.journal
                    yield token
                    if entry.stream is not pipeline:
                        raise UsageError("the session was used elsewhere while its tokens were streamed")
            entry.journal = pipeline.journal
        finally:
            self.slots.finish_stream(session, pipeline)

    def _receive(self, session: int, pipeline: RunPipeline, chunk: int) -> None:
        """Wait for the next answer of a pipeline, and send more behind it. After a lost answer the session is
        written again from the pipeline's journal.
        """
        began = pipeline.received if pipeline.in_flight else time.perf_counter()
        try:
            answer = _insist(lambda: self._answer(session, pipeline, chunk))
        finally:
            pipeline.received = time.perf_counter()
            self.meter.seconds += pipeline.received - began
        self.meter.steps += pipeline.accept(answer)
        self.meter.chosen += len(answer.tokens)
        self.meter.cycles += answer.cycles
        with suppress(LostAnswer):  # what was not sent is sent when the next answer is waited for
            self._send(self.slots[session], pipeline, chunk)

    def _answer(self, session: int, pipeline: RunPipeline, chunk: int) -> RunAnswer:
        """Return the answer to the first request of a pipeline, which is sent if none is in flight."""
        journal = pipeline.journal
        try:
            if not pipeline.in_flight:
                base = self._ensure_in_slot(session, journal)
                self._begin(journal, base, pipeline.loops)
                if len(journal.tokens) >= self.journal:
                    journal.rebase(self._banks.read_state(base))
            self._send(self.slots[session], pipeline, chunk)
            answer = pipeline.collect()
        except LostAnswer:
            self.slots.invalidate(session)
            pipeline.restart()
            raise
        self._refuse_foreign(answer.tokens)
        return answer

    def _refuse_foreign(self, tokens: Sequence[int]) -> None:
        """Raises BadFrame if a board answers with a token that the program does not have."""
        worst = max(tokens, default=0)
        if worst >= self.program.vocab:
            raise BadFrame(
                f"{self.name} answers with token {worst}, the program has 0..{self.program.vocab - 1}",
                "open the device again, and flash a current bitstream if it happens again",
            )

    def _send(self, entry: SessionEntry, pipeline: RunPipeline, chunk: int) -> None:
        """Keep the line busy, if the session still has its slot, until the journal would be full."""
        if entry.slot is not None:
            if not (pipeline.in_flight or pipeline.all_sent):
                self._loops.set(pipeline.loops)
            pipeline.send(self.image.session_base(entry.slot), chunk, self.journal)

    def tokens_per_answer(self) -> int:
        """Tokens that take ANSWER_SECONDS by the engine's own count of cycles."""
        if not (self.identity.clock_hz and self.meter.cycles):
            return self.chunk
        a_second = self.identity.clock_hz * self.meter.steps / self.meter.cycles
        return max(ANSWER_TOKENS, min(int(ANSWER_SECONDS * a_second), MAX_WORDS))

    @property
    def together(self) -> int:
        """Sessions that the engine can run at the same time."""
        return min(len(self.image.entries), len(self.slots.users))

    def run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        check_together(sessions, runs, self.together, "this engine")
        check_loops(self.program, runs[0].loops)
        if self.together == 1:  # an engine with one context knows no BATCH
            return [self.run(sessions[0], runs[0])]
        return _insist(lambda: self._run_together(sessions, runs))

    def _run_together(self, sessions: Sequence[int], runs: Sequence[Run]) -> list[Chosen]:
        count, sampling = runs[0].count, runs[0].sampling
        step = self.image.entries[1]
        found = [Chosen([], run.rng) for run in runs]
        last = [run.tokens[0] for run in runs]
        with self._changing(sessions) as journals:
            bases = [
                self._ensure_in_slot(session, journal)
                for session, journal in zip(sessions, journals, strict=True)
            ]
            for journal, base in zip(journals, bases, strict=True):
                self._begin(journal, base, runs[0].loops)
            self._loops.set(runs[0].loops)
            while len(found[0].tokens) < count:
                number = min(count - len(found[0].tokens), MAX_BATCH_TOKENS)
                members = [
                    BatchMember(f.rng, base, token) for f, base, token in zip(found, bases, last, strict=True)
                ]
                began = time.perf_counter()
                answer = self.client.batch(members, step, number, sampling)
                for tokens, _ in answer.chosen:
                    self._refuse_foreign(tokens)
                self.meter.seconds += time.perf_counter() - began
                self.meter.steps += number * len(sessions)
                self.meter.chosen += number * len(sessions)
                self.meter.cycles += answer.cycles
                chosen = answer.chosen
                for journal, base, token, (tokens, _) in zip(journals, bases, last, chosen, strict=True):
                    journal.tokens.extend([token, *tokens[:-1]])
                    if len(journal.tokens) >= self.journal:
                        journal.rebase(self._banks.read_state(base))
                found = [
                    Chosen(f.tokens + chosen, rng)
                    for f, (chosen, rng) in zip(found, answer.chosen, strict=True)
                ]
                last = [f.tokens[-1] for f in found]
        return found

    def step(self, session: int, token: int, loops: int | None = None) -> npt.NDArray[np.int32]:
        """Run one token, then read the logits from the banks."""
        check_loops(self.program, loops)

        def run_and_read() -> npt.NDArray[np.int32]:
            with self._changing([session]) as (journal,):
                self._receive(session, RunPipeline(self.client, Run([token], loops=loops), journal), 0)
                return self._banks.read_vector(self.image.logits)

        return _insist(run_and_read)

    @property
    def reports_spans(self) -> bool:
        """True if `span` can be asked: the bitstream's engine has spans."""
        return bool(self.image.geometry.spans)

    def require_spans(self) -> None:
        """Raises DeviceError if the bitstream's engine does not report spans."""
        if not self.reports_spans:
            raise DeviceError(
                f"{self.name}: the engine {self.image.geometry.name!r} reports no spans",
                "leave --spans out: the logits give the same; or build a geometry with spans 1",
            )

    def span(self, session: int, token: int, target: int) -> tuple[int, int, int]:
        """Run one token, then read start, size and total of ``target`` among the frequencies of the next
        (`ternac.run.coding.spans`). Raises DeviceError if the bitstream's engine does not report them.
        """
        self.require_spans()

        def run_and_read() -> tuple[int, int, int]:
            with self._changing([session]) as (journal,):
                self._receive(session, RunPipeline(self.client, Run([token]), journal), 0)
                return self._read_span(target)

        return _insist(run_and_read)

    def _read_span(self, target: int) -> tuple[int, int, int]:
        words = self.client.read(READ_SPAN + self.program.logit_scale_bits, target * SPAN_WORDS, SPAN_WORDS)
        start, size, total = decode_span([int(word) for word in words])
        if not 1 <= size <= total - start:
            raise BadFrame(
                f"{self.name}: token {target} has the span {start}, {size} of {total}",
                "check board and line: ternac board check",
            )
        return start, size, total

    def read_vector(self, symbol: Symbol, base: int = 0) -> npt.NDArray[np.int32]:
        """Return the int32 elements of a symbol of the image (``base``: the session's, for a state)."""
        return self._banks.read_vector(symbol, base)

    def get_state(self, session: int) -> State:
        """Read the state from the board, unless the host has it."""

        def read() -> State:
            with self._changing([session]) as (journal,):
                if journal.tokens:
                    journal.rebase(self._banks.read_state(self._ensure_in_slot(session, journal)))
                return journal.state.copy()

        return _insist(read)

    def read_states(self, session: int) -> dict[str, npt.NDArray[np.int16]]:
        """Return a session's states by name, without the rows of its memories."""

        def read() -> dict[str, npt.NDArray[np.int16]]:
            with self._changing([session]) as (journal,):
                base = self._ensure_in_slot(session, journal)
                return {
                    name: self._banks.read_vector(self.image.states[name], base).astype(np.int16)
                    for name in self.program.state_slices()
                }

        return _insist(read)

    def set_state(self, session: int, state: State) -> None:
        """Keep the state here until the session runs."""
        check_state(state, self.program)
        entry = self.slots[session]
        self.slots.end_stream(session)
        self.slots.invalidate(session)
        entry.journal = Journal(state.copy())

    def recall(self, session: int) -> ReplayPoint:
        return self.slots[session].journal.replay_point()

    def release(self, session: int) -> None:
        self.slots.remove(session)

    def speed(self) -> Speed:
        meter, clock = self.meter, self.identity.clock_hz
        wall = meter.tokens_per_second
        cycles = meter.cycles / meter.steps if meter.steps else 0.0
        data = meter.data | {"tokens_chosen": meter.chosen, "cycles_per_token": round(cycles, 2)}
        per_token = f"{cycles:,.0f} cycles/token"
        if fed := meter.steps - meter.chosen:  # which costs no sampler's cycles
            per_token += f" (mean of {meter.chosen} that chose a token and {fed} only fed)"
        if self._measured:
            data |= {"clock_mhz": clock / 1e6, "engine_tokens_per_second": clock / cycles if cycles else None}
            text = f"measured on board, link included ({per_token} at {clock / 1e6:g} MHz)"
            return Speed(wall, text, data)
        clock_mhz = routed_clock_mhz(self._board, self.image.geometry.name)
        data |= {"clock_mhz": clock_mhz, "simulation_tokens_per_second": wall}
        text = f"cycle-exact simulation: {per_token}"
        ran = "" if wall is None else f"; the simulation itself ran {wall:.3g} tokens/s"
        if clock_mhz is None or not cycles:
            return Speed(None, f"{text}, no routed clock for {self._board}{ran}", data)
        return Speed(clock_mhz * 1e6 / cycles, f"{text} x routed clock {clock_mhz:g} MHz{ran}", data)

    def close(self) -> None:
        """Close the line; the board keeps program and states."""
        if self.client.opened:
            with suppress(DeviceError):  # the next host sets them as well
                self._loops.set(None)
        self.client.transport.close()

    @contextmanager
    def _changing(self, sessions: Sequence[int]) -> Iterator[list[Journal]]:
        """Lend copies of the sessions' journals, and keep them at the end. After an exception the sessions
        are what they were, and their slots do not count.
        """
        entries = [self.slots[session] for session in sessions]
        for session in sessions:
            self.slots.end_stream(session)
        journals = [entry.journal.copy() for entry in entries]
        try:
            yield journals
        except BaseException:
            for session in sessions:
                self.slots.invalidate(session)
            raise
        for entry, journal in zip(entries, journals, strict=True):
            entry.journal = journal

    def _ensure_in_slot(self, session: int, journal: Journal) -> int:
        """Bring a session to where ``journal`` leads, in a slot, unless it is in one; returns its base."""
        entry = self.slots[session]
        if entry.slot is None:
            if entry.evicted_state is not None:
                journal.rebase(entry.evicted_state)
                entry.evicted_state = None
            slot, other = self.slots.next_slot()
            base = self.image.session_base(slot)
            if other is not None:
                self._evict(other, base)
            self._banks.write_state(base, journal.state)
            if journal.tokens:
                self._loops.set(journal.loops)
            for at in range(0, len(journal.tokens), MAX_PROMPT):
                self.client.run(base, Run(journal.tokens[at : at + MAX_PROMPT]))
            self.slots.assign(session, slot)
        assert entry.slot is not None
        self.slots.touch(entry.slot)
        return self.image.session_base(entry.slot)

    def _begin(self, journal: Journal, base: int, loops: int | None) -> None:
        """Prepare the journal of a session at ``base`` for tokens with ``loops``: all in it have the same."""
        if journal.tokens and journal.loops != loops:
            journal.rebase(self._banks.read_state(base))
        journal.loops = loops

    def _evict(self, session: int, base: int) -> None:
        """Read a session's state from its slot, and free that."""
        entry = self.slots[session]
        state = self._banks.read_state(base)
        if entry.stream is None:
            entry.journal.rebase(state)
        else:
            entry.evicted_state = state
        self.slots.vacate(session)


def _insist(call: Callable[[], Answer]) -> Answer:
    """Return what ``call`` returns, called again when requests of it were lost or the board restarted.

    Raises LostAnswer if that happens `ATTEMPTS` times.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(LostAnswer):
            return call()
    return call()


def routed_clock_mhz(board: str, geometry: str) -> float | None:
    """Clock that a board's (or a variant's) shipped bitstream was routed for; None where there is none."""
    from ternac.hdl.boards.boards import VARIANTS

    manifest = read_manifest(VARIANTS[board].name if board in VARIANTS else board, geometry)
    return None if manifest is None else float(manifest["clock_mhz"])
