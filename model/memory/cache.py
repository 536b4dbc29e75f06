"""Session cache: a correction in the text lives for its session, in rows that the id of a token addresses.

A world of entities, each of a class that training puts into the weights. A text says now and then "E is C .";
"no E is C ." corrects it for this session only. The row of an entity is that of its token, so no search is
needed: one head, two digits, replaced at once (a write of rate 0).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from ternac.model.memory.system import (
    Case,
    Curves,
    Figure,
    Found,
    System,
    run_cases,
    share_right,
    silent,
)
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor

ENTITIES, CLASSES, FILLERS = 48, 16, 60
IS, NO, DOT = 0, 1, 2
FIRST_ENTITY = 3
FIRST_CLASS = FIRST_ENTITY + ENTITIES
FIRST_FILLER = FIRST_CLASS + CLASSES
VOCAB = FIRST_FILLER + FILLERS
CORRECTIONS = 0.2
"""Share of the statements that correct something, in the cases."""
LENGTH = 4096
PIECE = 128
"""Tokens between two points of the curves."""
ALONE = "alone"
WIDTH, ROW, INNER = 64, 32, 96
WINDOW, BATCH, STEPS = 128, 16, 300


def world() -> list[int]:
    """Return the class of each entity: what the weights hold, the same for every seed of training."""
    rng = random.Random(5)
    return [rng.randrange(CLASSES) for _ in range(ENTITIES)]


def text(
    length: int, corrections: float, entities: int, rng: random.Random
) -> tuple[list[int], list[int], list[str]]:
    """Return tokens, positions behind which a class stands, and for each if it was "untouched" or
    "corrected" in this text before.
    """
    classes, now = world(), dict[int, int]()
    tokens: list[int] = []
    asked, kinds = [], []
    few = rng.sample(range(ENTITIES), entities)
    while len(tokens) < length:
        tokens += [FIRST_FILLER + rng.randrange(FILLERS) for _ in range(rng.randint(1, 4))]
        entity = rng.choice(few)
        if rng.random() < corrections:
            now[entity] = rng.randrange(CLASSES)
            tokens += [NO, FIRST_ENTITY + entity, IS, FIRST_CLASS + now[entity], DOT]
            continue
        asked.append(len(tokens) + 1)  # behind "E is"
        kinds.append("corrected" if entity in now else "untouched")
        tokens += [FIRST_ENTITY + entity, IS, FIRST_CLASS + now.get(entity, classes[entity]), DOT]
    return tokens, asked, kinds


class Cache(System):
    """Corrections in a session, see the module."""

    name = "cache"
    title = "a correction lives for its session only, in rows addressed by tokens"
    parts = ("cache",)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """Sixteen texts over all entities, then one without corrections that runs beside them."""
        rng = random.Random(9)
        texts = [text(LENGTH, CORRECTIONS, ENTITIES, rng) for _ in range(16)]
        plain, asked, _ = text(LENGTH, 0.0, ENTITIES, random.Random(10))
        return [*(Case.of(*each) for each in texts), Case.of(plain, asked, ALONE)]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        results, program = found["cache"], programs["cache"]
        beside = results[-1]
        (alone,) = run_cases(NumpyExecutor(program), [beside.case], silent)
        return [
            Figure("corrected entities, 4,096 tokens", share_right(results, "corrected"), 0.99),
            Figure("untouched entities, 4,096 tokens", share_right(results, "untouched"), 0.99),
            Figure("a session beside others equals itself alone", float(alone.digest == beside.digest), 1.0),
            Figure("bytes of rows a session", sum(2 * memory.words for memory in program.memories.values())),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Right answers by where in the text they are asked, of all texts; rows in use of the first one."""
        edges = range(0, LENGTH, PIECE)
        lines = {}
        for group in ("corrected", "untouched"):
            right: list[list[bool]] = [[] for _ in edges]
            for one in found["cache"]:
                for at, good, its in zip(one.case.asked, one.right, one.case.groups, strict=True):
                    if its == group:
                        right[min(int(at) // PIECE, len(right) - 1)].append(bool(good))
            kept = [
                (edge + PIECE, float(np.mean(some))) for edge, some in zip(edges, right, strict=True) if some
            ]
            lines[group] = ([at for at, _ in kept], [share for _, share in kept])
        used = _rows_used(programs["cache"], found["cache"][0].case.tokens[:LENGTH].tolist())
        rows = {f"of {sum(memory.rows for memory in programs['cache'].memories.values())}": used}
        return [
            Curves("tokens of the text", "share of answers right", lines),
            Curves("tokens of the text", "rows that are not zero", rows),
        ]


def _rows_used(program: Program, tokens: Sequence[int]) -> tuple[list[int], list[int]]:
    """Feed a session; returns after how many tokens how many of its rows are not all zero."""
    executor = NumpyExecutor(program)
    state = executor.open(1)
    views = executor.state_dict(state)
    after, used = [0], [0]
    for at, token in enumerate(tokens, 1):
        executor.step(state, [token])
        if at % PIECE == 0:
            after.append(at)
            used.append(sum(int(views[name].any(-1).sum()) for name in program.memories))
    return after, used


SYSTEM = Cache()
