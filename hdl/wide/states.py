"""States of sessions on chip: from vector memory into a bank and back, so that sessions take turns."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam, MemoryBank
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["MemoryMover", "Move", "SessionBank"]

_WAITING = 8
"""Words that may wait to be taken: more than there are cycles from a read to the next that may replace it."""


class Move(enum.IntEnum):
    """What `SessionBank` does."""

    #: Vector memory into the bank.
    KEEP = 0
    #: The bank into vector memory.
    RESUME = 1
    #: Zeros into vector memory.
    CLEAR = 2


class MemoryMover(wiring.Component):
    """Reads a run of words of a memory out as a stream, or writes one from a stream: a word a cycle.

    Members
    -------
    move : In(stream.Signature(move_layout))
        ``first`` word, ``count`` of words less one, ``write``; taken when the one before is over.
    idle : Out(1)
        None is in work, and all that was read has been taken.
    read : Out(stream.Signature(width))
        The words that are read.
    write : In(stream.Signature(width))
        The words that are to be written.
    rd_addr : Out(range(depth))
        Address of a word.
    rd_data : In(width)
        The word, BlockRam.LATENCY cycles later.
    wr_en : Out(1)
        Write a word.
    wr_addr : Out(range(depth))
        Where.
    wr_data : Out(width)
        The word.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width, self.depth = width, depth
        self.move_layout = data.StructLayout({"first": range(depth), "count": range(depth), "write": 1})
        super().__init__(
            {
                "move": In(stream.Signature(self.move_layout)),
                "idle": Out(1),
                "read": Out(stream.Signature(width)),
                "write": In(stream.Signature(width)),
                "rd_addr": Out(range(depth)),
                "rd_data": In(width),
                "wr_en": Out(1),
                "wr_addr": Out(range(depth)),
                "wr_data": Out(width),
            }
        )

    @staticmethod
    def model(memory: list[int], first: int, count: int, words: list[int] | None = None) -> list[int]:
        """Words that are read; with ``words``, they are written."""
        if words is None:
            return memory[first : first + count + 1]
        memory[first : first + count + 1] = words[: count + 1]
        return []

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.waiting = waiting = SyncFIFO(width=self.width, depth=_WAITING)
        at, left = Signal(range(self.depth), name="at"), Signal(range(self.depth), name="left")
        active, writing, go = Signal(name="active"), Signal(name="writing"), Signal(name="go")
        room = Signal(range(_WAITING + 1), init=_WAITING, name="room")
        asked, taken = Signal(name="asked"), Signal(name="taken")
        m.d.comb += [
            self.move.ready.eq(~active),
            go.eq(active & Mux(writing, self.write.valid, room.any())),
            asked.eq(go & ~writing),
            self.write.ready.eq(active & writing),
            self.rd_addr.eq(at),
            self.wr_en.eq(go & writing),
            self.wr_addr.eq(at),
            self.wr_data.eq(self.write.payload),
            waiting.w_en.eq(delay(m, asked, BlockRam.LATENCY, name="came")),
            waiting.w_data.eq(self.rd_data),
            self.read.valid.eq(waiting.r_rdy),
            self.read.payload.eq(waiting.r_data),
            waiting.r_en.eq(self.read.ready),
            taken.eq(self.read.valid & self.read.ready),
            self.idle.eq(~active & (room == _WAITING)),
        ]
        m.d.sync += room.eq(room - asked + taken)
        with m.If(go):
            m.d.sync += [at.eq(at + 1), left.eq(left - 1), active.eq(left != 0)]
        with m.If(self.move.valid & self.move.ready):
            m.d.sync += [
                at.eq(self.move.payload.first), left.eq(self.move.payload.count),
                writing.eq(self.move.payload.write), active.eq(1),
            ]  # fmt: skip
        return m


