"""Row access: a bus master's reads, writes and clears of memory rows, four words at a time."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Geometry, Mem
from ternac.hdl.link.ports import MemoryMaster
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS, READ_ROWS

__all__ = ["PARTS", "Job", "RowAccess", "RowShape"]

PARTS = 4
"""Words of an access: the bytes of a register."""
SETTLE = 8
"""Cycles until the engine's ``busy`` tells of a word written before: the wires may have registers."""


@dataclass(frozen=True)
class RowShape:
    """Row RAM as a bus master sees it: ``words`` of 8 bits in each of ``columns``."""

    columns: int
    words: int

    @classmethod
    def of(cls, geometry: Geometry) -> RowShape | None:
        """Return that of an engine, None if it has no rows."""
        return cls(geometry.columns, geometry.rows) if geometry.rows else None


class Job(enum.IntEnum):
    """What an access does."""

    FETCH = 0
    """Reads `PARTS` words from the address on, which then points behind them."""
    STORE = 1
    """Writes as many, likewise."""
    CLEAR = 2
    """Clears ``CLEAR_WORDS * (data + 1)`` words of every column from the address on, which stays."""


class RowAccess(wiring.Component):
    """Carries out one access at a time, as soon as the link waits for a byte; the link takes none meanwhile.

    An access is over when its words are read, written or cleared. Addresses count modulo the words that a
    column has.

    Members
    -------
    start : In(1)
        Pulse, only while not ``busy``: an access begins. The two members below come with it.
    job : In(Job)
        What it does.
    data : In(32)
        The words that it writes, the first in the low byte; or, in the low byte, how many are cleared.
    point : In(1)
        Pulse, only while not ``busy``: set the address, to the two members below.
    point_word : In(16)
        The word.
    point_column : In(8)
        The column.
    word : Out(16)
        The address's word.
    column : Out(8)
        Its column.
    words : Out(32)
        The words that were read last, the first in the low byte.
    busy : Out(1)
        An access is not over.
    master : Out(MemoryMaster)
        To the engine.
    """

    AREA_PART = "axi"

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "job": In(Job),
                "data": In(8 * PARTS),
                "point": In(1),
                "point_word": In(16),
                "point_column": In(8),
                "word": Out(16),
                "column": Out(8),
                "words": Out(8 * PARTS),
                "busy": Out(1),
                "master": Out(MemoryMaster),
            }
        )

    @staticmethod
    def model(
        rows: npt.NDArray[np.uint8], job: Job, word: int, column: int, data: int
    ) -> tuple[int, npt.NDArray[np.uint8]]:
        """The words that an access reads, as one number, and the rows ``[columns, words]`` after it."""
        after, at = rows.copy(), np.arange(word, word + PARTS) % rows.shape[1]
        if job == Job.CLEAR:
            after[:, np.arange(word, word + CLEAR_WORDS * ((data & 0xFF) + 1)) % rows.shape[1]] = 0
        if job == Job.STORE:
            after[column, at] = list(data.to_bytes(PARTS, "little"))
        found = rows[column, at].tobytes() if job == Job.FETCH else b""
        return int.from_bytes(found, "little"), after

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        master = self.master
        job, held = Signal(Job, name="kind"), Signal(8 * PARTS, name="held")
        part, wait = Signal(range(PARTS), name="part"), Signal(range(SETTLE + 1), name="wait")
        last, next_word = part == PARTS - 1, self.word + part
        m.d.comb += [
            self.words.eq(held),
            master.wr_mem.eq(Mem.ROWS),
            master.wr_block.eq(Mux(job == Job.CLEAR, CLEAR_BLOCK, self.column)),
            master.wr_addr.eq(next_word),
            master.wr_data.eq(held[:8]),
            master.rd_block.eq(self.column + READ_ROWS),
            master.rd_addr.eq(next_word),
        ]
        with m.If(self.point):
            m.d.sync += [self.word.eq(self.point_word), self.column.eq(self.point_column)]
        with m.FSM():
            with m.State("FREE"):
                m.d.sync += [part.eq(0), wait.eq(SETTLE)]
                with m.If(self.start):
                    m.d.sync += [job.eq(self.job), held.eq(self.data), self.busy.eq(1)]
                    m.next = "LINK"

            # From here on the engine is this master's.
            with m.State("LINK"):
                with m.If(master.idle):
                    m.d.sync += master.hold.eq(1)
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "ENGINE"
            with m.State("ENGINE"):
                with m.If(~master.busy):
                    m.next = "WORD"

            # A word: read and waited for, or written. Four of them move through the register.
            with m.State("WORD"):
                m.d.comb += [master.rd_en.eq(job == Job.FETCH), master.wr_en.eq(job != Job.FETCH)]
                with m.If(job == Job.FETCH):
                    m.next = "ANSWER"
                with m.Else():
                    m.d.sync += [part.eq(part + 1), held.eq(held >> 8), wait.eq(SETTLE)]
                    with m.If(last | (job == Job.CLEAR)):
                        m.next = "WRITTEN"
            with m.State("ANSWER"):
                with m.If(master.rd_valid):
                    m.d.sync += [part.eq(part + 1), held.eq((held >> 8) | (master.rd_data[:8] << 24))]
                    m.next = "WORD"
                    with m.If(last):
                        m.next = "OVER"

            # What is cleared takes its time.
            with m.State("WRITTEN"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "CLEARED"
            with m.State("CLEARED"):
                with m.If(~master.busy):
                    m.next = "OVER"
            with m.State("OVER"):
                m.d.sync += [master.hold.eq(0), self.busy.eq(0)]
                with m.If(job != Job.CLEAR):
                    m.d.sync += self.word.eq(self.word + PARTS)
                m.next = "FREE"
        return m
