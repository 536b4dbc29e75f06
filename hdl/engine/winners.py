"""Winners: in each group of scores that leave the pipelines the position of the largest."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.isa import DIGIT_BITS
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.argmax import Argmax
from ternac.program.memory_ops import GROUP

__all__ = ["Winners", "winners_latency"]

_, LARGEST_GROUP = GROUP


def winners_latency(columns: int) -> int:
    """Cycles from a group's last row to its winner: a register, the tree, the best, its index."""
    return ceil_log2(columns) + 3


class Winners(wiring.Component):
    """The largest element's position in each group of ``group`` rows; ties go to the lowest position.

    A vector comes in rows of one element a column, one row a cycle at best, any gaps; groups begin with a
    row, and only the first ``tail`` columns of a group's last row count. The winners, in the order of the
    groups, go to the entries of a list from its word ``target`` on: ``columns`` entries a word.

    Parameters
    ----------
    columns : elements a row, at least 2.
    words : words that an entry may be in.

    Members
    -------
    row : In(1)
        A row. The six members below come with it.
    first : In(1)
        It is the first one of a vector.
    group : In(rows)
        Rows of a group, at least 1.
    tail : In(tail)
        Columns that a group's last row fills, at least 1.
    target : In(word)
        The word of the first winner.
    scores : In(signed(16)).array(columns)
        The elements.
    valid : Out(1)
        Pulse, `winners_latency` cycles after a group's last row: there is its winner.
    winner : Out(10)
        Its position in the group.
    word : Out(word)
        The word of the list that it goes to.
    column : Out(column)
        Its place in the word.
    """

    AREA_PART = "rows"

    def __init__(self, *, columns: int, words: int) -> None:
        if columns < 2:
            raise ValueError(f"winners need at least 2 columns, not {columns}")
        self.columns = columns
        self.slots = -(-LARGEST_GROUP // columns)
        super().__init__(
            {
                "row": In(1),
                "first": In(1),
                "group": In(bits_for(self.slots)),
                "tail": In(bits_for(columns)),
                "target": In(ceil_log2(words)),
                "scores": In(signed(16)).array(columns),
                "valid": Out(1),
                "winner": Out(DIGIT_BITS),
                "word": Out(ceil_log2(words)),
                "column": Out(ceil_log2(columns)),
            }
        )

    @staticmethod
    def model(scores: Sequence[Sequence[int]], group: int, tail: int) -> list[int]:
        """The winners of a vector of rows."""
        found = []
        for start in range(0, len(scores), group):
            flat = [score for row in scores[start : start + group] for score in row]
            kept = flat[: (group - 1) * len(scores[0]) + tail]
            found.append(kept.index(max(kept)))
        return found

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.argmax = argmax = Argmax(columns=self.columns, slots=self.slots)

        # Cycle 0: the row's place in its group, and the place of the group's winner.
        slot, word = Signal(ceil_log2(self.slots), name="slot"), Signal.like(self.word, name="next_word")
        column = Signal.like(self.column, name="next_column")
        slot_now, word_now = Signal.like(slot, name="slot_now"), Signal.like(word, name="word_now")
        column_now, ends = Signal.like(column, name="column_now"), Signal(name="ends")
        m.d.comb += [slot_now.eq(slot), word_now.eq(word), column_now.eq(column)]
        with m.If(self.first):
            m.d.comb += [slot_now.eq(0), word_now.eq(self.target), column_now.eq(0)]
        m.d.comb += ends.eq(slot_now == self.group - 1)
        with m.If(self.row):
            m.d.sync += [slot.eq(slot_now + 1), word.eq(word_now), column.eq(column_now)]
            with m.If(ends):
                m.d.sync += [slot.eq(0), column.eq(column_now + 1)]
                with m.If(column_now == self.columns - 1):
                    m.d.sync += [column.eq(0), word.eq(word_now + 1)]

        # Cycle 1: the tree. A signed score with its sign inverted is an unsigned key.
        m.d.comb += [
            argmax.row_valid.eq(delay(m, self.row, name="row_late")),
            argmax.row_slot.eq(delay(m, slot_now, name="slot_late", reset_less=True)),
            argmax.row_last.eq(delay(m, ends, name="ends_late", reset_less=True)),
            argmax.tail.eq(delay(m, self.tail, name="tail_late", reset_less=True)),
        ]
        for key, score in zip(argmax.keys, self.scores, strict=True):
            m.d.comb += key.eq(delay(m, Cat(score[:15], ~score[15]), name="key", reset_less=True))

        # The winner stands for a cycle: the next group's first row follows at the earliest a cycle later.
        latency = winners_latency(self.columns)
        m.d.comb += [
            self.valid.eq(delay(m, self.row & ends, latency, name="ended")),
            Cat(self.word, self.column).eq(
                delay(m, Cat(word_now, column_now), latency, name="place", reset_less=True)
            ),
            self.winner.eq(argmax.index),
        ]
        return m
