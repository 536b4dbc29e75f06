"""Latent loop: a map is told once, and one block that runs again and again follows it as many times.

A text tells a map of symbols ("KEY s", "IS t": the map takes s to t), then asks for symbols ("ASK s"). One
block, a read of the rows and a GLU, runs `loops` times over the residual, and each run follows one link: the
symbol that is `loops` links away is the answer. A text is trained on with at most three runs.

Where a map ends in symbols that it takes to themselves, more runs change nothing, so a reader can stop as
soon as two runs in a row choose the same: thinking ends where it has nothing more to do.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import numpy as np

from ternac.model.memory.system import Case, Curves, Figure, Found, System, share_right
from ternac.program.program import Program

SYMBOLS, MAPPED = 32, 16
"""Symbols, and how many of them a map has."""
HOPS = (1, 2, 3, 4, 8, 16, 32)
TRAINED_HOPS = 3
VOCAB = (2 + TRAINED_HOPS) * SYMBOLS
"""KEY s is s, IS s is SYMBOLS + s, ASK s is 2 * SYMBOLS + s, and as many more for each further link."""
MOST = 64
"""Most runs that a request may ask for."""
MAPS = 24
DEPTH = 8
"""Links from the symbols asked for to the end of their chain, in the texts that halt."""
CHAIN_MAPS = 16
WIDTH, INNER, HEADS, GROUP = 64, 128, 32, 16
ROW = 48
"""Elements of a row: 512 of them are half of the 48 KiB of rows of an engine."""
BATCH = 16
LOOPED, ONCE = "loop", "once"
"""The model, and the one that is told how many links to follow and has one pass."""
STEPS = {LOOPED: 1800, ONCE: 600}
"""One pass knows one link after 200; for two and three its loss falls from 3.4 there to 3.1 nats at 300."""


def told(links: Mapping[int, int], asked: Sequence[int], rng: random.Random, ask: int = 1) -> list[int]:
    """Return a text: the links in random order, then the symbols asked for.

    ``ask``: which ASK; a model that cannot loop is told by it how many links to follow.
    """
    order = list(links)
    rng.shuffle(order)
    tokens = [token for key in order for token in (key, SYMBOLS + links[key])]
    return tokens + [(1 + ask) * SYMBOLS + symbol for symbol in asked]


def permutation(rng: random.Random) -> dict[int, int]:
    """Return a map that permutes symbols: links without an end."""
    keys = rng.sample(range(SYMBOLS), MAPPED)
    return dict(zip(keys, rng.sample(keys, MAPPED), strict=True))


def chains(depth: int, rng: random.Random) -> list[list[int]]:
    """Return two chains of symbols, the first with ``depth`` links; the last of each is taken to itself."""
    symbols = rng.sample(range(SYMBOLS), MAPPED)
    return [symbols[: depth + 1], symbols[depth + 1 :]]


def links_of(its_chains: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return the map of some chains: each symbol to the next, the last to itself."""
    return {
        symbol: chain[min(at + 1, len(chain) - 1)] for chain in its_chains for at, symbol in enumerate(chain)
    }


def follow(links: Mapping[int, int], symbol: int, hops: int) -> int:
    """Return the symbol that is ``hops`` links away."""
    for _ in range(hops):
        symbol = links[symbol]
    return symbol


def halted(chosen: Sequence[int]) -> tuple[int, int]:
    """Return the answer of a reader that stops at two equal ones in a row, and the runs it took.

    ``chosen``: what was chosen after 1, 2, .. runs; without such a pair the last counts.
    """
    for run, (one, next_one) in enumerate(itertools.pairwise(chosen), 2):
        if one == next_one:
            return next_one, run
    return chosen[-1], len(chosen)


