"""The weight store in SDRAM: loader words in, the words of the dot units out, in program order."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.geometry import Geometry
from ternac.compile.sdram import BURST, SdramChip
from ternac.hdl.sdram.controller import SdramController, SdramPins

__all__ = ["READ_FIFO", "WRITE_FIFO", "SdramStore"]

WRITE_FIFO = 256
"""Loader words that may wait: more than a frame of the link holds."""
READ_FIFO = 512
"""Words read ahead."""


class SdramStore(wiring.Component):
    """``stream_words`` words of SDRAM after the other, from word 0 on, become one word of the dot units.

    The weights of a token are read once, in the order in which they lie: ``restart`` at its begin throws away
    what was read ahead, and reading starts over.

    Parameters: ``geometry`` that streams; ``chip`` and ``clock_hz`` for `SdramController`.

    Members
    -------
    wr_en : In(1)
        A loader word; at most `WRITE_FIFO` wait (``ready`` low, and refreshes, hold them up). Never in a
        cycle in which a token is in work.
    wr_address : In(24)
        Its address.
    wr_word : In(16)
        The word.
    restart : In(1)
        Pulse: start over at word 0, when the loader's words up to this cycle are written.
    o : Out(stream.Signature(16 * stream_words))
        Words of the dot units, none older than ``restart``.
    ready : Out(1)
        The chip has been initialised.
    pins : Out(SdramPins)
        The chip.
    """

    def __init__(self, geometry: Geometry, chip: SdramChip, clock_hz: int) -> None:
        self.words = geometry.stream_words
        self.controller = SdramController(chip, clock_hz)
        super().__init__(
            {
                "wr_en": In(1),
                "wr_address": In(chip.word_bits),
                "wr_word": In(16),
                "restart": In(1),
                "o": Out(stream.Signature(16 * self.words)),
                "ready": Out(1),
                "pins": Out(SdramPins),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.controller = chip = self.controller
        connect(m, chip.pins, flipped(self.pins))
        bits = len(self.wr_address)
        m.submodules.writes = writes = SyncFIFOBuffered(width=bits + 16, depth=WRITE_FIFO)
        m.d.comb += [
            self.ready.eq(chip.ready),
            writes.w_en.eq(self.wr_en), writes.w_data.eq(Cat(self.wr_address, self.wr_word)),
            chip.write.valid.eq(writes.r_rdy), writes.r_en.eq(chip.write.ready),
            chip.write.payload.address.eq(writes.r_data[:bits]),
            chip.write.payload.word.eq(writes.r_data[bits:]),
        ]  # fmt: skip

        # words of before the restart may still be in the FIFO or on their way: all goes at the flush. Reading
        # waits for the last of the loader's words, those of the restart's cycle included; the FIFO shows a
        # word two cycles after it came.
        begin, old = Signal(name="begin"), Signal(name="old")
        loaded, written = Signal(name="loaded"), Signal(name="written")
        m.d.sync += loaded.eq(self.wr_en)
        m.d.comb += written.eq(~writes.r_rdy & ~self.wr_en & ~loaded)
        with m.If(self.restart):
            m.d.sync += begin.eq(1)
        with m.Elif(written):
            m.d.sync += begin.eq(0)
        m.d.comb += [
            chip.restart.eq(begin & written & ~self.restart),
            old.eq(self.restart | begin | chip.stale),
        ]
        reads = SyncFIFOBuffered(width=16, depth=READ_FIFO)
        m.submodules.reads = ResetInserter(old)(reads)
        free = Signal(range(READ_FIFO + 1), init=READ_FIFO, name="free")  # less what has been asked for
        taken = Signal(name="taken")
        m.d.comb += [
            chip.room.eq((free >= BURST) & ~begin),
            reads.w_en.eq(chip.valid & ~old), reads.w_data.eq(chip.data),
        ]  # fmt: skip
        change = taken - (chip.asked << 3)
        with m.If(old):
            m.d.sync += free.eq(READ_FIFO)
        with m.Else():
            m.d.sync += free.eq(free + change)
        self._gather(m, reads, taken, old)
        return m

    def _gather(self, m: Module, reads: SyncFIFOBuffered, taken: Signal, old: Signal) -> None:
        """Words of SDRAM, the first one lowest, to words of the dot units; a word a cycle goes in."""
        whole, count = Signal(16 * self.words, name="whole"), Signal(range(self.words + 1), name="count")
        complete = Signal(name="complete")
        m.d.comb += [
            complete.eq(count == self.words),
            self.o.payload.eq(whole), self.o.valid.eq(complete & ~old),
            taken.eq(reads.r_rdy & ~old & (~complete | self.o.ready)),
            reads.r_en.eq(taken),
        ]  # fmt: skip
        with m.If(taken):
            m.d.sync += [whole.eq(Cat(whole[16:], reads.r_data)), count.eq(count + 1)]
        with m.If(complete & self.o.ready):
            m.d.sync += count.eq(taken)
        with m.If(old):
            m.d.sync += count.eq(0)
