"""Dragon Hatchling: few neurons active, their memory, and runs of one set of weights.

Two models. The reader of ``table`` is told a table of 200 rows and 4 columns once, cell by cell ("column,
row, value"), and asked for every cell ("column, row"); a quarter of the cells is told again with other
values, and every cell is asked for again. Only a value is written; a question changes no row. It was trained
on other, smaller tables. ``lm`` is a language model over the bytes of Tiny Shakespeare, at the trits of the
model `shakespeare` of the zoo.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.model.memory.system import Case, Curves, Figure, Found, System, share_right
from ternac.program.program import Program
from ternac.program.zoo import TEXT
from ternac.run.evaluate import CONTEXT, STREAMS, cut, read_text, split
from ternac.run.numpy_executor import NumpyExecutor

ROWS, COLUMNS, VALUES = 200, 4, 16
FIRST_COLUMN = VALUES
FIRST_ROW = FIRST_COLUMN + COLUMNS
VOCAB = FIRST_ROW + ROWS
REWRITTEN = ROWS * COLUMNS // 4
TABLES = 8
AT_ONCE, NEW, OTHERS = "at once", "rewritten", "others"
TABLE, LANGUAGE = "table", "lm"
SHAKESPEARE_NATS = 1.4634
"""Of the model `shakespeare` of the zoo, on the same text: `ternac eval shakespeare --split val`."""
PIECE = 60
"""Tokens that a point of the curves is the mean of."""

Cell = tuple[int, int]
"""Column and row."""


def told(cells: Mapping[Cell, int]) -> list[int]:
    """Return the text that tells cells: of each its column, row and value."""
    return [token for (c, r), v in cells.items() for token in (FIRST_COLUMN + c, FIRST_ROW + r, v)]


def asked(cells: Sequence[Cell]) -> list[int]:
    """Return the text that asks for cells; the answer is due behind each row."""
    return [token for c, r in cells for token in (FIRST_COLUMN + c, FIRST_ROW + r)]


@dataclass(frozen=True)
class Reading:
    """A table that is told, asked for, rewritten in part and asked for again, as one text."""

    table: Mapping[Cell, int]
    new: Mapping[Cell, int]
    first: Sequence[Cell]
    again: Sequence[Cell]

    @classmethod
    def drawn(cls, rng: random.Random, rows: int = ROWS) -> Reading:
        """Draw a table of ``rows`` rows, in random order, of which a quarter of the cells is rewritten."""
        order = rng.sample(range(ROWS), rows)
        table = {(c, r): rng.randrange(VALUES) for r in order for c in range(COLUMNS)}
        cells = list(table)
        changed = rng.sample(cells, len(cells) // 4)
        new = {cell: (table[cell] + rng.randrange(1, VALUES)) % VALUES for cell in changed}
        return cls(table, new, rng.sample(cells, len(cells)), rng.sample(cells, len(cells)))

    def case(self) -> Case:
        """Return the text, and what is right."""
        parts = [told(self.table), asked(self.first), told(self.new), asked(self.again)]
        ends = np.cumsum([len(part) for part in parts])
        at = [int(ends[0]) + 2 * i + 1 for i in range(len(self.first))]
        at += [int(ends[2]) + 2 * i + 1 for i in range(len(self.again))]
        now = {**self.table, **self.new}
        answers = [self.table[cell] for cell in self.first] + [now[cell] for cell in self.again]
        groups = [AT_ONCE] * len(self.first) + [NEW if cell in self.new else OTHERS for cell in self.again]
        return Case(
            np.concatenate([np.array(part) for part in parts]), np.array(at), np.array(answers), groups
        )


def reading_cases() -> list[Case]:
    """Return the texts of `TABLES` tables."""
    return [Reading.drawn(random.Random(at)).case() for at in range(TABLES)]


def language_cases() -> list[Case]:
    """Return the validation text as sessions side by side, as :mod:`ternac.run.evaluate` reads it."""
    text = np.frombuffer(split(read_text(TEXT), "val"), np.uint8).astype(np.int64)
    parts = cut(len(text), STREAMS, CONTEXT)
    made = []
    for start, first, last in zip(
        parts.start.tolist(), parts.first.tolist(), parts.last.tolist(), strict=True
    ):
        at = np.arange(first - 1 - start, last - 1 - start)
        made.append(Case(text[start : last - 1], at, text[first:last], [""] * len(at)))
    return made


def nats(found: Sequence[Found], scale_bits: int) -> float:
    """Return the mean cross entropy of all answers."""
    total, count = 0.0, 0
    for one in found:
        logits = one.logits * 2.0**-scale_bits
        logits -= logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, one.case.answers[:, None], -1)[:, 0]
        total += float((np.log(np.exp(logits).sum(-1)) - chosen).sum())
        count += len(chosen)
    return total / count


@dataclass(frozen=True)
class Activity:
    """Shares of the neurons at each token of a session: of those that won, and of those that fired.

    Winners are neurons of all runs whose rows a token reads and the next corrects; a neuron fires where it
    says something: a winner of the last run whose product is not zero.
    """

    won: npt.NDArray[np.float64]
    fired: npt.NDArray[np.float64]

    @classmethod
    def of(cls, program: Program, tokens: Sequence[int]) -> Activity:
        """Feed a session and count, in its state and its trace."""
        executor = NumpyExecutor(program)
        state = executor.open(1)
        last = executor.state_dict(state)["0.w.state"][0]
        trace: dict[str, npt.NDArray[np.int32]] = {}
        won, fired = [], []
        for token in tokens:
            executor.step(state, [token], trace)
            z = trace["0.z"][0]
            groups = len(trace["0.w"][0])
            size = len(z) // groups
            runs = last.reshape(-1, groups)
            neurons = {(run, k, int(at)) for run, each in enumerate(runs) for k, at in enumerate(each)}
            won.append(len(neurons) / (len(runs) * groups * size))
            fired.append(np.count_nonzero(z) / len(z))
        return cls(np.array(won), np.array(fired))


class Dragon(System):
    """A table that is read once, and a language model, of few active neurons; see the module."""

    name = "bdh"
    title = "few neurons are active, and what a token saw is kept in their rows"
    parts = (TABLE, LANGUAGE)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """Tables; the validation text."""
        return reading_cases() if part == TABLE else language_cases()

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        reader = self._reader(programs[TABLE], found[TABLE])
        return [*reader, *self._language(programs[LANGUAGE], found[LANGUAGE])]

    def _reader(self, program: Program, found: Sequence[Found]) -> list[Figure]:
        active = self._activity(program)
        memorising, repeating = np.split(active.fired, 2)
        return [
            Figure("neurons active at a token of a table, at most", float(active.won.max()), 0.05, most=True),
            Figure("saying something while memorising", float(memorising.mean())),
            Figure("saying something while repeating", float(repeating.mean())),
            Figure("cells right at once", share_right(found, AT_ONCE), 0.99),
            Figure("cells right that were told again", share_right(found, NEW), 0.99),
            Figure("other cells right after that", share_right(found, OTHERS), 0.99),
        ]

    def _language(self, program: Program, found: Sequence[Found]) -> list[Figure]:
        loss = nats(found, program.logit_scale_bits)
        active = Activity.of(program, found[0].case.tokens[:CONTEXT].tolist())
        return [
            Figure("nats a character of the validation text", loss),
            Figure("nats a character behind shakespeare", loss - SHAKESPEARE_NATS, 0.10, most=True),
            Figure("neurons active at a character, at most", float(active.won.max()), 0.05, most=True),
            Figure("saying something", float(active.fired.mean())),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Active neurons while a table is told, and told again."""
        active = self._activity(programs[TABLE])
        pieces = [part.reshape(-1, PIECE).mean(-1) * 100.0 for part in (active.won, active.fired)]
        at = [PIECE * (piece + 1) for piece in range(len(pieces[0]))]
        lines = {
            name: (at, piece.tolist())
            for name, piece in zip(("active", "saying something"), pieces, strict=True)
        }
        return [Curves("tokens of a table that is told, and told again", "% of neurons", lines)]

    @staticmethod
    def _activity(program: Program) -> Activity:
        """Activity while the first table is told, and then told again."""
        text = told(Reading.drawn(random.Random(0)).table)
        return Activity.of(program, text + text)


SYSTEM = Dragon()
