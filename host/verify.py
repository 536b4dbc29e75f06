"""The subjects of ``ternac verify``: executors by name, and every engine preset with every weight code.

A preset runs the largest shipped model that fits it, or a random program where none does. One session:
logits, state, next token and cycles after every token, on all executors. Several: at the same time in the
engine, as many as it has contexts and the rest in turns, against NumPy: tokens, generators, states, cycles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.compiler import compile_program
from ternac.compile.fitting import Model, default_model, memory_model
from ternac.compile.geometry import PRESETS, Geometry, preset
from ternac.compile.wide import has_wide_ops
from ternac.compile.wide_board import WIDE, WideBoardImage
from ternac.errors import ProgramError, UsageError
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.host.board.wide import wide_engine
from ternac.host.device import Device
from ternac.host.executors import open_executor, parse_executor
from ternac.link import MAX_BATCH_TOKENS
from ternac.program.loops import MemoryPart
from ternac.program.packing import pack2, pack5, unpack2, unpack5
from ternac.program.program import Program
from ternac.run.compare import Divergence, cycle_divergence, first_divergence, scalar_divergence
from ternac.run.evaluate import encode
from ternac.run.executor import State, memory_view
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from ternac.sim.verify import ExecutorRunner, Runner, TokenResult, verify
from ternac.sim.wide_executor import WideExecutor

__all__ = [
    "SESSIONS",
    "BoardRunner",
    "engine_with_rows",
    "open_runners",
    "several",
    "tokens_of",
    "verify_presets",
    "verify_texts",
]

SESSIONS = 5
"""Sessions of the row with several: more than the most contexts, so that some wait for the others."""


class BoardRunner:
    """A `Runner` on a board: the complete RTL, the netlist, or hardware. ``loops``: at every token."""

    def __init__(self, device: Device, name: str, loops: int | None = None) -> None:
        self.name, self.device, self.board, self.loops = name, device, device.board, loops
        self._session = self.board.open()

    @property
    def cycles(self) -> int:
        return self.board.meter.cycles

    def step(self, token: int, sampling: Sampling, rng: int, *, rows: bool = True) -> TokenResult:
        board = self.board
        before = board.meter.cycles
        (chosen,), following = board.run(self._session, Run([token], 1, sampling, rng, self.loops))
        cycles = board.meter.cycles - before
        if rows:
            states = _by_name(board.program, board.get_state(self._session))
        else:
            states = board.read_states(self._session)
        logits = board.read_vector(board.image.logits)
        if isinstance(board.image, WideBoardImage):  # its cycles depend on the memory's pauses
            return TokenResult(logits, states, chosen, following, cycles)
        image = board.image.with_loops(self.loops)
        plan = schedule(image, greedy=sampling.greedy, top_k=sampling.top_k)
        return TokenResult(logits, states, chosen, following, cycles, plan.cycles, plan.exact)

    def values(self) -> dict[str, npt.NDArray[Any]]:
        return {name: self.board.read_vector(symbol) for name, symbol in self.board.image.symbols.items()}

    def release(self) -> None:
        """Close the session; the device stays open."""
        self.board.release(self._session)

    def close(self) -> None:
        self.device.close()


def _by_name(program: Program, state: State) -> dict[str, npt.NDArray[Any]]:
    """A session's states and rows by name, as an executor's `state_dict` has them."""
    found: dict[str, npt.NDArray[Any]] = {n: state[part] for n, part in program.state_slices().items()}
    for name, part in program.memory_slices().items():
        found[name] = memory_view(state[None], MemoryPart(part.start, program.memories[name]))[0]
    return found


def open_runners(
    names: Sequence[str],
    subject: Model,
    geometry: Geometry,
    board: str | None = None,
    least: int = 2,
    say: Callable[[str], None] = lambda text: None,
) -> list[Runner]:
    """Open a runner per name. ``board``: that of a serial port (default: the one of the engine's name).

    RTL and netlist of a program with wide ops are of an engine that is made for it, which ``board`` names
    (`ternac.host.board.wide`), not of ``geometry``.

    Raises UsageError for fewer than ``least`` names, or one twice; `Device.open`'s.
    """
    if len(set(names)) != len(names) or len(names) < least:
        raise UsageError(
            f"--executors {','.join(names)}: name at least two different ones",
            "the first one is the reference, for example --executors numpy,rtl",
        )
    program, opened = subject.program, list[Runner]()
    parsed = [parse_executor(name) for name in names]  # all are checked before one is opened
    try:
        for name, found in zip(names, parsed, strict=True):
            if found.local:
                executor = open_executor(found, program, geometry=geometry, path=subject.path)
                opened.append(ExecutorRunner(executor, name))
            elif found.kind == "sim" and has_wide_ops(program):
                engine = wide_engine(board or WIDE, program)
                sizes = (engine.columns, engine.port_bits)
                opened.append(ExecutorRunner(WideExecutor(program, *sizes, say=say), name))
            elif found.kind == "netlist" and has_wide_ops(program):
                opened.append(BoardRunner(Device.open(name, program, board=board or WIDE), name))
            else:
                device = Device.open(name, program, board=board or geometry.name, geometry=geometry)
                opened.append(BoardRunner(device, name))
    except BaseException:
        for runner in opened:
            runner.close()
        raise
    return opened


def engine_with_rows(program: Program, geometry: Geometry | None = None) -> Geometry:
    """Return ``geometry``, or without one the smallest preset with rows that ``program`` fits.

    Raises DoesNotFit or UnsupportedOp if the program does not run on it, or on the largest one.
    """
    presets = sorted((each for each in PRESETS.values() if each.rows), key=lambda each: each.lanes)
    choices = [geometry] if geometry else presets
    for engine in choices:
        try:
            compile_program(program, engine, fill=False)
        except ProgramError:
            if engine is choices[-1]:
                raise
        else:
            break
    return engine


def verify_texts(
    program: Program,
    name: str,
    geometry: Geometry,
    texts: Sequence[tuple[Sequence[int], int | None]],
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Feed each text, of tokens and the loops asked for, to a session of its own on ``name`` and in NumPy.

    Compared after every token: logits, states and rows (large memories now and then: `rows_due`); on a board
    next token, generator and cycles as well. ``progress`` gets the tokens done. ``mismatches`` is the number
    of texts that differ.
    """
    (first,) = open_runners([name], Model(program, None), geometry, least=1)
    found: list[Divergence] = []
    cycles = done = 0
    try:
        for tokens, loops in texts:
            reference = ExecutorRunner(NumpyExecutor(program), "numpy", loops)
            runner: BoardRunner | ExecutorRunner
            if isinstance(first, BoardRunner):
                runner = BoardRunner(first.device, name, loops)
            else:
                assert isinstance(first, ExecutorRunner)
                runner = ExecutorRunner(first.executor, name, loops)
            before = runner.cycles
            found += verify(program, [reference, runner], tokens, partial(_behind, progress, done))
            cycles += runner.cycles - before
            done += len(tokens)
            if isinstance(runner, BoardRunner):
                runner.release()
    finally:
        first.close()
    return {
        "executor": name,
        "geometry": geometry.name,
        "cases": len(texts),
        "loops": sorted({loops for _, loops in texts if loops is not None}),
        "tokens": done,
        "cycles": cycles or None,
        "mismatches": len(found),
        "divergences": [each.to_json() for each in found],
    }


def _behind(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


def verify_presets(
    presets: Sequence[str], executors: Sequence[str], tokens: int, text: bytes
) -> Iterator[dict[str, Any]]:
    """Yield a row for every combination, as soon as it is known; ``mismatches`` is 0 where all agree.

    An engine with rows also runs a random program with memories. Executors that a program does not have
    (torch without a checkpoint) are left out of its rows, which say which ran; the rows with several sessions
    need one of rtl and netlist.
    """
    for name in presets:
        for code in preset(name).codes:
            geometry = replace(preset(name), weight_code=code)
            for model in (default_model(geometry), *([memory_model(geometry)] if geometry.rows else ())):
                yield from _rows_of(geometry, _recoded(model, code), executors, tokens, text)


def _rows_of(
    geometry: Geometry, subject: Model, executors: Sequence[str], tokens: int, text: bytes
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one program on one engine."""
    ids = tokens_of(subject.program, text, tokens)
    able = [e for e in executors if e != "torch" or subject.path is not None]
    runners = open_runners(able, subject, geometry)
    try:
        yield _row(geometry, subject, 1, runners, ids)
        for board in runners:
            if isinstance(board, BoardRunner):
                yield _row(geometry, subject, SESSIONS, [board], ids)
    finally:
        for runner in runners:
            runner.close()


def tokens_of(program: Program, text: bytes, count: int) -> list[int]:
    """Return ``count`` tokens of ``text``, over and over; random ones where the program reads no text."""
    if "tokenizer" not in program.meta:
        return np.random.default_rng(0).integers(0, program.vocab, count).tolist()
    return np.resize(encode(program, text), count).tolist()


def _recoded(subject: Model, code: str) -> Model:
    """The program with its trits packed and unpacked in the host's form of the same density."""
    roles, consts = subject.program.roles(), dict(subject.program.consts)
    pack, unpack = (pack2, unpack2) if code == "two_bit" else (pack5, unpack5)
    for name, array in consts.items():
        if roles[name] == "trits":
            consts[name] = unpack(pack(array), array.size).reshape(array.shape)
    return replace(subject, program=replace(subject.program, consts=consts))


def _row(
    geometry: Geometry, subject: Model, sessions: int, runners: Sequence[Runner], ids: list[int]
) -> dict[str, Any]:
    program = subject.program
    began = time.monotonic()
    before = [runner.cycles for runner in runners]
    if sessions == 1:
        found, ran = verify(program, runners, ids, lambda done: None), [runner.name for runner in runners]
    else:
        (board,) = runners
        assert isinstance(board, BoardRunner)
        found, ran = several(program, board, sessions, ids), ["numpy", board.name]
    cycles = [runner.cycles - was for runner, was in zip(runners, before, strict=True)]
    return {
        "geometry": geometry.name,
        "weight_code": geometry.weight_code,
        "model": program.name,
        "program_hash": program.hash,
        "trits": program.trits,
        "sessions": sessions,
        "executors": ran,
        "tokens": sessions * len(ids),
        "cycles": {runner.name: count for runner, count in zip(runners, cycles, strict=True) if count},
        "mismatches": len(found),
        "divergences": [d.to_json() for d in found],
        "seconds": round(time.monotonic() - began, 1),
    }


def several(program: Program, runner: BoardRunner, sessions: int, ids: Sequence[int]) -> list[Divergence]:
    """Generate ``sessions`` texts of ``len(ids)`` tokens, the first half by argmax, the second drawn.

    Session k begins with ``ids[k]`` and is fed what it chose. Returns the first difference from NumPy.
    """
    board, executor = runner.board, NumpyExecutor(program)
    opened = [board.open() for _ in range(sessions)]
    states = [executor.open() for _ in range(sessions)]
    last = [ids[k % len(ids)] for k in range(sessions)]
    rngs = [seed_state(k + 1) for k in range(sessions)]
    pair = ("numpy", runner.name)
    half = len(ids) // 2
    draw = Sampling.from_temperature(0.9, program.logit_scale_bits, 0)
    try:
        for first, count, sampling in ((0, half, GREEDY), (half, len(ids) - half, draw)):
            if not count:
                continue
            for at in range(0, sessions, board.together):
                group = range(at, min(at + board.together, sessions))
                before = board.meter.cycles
                answers = board.run_together(
                    [opened[k] for k in group], [Run([last[k]], count, sampling, rngs[k]) for k in group]
                )
                cycles = board.meter.cycles - before
                for k, (chosen, rng) in zip(group, answers, strict=True):
                    for index, token in enumerate(chosen, first):
                        logits = executor.step(states[k], [last[k]])[0]
                        last[k], rngs[k] = choose(logits, sampling, rngs[k])
                        found = scalar_divergence(index, "next token", last[k], token, pair)
                        if found:
                            return [found]
                    found = scalar_divergence(first + count - 1, "generator", rngs[k], rng, pair)
                    found = found or _states(program, executor, states[k], board.get_state(opened[k]), pair)
                    if found:
                        return [found]
                if sampling.greedy and not isinstance(board.image, WideBoardImage):
                    least, exact = _closed_form(runner, len(group), count), not board.image.geometry.streams
                    found = cycle_divergence(count, least, cycles, runner.name, exact=exact)
                    if found:
                        return [found]
    finally:
        for session in opened:
            board.release(session)
    return []


def _states(
    program: Program, executor: NumpyExecutor, expected: State, got: State, pair: tuple[str, str]
) -> Divergence | None:
    ours = {name: words[0] for name, words in executor.state_dict(expected).items()}
    theirs = {name: words[0] for name, words in executor.state_dict(got[None]).items()}
    return first_divergence(program, 0, {}, {}, states=ours, got_states=theirs, executors=pair)


def _closed_form(runner: BoardRunner, group: int, count: int) -> int:
    board = runner.board
    if board.together == 1:  # by RUN, which counts each token from its start
        return count * schedule(board.image).cycles
    batches = [min(MAX_BATCH_TOKENS, count - done) for done in range(0, count, MAX_BATCH_TOKENS)]
    return sum(batch_cycles(board.image, group, tokens) for tokens in batches)