class SessionBank(wiring.Component):
    """Keeps the states of sessions: runs of words of ``lanes`` elements in a memory of ``bank`` words.

    States lie from word 0 of vector memory on (`WideImage.states`). A move takes `cycles`; vector memory is
    used in the meantime, so the unit is idle. While no move runs, elements of the bank are read and written
    from outside.

    :param depth: words of vector memory.   :param bank: words of all sessions' states.

    Members
    -------
    move : In(stream.Signature(move_layout))
        ``kind`` (`Move`) and ``base``, the session's first word in the bank.
    words : In(range(depth))
        Words of a session's states, less one; stable while a move runs.
    idle : Out(1)
        No move runs.
    peek : Out(range(depth))
        Address of a word of vector memory.
    peeked : In(width)
        The word, BlockRam.LATENCY cycles later.
    wr_en : Out(1)
        Write a word of vector memory.
    wr_addr : Out(range(depth))
        Where.
    wr_data : Out(width)
        The word.
    outer_addr : In(range(bank))
        Address of a word of the bank, from outside.
    outer_en : In(lanes)
        Write these elements of it.
    outer_data : In(16)
        Their new value.
    outer_word : Out(width)
        The word, BlockRam.LATENCY cycles later.
    """

    def __init__(self, lanes: int, depth: int, bank: int, *, tech: Technology = Technology.PORTABLE) -> None:
        if bank < 2:
            raise ValueError(f"bank must be at least 2 words, not {bank}")
        self.lanes, self.width, self.depth, self.bank, self.tech = lanes, 16 * lanes, depth, bank, tech
        self.move_layout = data.StructLayout({"kind": Move, "base": range(bank)})
        super().__init__(
            {
                "move": In(stream.Signature(self.move_layout)),
                "words": In(range(depth)),
                "idle": Out(1),
                "peek": Out(range(depth)),
                "peeked": In(self.width),
                "wr_en": Out(1),
                "wr_addr": Out(range(depth)),
                "wr_data": Out(self.width),
                "outer_addr": In(range(bank)),
                "outer_en": In(lanes),
                "outer_data": In(16),
                "outer_word": Out(self.width),
            }
        )

    @staticmethod
    def cycles(kind: Move, words: int) -> int:
        """Cycles without ``idle`` of a move of ``words`` words."""
        return words if kind is Move.CLEAR else words + BlockRam.LATENCY + 1

    @staticmethod
    def model(
        vectors: npt.NDArray[np.int16], bank: npt.NDArray[np.int16], kind: Move, base: int, words: int
    ) -> None:
        """Move in int16[words, lanes] each."""
        match kind:
            case Move.KEEP:
                bank[base : base + words] = vectors[:words]
            case Move.RESUME:
                vectors[:words] = bank[base : base + words]
            case Move.CLEAR:
                vectors[:words] = 0

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.outside = outside = MemoryMover(self.width, self.depth)
        m.submodules.inside = inside = MemoryMover(self.width, self.bank)
        kind = Signal(Move, name="kind")
        m.d.comb += [
            self.peek.eq(outside.rd_addr), outside.rd_data.eq(self.peeked),
            self.wr_en.eq(outside.wr_en), self.wr_addr.eq(outside.wr_addr),
            self.wr_data.eq(outside.wr_data),
            inside.rd_data.eq(self.outer_word),
            # Both movers begin in the same cycle; CLEAR needs the outer one only.
            self.move.ready.eq(self.idle), self.idle.eq(outside.idle & inside.idle),
            outside.move.valid.eq(self.move.valid & self.idle),
            outside.move.payload.first.eq(0), outside.move.payload.count.eq(self.words),
            outside.move.payload.write.eq(self.move.payload.kind != Move.KEEP),
            inside.move.valid.eq(self.move.valid & self.idle & (self.move.payload.kind != Move.CLEAR)),
            inside.move.payload.first.eq(self.move.payload.base),
            inside.move.payload.count.eq(self.words),
            inside.move.payload.write.eq(self.move.payload.kind == Move.KEEP),
            inside.write.payload.eq(outside.read.payload), inside.write.valid.eq(outside.read.valid),
            outside.read.ready.eq(inside.write.ready),
            outside.write.payload.eq(Mux(kind == Move.CLEAR, 0, inside.read.payload)),
            outside.write.valid.eq((kind == Move.CLEAR) | inside.read.valid),
            inside.read.ready.eq(outside.write.ready & (kind != Move.CLEAR)),
        ]  # fmt: skip
        with m.If(self.move.valid & self.move.ready):
            m.d.sync += kind.eq(self.move.payload.kind)
        # A memory for each element of a word.
        for lane in range(self.lanes):
            memory = MemoryBank(16, self.bank, tech=self.tech, memory=f"states{lane}")
            m.submodules[f"memory{lane}"] = memory
            m.d.comb += [
                memory.rd_addr.eq(Mux(self.idle, self.outer_addr, inside.rd_addr)),
                self.outer_word.word_select(lane, 16).eq(memory.rd_data),
                memory.wr_en.eq(Mux(self.idle, self.outer_en[lane], inside.wr_en)),
                memory.wr_addr.eq(Mux(self.idle, self.outer_addr, inside.wr_addr)),
                memory.wr_data.eq(Mux(self.idle, self.outer_data, inside.wr_data.word_select(lane, 16))),
            ]
        return m
