"""Every engine preset, with every code that its weight memory can have, with one session and with several.

A preset runs the largest shipped model that fits it, or a random program where none does. One session:
logits, state, next token and cycles after every token, on all executors. Several: side by side in the engine,
as many at a time as it has contexts and the rest in turns, against NumPy: tokens, generators, states, cycles.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ternac.compile.fitting import largest_model
from ternac.compile.geometry import Geometry, preset
from ternac.link import MAX_BATCH_TOKENS
from ternac.program.packing import pack2, pack5, unpack2, unpack5
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.zoo import open_program, resolve
from ternac.run.compare import Divergence, cycle_divergence, first_divergence, scalar_divergence
from ternac.run.evaluate import encode
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from ternac.sim.verify.compare_executors import verify
from ternac.sim.verify.runners import BoardRunner, Runner, runners_of

__all__ = ["SESSIONS", "candidate", "several", "verify_presets"]

SESSIONS = 5
"""Sessions of the row with several: one more than the most contexts, so that some wait for the others."""


@dataclass(frozen=True)
class _Subject:
    """A program to run, and its file where it has one."""

    program: Program
    path: Path | None


def candidate(geometry: Geometry) -> _Subject:
    """The largest shipped model that fits, else a random program."""
    name = largest_model(geometry)
    if name is not None:
        return _Subject(open_program(name), resolve(name))
    program = random_program(np.random.default_rng(1), 24, 20, 2, 256)
    return _Subject(replace(program, meta={"tokenizer": "bytes"}), None)


def _through(subject: _Subject, code: str) -> _Subject:
    """The program with its trits packed and unpacked in the host's form of the same density."""
    roles, consts = subject.program.roles(), dict(subject.program.consts)
    pack, unpack = (pack2, unpack2) if code == "two_bit" else (pack5, unpack5)
    for name, array in consts.items():
        if roles[name] == "trits":
            consts[name] = unpack(pack(array), array.size).reshape(array.shape)
    return replace(subject, program=replace(subject.program, consts=consts))


def verify_presets(
    presets: Sequence[str], executors: Sequence[str], tokens: int, text: bytes
) -> Iterator[dict[str, Any]]:
    """A row for every combination, as soon as it is known; ``mismatches`` is 0 where all agree.

    Executors that a program does not have (torch without a checkpoint) are left out of its rows, which say
    which ran; the rows with several sessions need one of rtl and netlist.
    """
    for name in presets:
        for code in preset(name).codes:
            geometry = replace(preset(name), weight_code=code)
            subject = _through(candidate(geometry), code)
            ids = np.resize(encode(subject.program, text), tokens).tolist()
            able = [e for e in executors if e != "torch" or subject.path is not None]
            parts = runners_of(able, subject.program, subject.path, geometry)
            try:
                yield _row(geometry, subject, 1, parts, ids)
                for board in parts:
                    if isinstance(board, BoardRunner):
                        yield _row(geometry, subject, SESSIONS, [board], ids)
            finally:
                for part in parts:
                    part.close()


def _row(
    geometry: Geometry, subject: _Subject, sessions: int, parts: Sequence[Runner], ids: list[int]
) -> dict[str, Any]:
    program = subject.program
    began = time.monotonic()
    before = [part.cycles for part in parts]
    if sessions == 1:
        found, ran = verify(program, parts, ids, lambda done: None), [part.name for part in parts]
    else:
        (board,) = parts
        assert isinstance(board, BoardRunner)
        found, ran = several(program, board, sessions, ids), ["numpy", board.name]
    cycles = [part.cycles - was for part, was in zip(parts, before, strict=True)]
    return {
        "geometry": geometry.name,
        "weight_code": geometry.weight_code,
        "model": program.name,
        "program_hash": program.hash,
        "trits": program.trits,
        "sessions": sessions,
        "executors": ran,
        "tokens": sessions * len(ids),
        "cycles": {part.name: count for part, count in zip(parts, cycles, strict=True) if count},
        "mismatches": len(found),
        "divergences": [d.to_json() for d in found],
        "seconds": round(time.monotonic() - began, 1),
    }


def several(program: Program, runner: BoardRunner, sessions: int, ids: Sequence[int]) -> list[Divergence]:
    """``sessions`` texts of ``len(ids)`` tokens each, first by argmax, then drawn; session k begins with
    ``ids[k]`` and is fed what it chose. The first difference from NumPy, if any."""
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
                    [opened[k] for k in group], [last[k] for k in group], count, sampling,
                    [rngs[k] for k in group],
                )  # fmt: skip
                cycles = board.meter.cycles - before
                for k, (chosen, rng) in zip(group, answers, strict=True):
                    for index, token in enumerate(chosen, first):
                        logits = executor.step(states[k], np.array([last[k]]))[0]
                        last[k], rngs[k] = choose(logits, sampling, rngs[k])
                        found = scalar_divergence(index, "next token", last[k], token, pair)
                        if found:
                            return [found]
                    found = scalar_divergence(first + count - 1, "generator", rngs[k], rng, pair)
                    found = found or _states(program, executor, states[k], board.get_state(opened[k]), pair)
                    if found:
                        return [found]
                if sampling.greedy:
                    least, exact = _closed_form(runner, len(group), count), not board.image.geometry.streams
                    found = cycle_divergence(count, least, cycles, runner.name, exact=exact)
                    if found:
                        return [found]
    finally:
        for session in opened:
            board.release(session)
    return []


def _states(
    program: Program, executor: NumpyExecutor, expected: Any, got: Any, pair: tuple[str, str]
) -> Divergence | None:
    ours = {name: words[0] for name, words in executor.state_dict(expected).items()}
    theirs = {name: got[part] for name, part in program.state_slices().items()}
    return first_divergence(program, 0, {}, {}, states=ours, got_states=theirs, executors=pair)


def _closed_form(runner: BoardRunner, group: int, count: int) -> int:
    from ternac.hdl.engine.schedule import batch_cycles, schedule

    board = runner.board
    if board.together == 1:  # by RUN, which counts each token from its start
        return count * schedule(board.image).cycles
    batches = [min(MAX_BATCH_TOKENS, count - done) for done in range(0, count, MAX_BATCH_TOKENS)]
    return sum(batch_cycles(board.image, group, tokens) for tokens in batches)
