"""Digit list: addresses of memory rows, written and read a word or an entry a cycle."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.isa import DIGIT_BITS
from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.tech import Technology

__all__ = ["DigitList"]


class DigitList(wiring.Component):
    """``words`` words of a digit for each column, in LUT RAM with one write port and two read ports.

    A word may be read from the cycle after it was written.

    Parameters
    ----------
    columns : digits a word.
    words : of all contexts.

    Members
    -------
    word_en : In(1)
        Write a whole word, not in a cycle with ``entry_en``.
    word : In(word)
        The word.
    digits : In(10).array(columns)
        Its digits.
    entry_en : In(1)
        Write one digit.
    entry_word : In(word)
        Its word.
    entry_column : In(column)
        Its column.
    entry : In(10)
        The digit.
    read_a : In(word)
        The word of the first digit to be read.
    read_b : In(word)
        The word of the second one.
    column : In(column)
        The column of both.
    a : Out(10)
        The first digit, a cycle later.
    b : Out(10)
        The second one, likewise.
    row : Out(10).array(columns)
        All digits of the word ``read_a``, in the same cycle.
    """

    AREA_PART = "rows"

    def __init__(self, *, columns: int, words: int, tech: Technology = Technology.PORTABLE) -> None:
        self.columns, self.words, self.tech = columns, words, tech
        word, column = ceil_log2(words), ceil_log2(columns)
        super().__init__(
            {
                "word_en": In(1),
                "word": In(word),
                "digits": In(DIGIT_BITS).array(columns),
                "entry_en": In(1),
                "entry_word": In(word),
                "entry_column": In(column),
                "entry": In(DIGIT_BITS),
                "read_a": In(word),
                "read_b": In(word),
                "column": In(column),
                "a": Out(DIGIT_BITS),
                "b": Out(DIGIT_BITS),
                "row": Out(DIGIT_BITS).array(columns),
            }
        )

    def model(self, writes: Sequence[tuple[int, int | None, Sequence[int]]]) -> list[list[int]]:
        """The words after writes of (word, column or None for all, digits)."""
        words = [[0] * self.columns for _ in range(self.words)]
        for word, column, digits in writes:
            if column is None:
                words[word] = list(digits)
            else:
                words[word][column] = digits[0]
        return words

    def elaborate(self, platform: object) -> Module:
        m = Module()
        attrs = {"ram_style": "distributed"} if self.tech in (Technology.ECP5, Technology.GOWIN) else {}
        second = []
        for c in range(self.columns):
            memory = Memory(shape=DIGIT_BITS, depth=self.words, init=[], attrs=attrs)
            m.submodules[f"digits_{c}"] = memory
            write = write_port(memory)
            reads = [read_port(memory, domain="comb", name=f"read_{name}") for name in "ab"]
            m.d.comb += [
                write.en.eq(self.word_en | (self.entry_en & (self.entry_column == c))),
                write.addr.eq(Mux(self.entry_en, self.entry_word, self.word)),
                write.data.eq(Mux(self.entry_en, self.entry, self.digits[c])),
                reads[0].addr.eq(self.read_a),
                reads[1].addr.eq(self.read_b),
                self.row[c].eq(reads[0].data),
            ]
            digit = Signal(DIGIT_BITS, name=f"second_{c}")
            m.d.comb += digit.eq(reads[1].data)
            second.append(digit)
        m.d.sync += [self.a.eq(Array(self.row)[self.column]), self.b.eq(Array(second)[self.column])]
        return m
