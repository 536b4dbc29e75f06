"""A program on the board against NumPy: logits and states token by token, texts of several sessions, a
soak.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ternac.host.backend import Backend
from ternac.host.board.backend import BoardBackend
from ternac.host.board.check.line import count_line, counters
from ternac.host.board.check.report import Section
from ternac.host.device import Device
from ternac.host.local import LocalBackend
from ternac.host.session import Session
from ternac.host.verify import SESSIONS, BoardRunner, several
from ternac.program.program import Program
from ternac.run.compare import Divergence
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling
from ternac.sim.verify import ExecutorRunner, verify

__all__ = ["check_contents", "check_sessions", "check_tokens", "refill", "soak"]

HINT = "send the report; until then compare in simulation: ternac verify MODEL --executors numpy,rtl"
MOST_TOKENS = 40
"""Most tokens of one step of the soak."""
MOST_SESSIONS = 12
"""Sessions of the soak, unless three more than there are slots are fewer: then slots are taken from each
other."""


def refill(program: Program, seed: int) -> Program:
    """Return the program with random weights and embeddings in place of its own: other words everywhere in
    the memories that hold them, and everything else as it is.
    """
    rng, roles = np.random.default_rng(seed), program.roles()
    consts = dict(program.consts)
    for name, array in consts.items():
        if roles[name] == "trits":
            consts[name] = rng.integers(-1, 2, array.shape).astype(array.dtype)
        elif roles[name] == "embed":
            consts[name] = rng.integers(-128, 128, array.shape).astype(array.dtype)
    return replace(program, consts=consts, tokenizer=program.tokenizer)


def _diverged(section: Section, what: str, found: Sequence[Divergence]) -> bool:
    for divergence in found:
        section.fail(f"{what}: {divergence}", HINT, **divergence.to_json())
    return bool(found)


def check_tokens(
    section: Section,
    device: Device,
    tokens: Sequence[int],
    what: str,
    update: Callable[[int], None] = lambda done: None,
) -> bool:
    """Run ``tokens``: logits, states, next token by argmax and drawn, generator and cycles after each equal
    NumPy's.

    Returns whether they do.
    """
    runner, program = BoardRunner(device, device.board.name), device.program
    found = verify(program, [ExecutorRunner(NumpyExecutor(program)), runner], tokens, update)
    runner.release()
    return not _diverged(section, what, found)


def check_contents(
    section: Section,
    open_device: Callable[[Program], Device],
    program: Program,
    fills: int,
    seed: int,
    update: Callable[[int], None] = lambda done: None,
) -> None:
    """Fill weights and embedding with random words, ``fills`` times, and run every token once.

    The memories that the line only writes (program, weights, embedding, row corrections, tables) are judged
    by what the engine computes from them: a wrong bit shows when a token uses it.
    """
    vocab = program.vocab

    def shifted(before: int) -> Callable[[int], None]:
        return lambda done: update(before + done)

    for number in range(fills):
        device = open_device(refill(program, seed + number))
        rng = np.random.default_rng(seed + number)
        what = f"contents {number + 1} of {fills} (seed {seed + number})"
        check_tokens(section, device, rng.permutation(vocab).tolist(), what, shifted(number * vocab))
    section.figure("fills", fills)
    section.figure("tokens of a fill", vocab)
    section.figure("trits of a fill", program.trits, "", "program")


def check_sessions(section: Section, device: Device, ids: Sequence[int]) -> None:
    """Generate several texts, greedy and drawn, more than the engine has contexts, against NumPy."""
    board, runner = device.board, BoardRunner(device, device.board.name)
    before = board.meter.steps, board.meter.cycles, board.meter.seconds
    found = several(board.program, runner, SESSIONS, ids)
    runner.release()
    _diverged(section, f"{SESSIONS} sessions", found)
    steps, cycles, seconds = (
        now - then
        for now, then in zip(
            (board.meter.steps, board.meter.cycles, board.meter.seconds), before, strict=True
        )
    )
    section.figure("sessions", SESSIONS)
    section.figure("tokens of the sessions", steps)
    if seconds and cycles:
        section.figure("engine cycles a second, at least", round(cycles / seconds), "Hz")


@dataclass
class _Pair:
    """The same session on board and NumPy."""

    board: Session
    numpy: Session


def soak(
    section: Section,
    board: BoardBackend,
    minutes: float,
    seed: int,
    update: Callable[[int], None] = lambda done: None,
) -> None:
    """Until the time is over: random texts in several sessions, moved between board and NumPy.

    Each step compares tokens, generator, and the whole snapshot; every few steps a session goes to the other
    side as a snapshot. ``update`` gets seconds.
    """
    program, rng = board.program, np.random.default_rng(seed)
    numpy: Backend = LocalBackend(NumpyExecutor(program))
    began, before = time.monotonic(), counters(board.client)
    resent = board.meter.steps
    opened = min(len(board.slots.users) + 3, MOST_SESSIONS)
    pairs = [_Pair(Session(board, s), Session(numpy, s)) for s in range(opened)]
    steps = moved = compared = 0
    try:
        while (spent := time.monotonic() - began) < 60 * minutes:
            update(round(spent))
            number = int(rng.integers(len(pairs)))
            pair, count = pairs[number], int(rng.integers(0, MOST_TOKENS))
            fresh = pair.numpy.pending is None
            prompt = rng.integers(0, program.vocab, int(rng.integers(fresh, 9))).tolist()
            top_k = int(rng.integers(0, 50))
            drawn = Sampling.from_temperature(float(rng.uniform(0.3, 1.5)), program.logit_scale_bits, top_k)
            sampling = drawn if rng.random() < 0.7 else GREEDY
            got = list(pair.board.tokens(prompt, count, sampling))
            want = list(pair.numpy.tokens(prompt, count, sampling))
            steps, compared = steps + 1, compared + count
            where = {"step": steps, "session": number, "seed": seed}
            if got != want:
                at = next(i for i, (a, b) in enumerate(zip(got, want, strict=True)) if a != b)
                section.fail(
                    f"soak, step {steps}, session {number}: token {at} of {count} is {got[at]}, "
                    f"NumPy's {want[at]}",
                    HINT, expected=want[at], found=got[at], **where,
                )  # fmt: skip
            ours, theirs = pair.board.snapshot(), pair.numpy.snapshot()
            if got == want and ours != theirs:
                state, other = pair.board.state, pair.numpy.state
                wrong = np.flatnonzero(state != other)
                word = int(wrong[0]) if len(wrong) else -1
                section.fail(
                    f"soak, step {steps}, session {number}: the tokens are equal, "
                    + (
                        f"state word {word} is {state[word]}, NumPy's {other[word]} ({len(wrong)} differ)"
                        if len(wrong)
                        else f"the generator is {pair.board.rng}, NumPy's {pair.numpy.rng}"
                    ),
                    HINT, differing=len(wrong), word=word, **where,
                )  # fmt: skip
            if ours != theirs:
                pair.board.restore(theirs)
            elif rng.random() < 0.2:  # each side goes on from what the other has written
                pair.board.restore(theirs)
                pair.numpy.restore(ours)
                moved += 1
    finally:
        for pair in pairs:
            pair.board.close()
        section.figure("steps", steps)
        section.figure("tokens compared", compared)
        section.figure("tokens fed by the board", board.meter.steps - resent)
        section.figure("snapshots moved each way", moved)
        section.figure("sessions in the soak", len(pairs))
        section.figure("session slots of the board", len(board.slots.users), "", "compiler")
        section.figure("soak", round((time.monotonic() - began) / 60, 2), "minutes", "host's clock")
        count_line(section, board.client, before)
