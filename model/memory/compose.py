"""Compositions: sums modulo a prime from a part of all pairs, and questions of two facts.

Sums: two tokens, a and b, and a + b mod 59 is asked for. 60% of all pairs are trained on. The model cannot
tell (a, b) from (b, a), so only one of them is a pair.

Facts: each of 16 relations takes each of 64 entities to one, at random. A question of one fact is NONE,
relation, entity. One of two facts is "the second of the first of entity": second relation, first relation,
entity; LOOP runs twice for it. All facts are asked for in training, but a fifth of them, drawn once, in
questions of one fact only. A question of two such facts is out of distribution: nothing in training composes
them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from ternac.model.memory.system import Case, Curves, Figure, Found, Ints, System, share_right
from ternac.program.program import Program

MODULUS = 59
TRAINED_PAIRS = 0.6
PAIR_SEED = 1
"""Which pairs are trained on is no matter of the model's seed."""
PAIRS_A_CASE = 16

ENTITIES, RELATIONS = 64, 16
NONE = ENTITIES + RELATIONS
"""Tokens: an entity is its number, relation r is ENTITIES + r; NONE stands where no second relation is."""
VOCAB = NONE + 1
FACT_SEED = 1
COMPOSED_FACTS, COMPOSED_QUESTIONS = 0.8, 0.8
"""The facts that are composed in training, and how many of their compositions are trained on."""
QUESTIONS_A_CASE = 64
MOST_QUESTIONS = 1024
"""Of a group, when it is measured."""
ATOMS, TRAINED, HELD, OUTSIDE = "one fact", "trained on", "held out", "out of distribution"
FIRST, SECOND = "first fact never composed", "second fact never composed"
GROUPS = (ATOMS, TRAINED, HELD, FIRST, SECOND, OUTSIDE)

SUM, LOOPED, APART, ONCE, LOOSE = "sum", "loop", "apart", "once", "loose"
"""The models: of sums; of facts with LOOP, with two blocks in its place, with one, with LOOP but no word."""


@cache
def pairs() -> tuple[Ints, Ints]:
    """Return the pairs [N, 2] that are trained on, and those that are not: (a, b) or (b, a), never both."""
    every = np.stack(np.triu_indices(MODULUS), -1)
    rng = np.random.default_rng(PAIR_SEED)
    rng.permuted(every, axis=1, out=every)
    rng.shuffle(every)
    cut = int(TRAINED_PAIRS * len(every))
    return every[:cut], every[cut:]


@cache
def facts() -> Ints:
    """Return the entity [ENTITIES, RELATIONS] that each relation takes each entity to."""
    return np.random.default_rng(FACT_SEED).integers(0, ENTITIES, (ENTITIES, RELATIONS))


@cache
def questions() -> dict[str, Ints]:
    """Return by group the questions with answers [N, 4]: second, first, entity, answer; in random order."""
    rng = random.Random(FACT_SEED)
    known = facts()
    every = [(e, r) for e in range(ENTITIES) for r in range(RELATIONS)]
    rng.shuffle(every)
    alone = set(every[round(COMPOSED_FACTS * len(every)) :])
    found: dict[str, list[tuple[int, ...]]] = {group: [] for group in GROUPS}
    for entity, first in every:
        middle = int(known[entity, first])
        found[ATOMS].append((NONE, ENTITIES + first, entity, middle))
        for second in range(RELATIONS):
            apart = ((entity, first) in alone, (middle, second) in alone)
            group = {(False, False): HELD, (True, False): FIRST, (False, True): SECOND}.get(apart, OUTSIDE)
            question = (ENTITIES + second, ENTITIES + first, entity, int(known[middle, second]))
            found[group].append(question)
    for some in found.values():
        rng.shuffle(some)
    cut = int(COMPOSED_QUESTIONS * len(found[HELD]))
    found[TRAINED], found[HELD] = found[HELD][:cut], found[HELD][cut:]
    return {group: np.array(some) for group, some in found.items()}


def sum_case(some: Ints, group: str) -> Case:
    """Return a case of pairs [N, 2], one behind the other; the answer is chosen behind the second number."""
    asked = np.arange(1, 2 * len(some), 2)
    return Case(some.reshape(-1), asked, some.sum(-1) % MODULUS, [group] * len(some))


def question_case(some: Ints, group: str, loops: int | None) -> Case:
    """Return a case of questions [N, 4], one behind the other."""
    asked = np.arange(2, 3 * len(some), 3)
    return Case(some[:, :3].reshape(-1), asked, some[:, 3], [group] * len(some), loops)


class Compose(System):
    """Sums modulo 59 and questions of two facts, see the module."""

    name = "compose"
    title = "grokking of sums modulo 59; two facts composed that never were in training"
    parts = (SUM, LOOPED, APART, ONCE, LOOSE)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """All pairs; or at most `MOST_QUESTIONS` of each group, with one run a fact where LOOP is."""
        if part == SUM:
            return [
                sum_case(some[first : first + PAIRS_A_CASE], group)
                for some, group in zip(pairs(), (TRAINED, HELD), strict=True)
                for first in range(0, len(some), PAIRS_A_CASE)
            ]
        looped = part in (LOOPED, LOOSE)
        return [
            question_case(
                some[first : first + QUESTIONS_A_CASE],
                group,
                (1 if group == ATOMS else 2) if looped else None,
            )
            for group, every in questions().items()
            for some in (every[:MOST_QUESTIONS],)
            for first in range(0, len(some), QUESTIONS_A_CASE)
        ]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        curve = programs[SUM].meta["curve"]
        known, grokked = _first(curve, 1, 0.99), _first(curve, 2, 1.0)
        figures = [
            Figure("sums: pairs trained on", share_right(found[SUM], TRAINED), 1.0),
            Figure("sums: held-out pairs", share_right(found[SUM], HELD), 1.0),
            Figure("sums: step with 99% of the training pairs", known),
            Figure("sums: step with all held-out pairs, times that", grokked / max(1.0, known), 5.0),
        ]
        bars = {
            LOOPED: {ATOMS: (0.99, False), HELD: (0.9, False), OUTSIDE: (0.9, False)},
            APART: {OUTSIDE: (0.2, True)},
            ONCE: {OUTSIDE: (0.2, True)},
        }
        for part, what in (
            (LOOPED, "LOOP"),
            (APART, "two blocks"),
            (ONCE, "one pass"),
            (LOOSE, "LOOP, no word carried"),
        ):
            for group in GROUPS:
                bar, most = bars.get(part, {}).get(group, (None, False))
                figures.append(Figure(f"{what}: {group}", share_right(found[part], group), bar, most))
        return figures

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Right answers by step of training, as the programs' ``meta["curve"]`` has them."""
        panels = []
        for part, names in (
            (SUM, (TRAINED, HELD)),
            (LOOPED, (ATOMS, HELD, OUTSIDE)),
            (APART, (ATOMS, HELD, OUTSIDE)),
        ):
            curve = np.array(programs[part].meta["curve"])
            lines = {name: (curve[:, 0].tolist(), curve[:, at].tolist()) for at, name in enumerate(names, 1)}
            panels.append(Curves(f"step of training, {part}", "accuracy in training", lines))
        return panels


def _first(curve: Sequence[Sequence[float]], column: int, bar: float) -> float:
    """Return the step from which on a curve stays at ``bar`` or above in ``column``; NaN if it never does."""
    step = float("nan")
    for row in reversed(curve):
        if row[column] < bar:
            break
        step = float(row[0])
    return step


SYSTEM = Compose()