class LatentLoop(System):
    """Links that a block follows, one a run; see the module."""

    name = "loop"
    title = "a block that LOOP runs again follows a map, one link a run, as far as is asked for"
    parts = (LOOPED, ONCE)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """Permutations with every symbol asked for; for the loop also chains, after each number of runs."""
        rng = random.Random(7)
        made = []
        for hops in HOPS if part == LOOPED else range(1, TRAINED_HOPS + 1):
            for _ in range(MAPS):
                links = permutation(rng)
                asked = list(links)
                loops, ask = (hops, 1) if part == LOOPED else (None, hops)
                answers = [follow(links, symbol, hops) for symbol in asked]
                made.append(_case(told(links, asked, rng, ask), answers, [f"{hops} hops"] * MAPPED, loops))
        if part == LOOPED:
            for _ in range(CHAIN_MAPS):
                its_chains = chains(DEPTH, rng)
                asked = its_chains[0][:-1]
                text = told(links_of(its_chains), asked, rng)
                depths = [str(DEPTH - at) for at in range(DEPTH)]
                ends = [its_chains[0][-1]] * DEPTH
                made += [_case(text, ends, depths, loops) for loops in range(1, DEPTH + 3)]
        return made

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        looped, once = found[LOOPED], found[ONCE]
        told_hops = [
            Figure(f"one pass, told {hops} hops", share_right(once, f"{hops} hops"), most=True, bar=bar)
            for hops, bar in ((1, None), *((hops, 0.2) for hops in range(2, TRAINED_HOPS + 1)))
        ]
        return [
            *(
                Figure(f"hops {hops}, as many runs", share_right(looped, f"{hops} hops"), 0.99)
                for hops in HOPS
            ),
            *told_hops,
            *_halting(looped[len(HOPS) * MAPS :]),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Right answers by links, of the loop and of one pass; by runs for links to the end of a chain."""
        told_hops = range(1, TRAINED_HOPS + 1)
        by_hops = {
            name: (list(hops), [share_right(found[part], f"{each} hops") for each in hops])
            for name, part, hops in (
                ("as many runs", LOOPED, HOPS),
                ("one pass, told how many", ONCE, told_hops),
            )
        }
        runs = range(1, DEPTH + 3)
        chained = found[LOOPED][len(HOPS) * MAPS :]
        by_runs = {
            f"{depth} links to the end": (
                list(runs),
                [share_right([one for one in chained if one.case.loops == run], str(depth)) for run in runs],
            )
            for depth in (1, 2, 4, 8)
        }
        return [Curves("links", "share of answers right", by_hops), Curves("runs", "share right", by_runs)]


def _case(tokens: Sequence[int], answers: Sequence[int], groups: Sequence[str], loops: int | None) -> Case:
    """A case whose last tokens ask; answers are symbols."""
    asked = np.arange(len(tokens) - len(answers), len(tokens))
    return Case(np.array(tokens), asked, SYMBOLS + np.array(answers), groups, loops)


def _halting(found: Sequence[Found]) -> list[Figure]:
    """Figures of the chains: by runs at the greatest depth, and of readers that stop by themselves."""
    by_runs = {runs: [one for one in found if one.case.loops == runs] for runs in range(1, DEPTH + 3)}
    deepest = [share_right(by_runs[runs], str(DEPTH)) for runs in by_runs]
    all_depths = [share_right(by_runs[runs]) for runs in by_runs]
    right, spare = [], []
    for same in zip(*by_runs.values(), strict=True):
        for at, answer in enumerate(same[0].case.answers):
            chosen, runs = halted([int(one.chosen[at]) for one in same])
            right.append(chosen == answer)
            spare.append(runs - (DEPTH - at))
    rising = all(more >= less for less, more in itertools.pairwise(all_depths))
    return [
        *(Figure(f"{DEPTH} links to the end, {runs} runs", deepest[runs - 1]) for runs in (1, 4, DEPTH - 1)),
        Figure(f"{DEPTH} links to the end, {DEPTH} runs", deepest[DEPTH - 1], 0.99),
        *(Figure(f"1..{DEPTH} links, {runs} runs", all_depths[runs - 1]) for runs in (1, 2, 4, DEPTH)),
        Figure("more runs are never worse", float(rising), 1.0),
        Figure("stopped at two equal answers in a row", float(np.mean(right)), 0.99),
        Figure("runs it took beyond the links", float(np.mean(spare))),
    ]


SYSTEM = LatentLoop()
