"""Sleep: what was corrected in sessions that are closed is answered by the weights of a new program.

The world is that of the session cache. Eight sessions correct two entities each, "no E is C .", and go on to
talk about them; then they are closed, and their rows with them. Their tokens are replayed between base texts
that still tell the old facts, and the program that comes out is asked in fresh sessions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from ternac.model.memory.cache import (
    CLASSES,
    DOT,
    ENTITIES,
    FILLERS,
    FIRST_CLASS,
    FIRST_ENTITY,
    FIRST_FILLER,
    IS,
    NO,
    text,
    world,
)
from ternac.model.memory.system import Case, Curves, Figure, Found, System, open_system, share_right
from ternac.program.program import Program
from ternac.run.evaluate import nats

SESSIONS, EACH = 8, 2
"""Closed sessions, and entities that each corrects."""
LENGTH = 512
"""Tokens of a session."""
BASE_TEXTS, BASE_LENGTH = 2048, 48
BEFORE, AFTER = "before", "after"
QUIZZES, QUESTIONS = 64, 12
"""Fresh sessions that ask, and entities that each asks for."""
LOSS_TEXTS, LOSS_LENGTH = 16, 1024
CORRECTED, OTHERS, AWAKE, AGAIN = "corrected", "others", "awake", "again"
ALL, REST = "all entities", "others only"
"""Texts of the loss: with corrected entities, as the world is now, and without."""


@cache
def told() -> list[dict[int, int]]:
    """Return what each session corrects: entity to class, no entity twice, the same for every seed."""
    rng = random.Random(21)
    classes, chosen = world(), rng.sample(range(ENTITIES), SESSIONS * EACH)
    wrong = {entity: (classes[entity] + rng.randrange(1, CLASSES)) % CLASSES for entity in chosen}
    return [{entity: wrong[entity] for entity in chosen[at::SESSIONS]} for at in range(SESSIONS)]


@cache
def new_world() -> list[int]:
    """Return the class of each entity, as all sessions together have it."""
    corrected = {entity: its for session in told() for entity, its in session.items()}
    return [corrected.get(entity, its) for entity, its in enumerate(world())]


@cache
def untouched() -> list[int]:
    """Return the entities that no session corrects."""
    return [entity for entity in range(ENTITIES) if new_world()[entity] == world()[entity]]


def session_texts() -> list[list[int]]:
    """Return the tokens of the sessions: the corrections first, then statements.

    Two of three are about what it corrected, the others about what no session corrects.
    """
    rng, sessions = random.Random(22), []
    for corrections in told():
        tokens: list[int] = []
        for entity, its in corrections.items():
            tokens += [*_fill(rng), NO, *statement(entity, its)]
        while len(tokens) < LENGTH:
            entity = rng.choice(list(corrections) if rng.random() < 2 / 3 else untouched())
            tokens += [*_fill(rng), *statement(entity, new_world()[entity])]
        sessions.append(tokens)
    return sessions


def base_texts() -> list[list[int]]:
    """Return short texts of the world as it was; some correct something for themselves."""
    rng, texts = random.Random(23), list[list[int]]()
    for _ in range(BASE_TEXTS):
        corrections, entities = rng.choice((0.0, 0.1, 0.3)), rng.choice((4, 12, 24, ENTITIES))
        texts.append(text(BASE_LENGTH + 1, corrections, entities, rng)[0][: BASE_LENGTH + 1])
    return texts


def statement(entity: int, its: int) -> list[int]:
    """Return "E is C ."."""
    return [FIRST_ENTITY + entity, IS, FIRST_CLASS + its, DOT]


def _fill(rng: random.Random) -> list[int]:
    return [FIRST_FILLER + rng.randrange(FILLERS) for _ in range(rng.randint(1, 4))]


def _quiz(rng: random.Random) -> Case:
    """A fresh session in which entities are stated once each, as the world is now."""
    tokens, asked, groups = list[int](), [], []
    for entity in rng.sample(range(ENTITIES), QUESTIONS):
        tokens += _fill(rng)
        asked.append(len(tokens) + 1)  # behind "E is"
        groups.append(OTHERS if entity in untouched() else CORRECTED)
        tokens += statement(entity, new_world()[entity])
    return Case.of(tokens, asked, groups)


def _awake(tokens: list[int], entities: Mapping[int, int]) -> Case:
    """A session as it was, and what it answers about what it corrected."""
    asked = [
        at
        for at in range(1, len(tokens) - 1)
        if tokens[at] == IS and tokens[at - 1] - FIRST_ENTITY in entities and tokens[at - 2] != NO
    ]
    return Case.of(tokens, asked, AWAKE)


def _loss_text(classes: Sequence[int], entities: Sequence[int], group: str, rng: random.Random) -> Case:
    """A text with a few corrections of its own, all tokens of which are predicted."""
    now, tokens = dict[int, int](), list[int]()
    while len(tokens) < LOSS_LENGTH:
        tokens += _fill(rng)
        entity = rng.choice(entities)
        if rng.random() < 0.1:
            now[entity] = rng.randrange(CLASSES)
            tokens += [NO, *statement(entity, now[entity])]
        else:
            tokens += statement(entity, now.get(entity, classes[entity]))
    return Case.of(tokens, range(len(tokens) - 1), group)


class Sleep(System):
    """Facts that move from rows into weights, see the module."""

    name = "sleep"
    title = "corrections of closed sessions are replayed into the weights of a new program"
    parts = (BEFORE, AFTER)
    draws = True

    def shipped(self, part: str) -> Program:
        """Load the shipped program; the one before is that of the session cache."""
        return open_system("cache").shipped("cache") if part == BEFORE else super().shipped(part)

    def cases(self, part: str, program: Program) -> list[Case]:
        """Fresh sessions that ask, texts for the loss, the closed sessions as they were, and corrections."""
        rng = random.Random(31)
        classes = world() if part == BEFORE else new_world()
        cases = [_quiz(rng) for _ in range(QUIZZES)]
        for group, entities in ((ALL, range(ENTITIES)), (REST, untouched())):
            cases += [_loss_text(classes, entities, group, rng) for _ in range(LOSS_TEXTS)]
        cases += [_awake(*each) for each in zip(session_texts(), told(), strict=True)]
        for _ in range(LOSS_TEXTS):
            tokens, asked, kinds = text(LOSS_LENGTH, 0.2, ENTITIES, rng)
            here = [at for at, kind in zip(asked, kinds, strict=True) if kind == "corrected"]
            cases.append(Case.of(tokens, here, AGAIN))
        return cases

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        before, after = programs[BEFORE], programs[AFTER]
        old, new = found[BEFORE], found[AFTER]
        loss = {
            (part, group): _nats(found[part], group, programs[part])
            for part in self.parts
            for group in (ALL, REST)
        }
        return [
            Figure("before: corrected ones, in their session", share_right(old, AWAKE)),
            Figure("before: corrected ones, in a fresh session", share_right(old, CORRECTED)),
            Figure("corrected ones, in a fresh session", share_right(new, CORRECTED), 0.99),
            Figure("other ones, in a fresh session", share_right(new, OTHERS), 0.99),
            Figure("corrections in a session still hold", share_right(new, AGAIN), 0.99),
            Figure("before: nats a token", loss[BEFORE, ALL]),
            Figure("more nats a token, each in its world", loss[AFTER, ALL] - loss[BEFORE, ALL], 0.01, True),
            Figure("more nats a token, others only", loss[AFTER, REST] - loss[BEFORE, REST], 0.01, True),
            Figure("another program hash", float(before.hash != after.hash), 1.0),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Right answers about what each closed session corrected, before and after, in fresh sessions."""
        session_of = {entity: at for at, session in enumerate(told(), 1) for entity in session}
        lines = {}
        for part in self.parts:
            right: dict[int, list[bool]] = {at: [] for at in range(1, SESSIONS + 1)}
            for one in found[part]:
                for at, good, group in zip(one.case.asked, one.right, one.case.groups, strict=True):
                    if group == CORRECTED:
                        right[session_of[int(one.case.tokens[at - 1]) - FIRST_ENTITY]].append(bool(good))
            lines[part] = (list(right), [float(np.mean(some)) for some in right.values()])
        return [Curves("closed session", "share of its corrections answered", lines)]


def _nats(found: Sequence[Found], group: str, program: Program) -> float:
    """Return the mean loss over the tokens of the texts of a group."""
    each = [
        nats(one.logits * 2.0**-program.logit_scale_bits, one.case.answers, np.arange(len(one.logits)))
        for one in found
        if one.case.groups[0] == group
    ]
    return float(np.concatenate(each).mean())


SYSTEM = Sleep()
