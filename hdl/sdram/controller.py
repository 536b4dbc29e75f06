"""SDRAM controller: single writes, and one endless sequential read at the full rate of the pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.sdram import BURST, SdramChip

__all__ = [
    "PAD_DELAY",
    "Command",
    "SdramController",
    "SdramPins",
    "command_pins",
    "mode_register",
    "read_pipe",
    "write_word",
]

PAD_DELAY = 2
"""Cycles on top of the latency of the chip until a word read is seen: the pads' registers, out and in."""
POWER_UP_REFRESHES = 8
ALL_BANKS = 1 << 10

SdramPins = wiring.Signature({
    "cke": Out(1), "cs": Out(1), "ras": Out(1), "cas": Out(1), "we": Out(1), "dqm": Out(2),
    "ba": Out(2), "a": Out(13), "dq_o": Out(16), "dq_oe": Out(1), "dq_i": In(16),
})  # fmt: skip
"""The chip's pins without the clock; 1 selects, whatever the level on the board. All outputs change at the
clock edge, a register in the pads delays them by a cycle, and the chip takes them half a cycle after that."""


class Command:
    """Commands as levels of ras, cas and we."""

    ACTIVATE, READ, WRITE, PRECHARGE = (1, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 1)
    REFRESH, MODE = (1, 1, 0), (1, 1, 1)


def command_pins(m: Module, pins: Any, ready: Value) -> Callable[..., None]:
    """Select the chip without a command, and return a function that gives it one in this cycle's place:
    `Command`, bank, address. Words are masked until ``ready``.
    """
    m.d.comb += [pins.cs.eq(1), pins.cke.eq(1)]
    m.d.sync += [
        pins.ras.eq(0), pins.cas.eq(0), pins.we.eq(0), pins.dq_oe.eq(0),
        pins.dqm.eq(Mux(ready, 0, 3)),
    ]  # fmt: skip

    def command(which: tuple[int, int, int], bank: Any = 0, address: Any = 0) -> None:
        m.d.sync += [
            Cat(pins.ras, pins.cas, pins.we).eq(Cat(*(Const(bit, 1) for bit in which))),
            pins.ba.eq(bank), pins.a.eq(address),
        ]  # fmt: skip

    return command


def write_word(chip: SdramChip) -> data.StructLayout:
    """One word to write."""
    return data.StructLayout({"address": chip.word_bits, "word": 16})


def mode_register(cas: int) -> int:
    """Read bursts of `BURST` words in order, single writes, latency ``cas``."""
    return 1 << 9 | cas << 4 | BURST.bit_length() - 1


def read_pipe(cas: int) -> int:
    """Cycles from a read command on the pins' signals to its first word on ``data``."""
    return cas + PAD_DELAY


class SdramController(wiring.Component):
    """Writes single words, and reads on from wherever ``restart`` put it, a word a cycle.

    Reads are bursts of `BURST` words one behind the other; while one bank's row is read the next bank's is
    opened, so nothing but refreshes interrupts them: one every ``cycles.refresh``, each costing
    ``rp + rfc + rcd`` cycles. Writes are taken between bursts, and only while nothing is left to be read
    (``room`` low) or before the first ``restart``.

    Parameters
    ----------
    chip : its timing.   clock_hz : of ``sync``. UsageError when they do not go together.

    Members
    -------
    ready : Out(1)
        The chip has been initialised; nothing else happens before.
    write : In(stream.Signature(write_word))
        Words to write.
    restart : In(1)
        Pulse: read on from ``burst``.
    burst : In(burst)
        Where: word / BURST, taken with ``restart``.
    flush : Out(1)
        Pulse, some cycles after ``restart``: words before it are old ones, those after it new.
    stale : Out(1)
        From ``restart`` to ``flush``, both cycles included.
    room : In(1)
        Another burst may be read.
    asked : Out(1)
        Pulse: it is.
    valid : Out(1)
        There is a word.
    data : Out(16)
        The words in order.
    pins : Out(SdramPins)
        The chip.
    """

    def __init__(self, chip: SdramChip, clock_hz: int) -> None:
        self.chip, self.cycles = chip, chip.cycles(clock_hz)
        if self.cycles.rcd > BURST - 2:
            raise ValueError(f"{chip.name} opens a row in {self.cycles.rcd} cycles, more than a burst hides")
        super().__init__(
            {
                "ready": Out(1),
                "write": In(stream.Signature(write_word(chip))),
                "restart": In(1),
                "burst": In(chip.word_bits - 3),
                "flush": Out(1),
                "stale": Out(1),
                "room": In(1),
                "asked": Out(1),
                "valid": Out(1),
                "data": Out(16),
                "pins": Out(SdramPins),
            }
        )

    def _pieces(self, word: Value) -> tuple[Value, Value, Value]:
        """(bank, row, column) of a word's number."""
        low = self.chip.column_bits
        return word[low : low + self.chip.bank_bits], word[low + self.chip.bank_bits :], word[:low]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pins, chip, t = self.pins, self.chip, self.cycles
        row_open = max(t.ras, t.rc - t.rp)
        # cycles until the next command of this state, and until the open banks may be closed
        pause = Signal(range(t.power_up + 1), init=t.power_up, name="pause")
        hold = Signal(range(row_open + t.wr), name="hold")
        command = command_pins(m, pins, self.ready)

        def wait(cycles: int) -> None:
            m.d.sync += pause.eq(cycles - 1)

        with m.If(pause.any()):
            m.d.sync += pause.eq(pause - 1)
        with m.If(hold.any()):
            m.d.sync += hold.eq(hold - 1)

        due, since = self._refresh_due(m)
        word = Signal(chip.word_bits, name="word")  # the next one to be asked for
        bank, row, column = self._pieces(word)
        following = Signal.like(word, name="following")
        m.d.comb += following.eq((word | (1 << chip.column_bits) - 1) + 1)
        next_bank, next_row, _ = self._pieces(following)
        reading, wanted = Signal(name="reading"), Signal(len(self.burst), name="wanted")
        quiet = self._words(m)
        with m.If(self.restart):
            m.d.sync += [self.stale.eq(1), wanted.eq(self.burst), reading.eq(0)]

        beat = Signal(range(BURST), name="beat")
        missing = Signal(name="missing")  # the row of `word` is not
        ahead = Signal(name="ahead")  # the next bank's row is open
        # the last burst was its row's last; that row is still open
        ended, behind = Signal(name="ended"), Signal(name="behind")
        old = Signal.like(bank, name="old")
        more = Signal(name="more")  # another burst may follow now
        m.d.comb += more.eq(reading & self.room & ~due & ~self.stale & ~self.restart)
        item = self.write.payload
        item_bank, item_row, item_column = self._pieces(item.address)
        open_bank, open_row = Signal.like(bank, name="open_bank"), Signal.like(row, name="open_row")
        count = Signal(range(POWER_UP_REFRESHES + 1), name="count")

        def close() -> None:
            command(Command.PRECHARGE, 0, ALL_BANKS)
            wait(t.rp)
            m.next = "CLOSED"

        with m.FSM():
            with m.State("POWER UP"):
                with m.If(pause == 0):
                    command(Command.PRECHARGE, 0, ALL_BANKS)
                    wait(t.rp)
                    m.next = "FIRST REFRESHES"
            with m.State("FIRST REFRESHES"):
                with m.If(pause == 0):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == POWER_UP_REFRESHES):
                        command(Command.MODE, 0, mode_register(t.cas))
                        wait(t.mrd)
                        m.d.sync += self.ready.eq(1)
                        m.next = "CLOSED"
                    with m.Else():
                        command(Command.REFRESH)
                        wait(t.rfc)
            with m.State("CLOSED"):  # all banks are
                m.d.sync += [beat.eq(0), missing.eq(0), ahead.eq(0), ended.eq(0)]
                with m.If(self.stale & quiet & ~self.restart):
                    m.d.comb += self.flush.eq(1)
                    m.d.sync += [self.stale.eq(0), reading.eq(1), word.eq(wanted << 3)]
                with m.If(pause == 0):
                    with m.If(due):
                        command(Command.REFRESH)
                        m.d.sync += since.eq(since - (t.refresh - 1))
                        wait(t.rfc)
                    with m.Elif(more):
                        command(Command.ACTIVATE, bank, row)
                        m.d.sync += hold.eq(row_open - 1)
                        wait(t.rcd)
                        m.next = "READ"
                    with m.Elif(self.write.valid & quiet & ~self.stale & ~self.restart):
                        command(Command.ACTIVATE, item_bank, item_row)
                        m.d.sync += [open_bank.eq(item_bank), open_row.eq(item_row), hold.eq(row_open - 1)]
                        wait(t.rcd)
                        m.next = "WRITE"
            with m.State("READ"):
                with m.If(pause.any()):
                    pass
                with m.Elif(beat.any()):
                    m.d.sync += beat.eq(beat + 1)
                    with m.If((beat == 1) & behind):
                        command(Command.PRECHARGE, old)
                        m.d.sync += behind.eq(0)
                    with m.If((beat == 2) & ~ahead):
                        command(Command.ACTIVATE, Mux(missing, bank, next_bank), Mux(missing, row, next_row))
                        m.d.sync += [missing.eq(0), ahead.eq(~missing), hold.eq(row_open - 1)]
                with m.Elif(more):
                    command(Command.READ, bank, column)
                    m.d.comb += self.asked.eq(1)
                    m.d.sync += [beat.eq(1), word.eq(word + BURST), behind.eq(ended), ended.eq(0)]
                    with m.If(column[3:].all()):  # the row's last burst
                        m.d.sync += [missing.eq(~ahead), ahead.eq(0), ended.eq(1), old.eq(bank)]
                with m.Elif((due | self.stale | self.write.valid) & (hold == 0)):
                    close()
            with m.State("WRITE"):
                with m.If(pause == 0):
                    same = (item_bank == open_bank) & (item_row == open_row)
                    with m.If(due | self.stale | more | (self.write.valid & ~same)):
                        with m.If(hold == 0):
                            close()
                    with m.Elif(self.write.valid):
                        command(Command.WRITE, item_bank, item_column)
                        m.d.comb += self.write.ready.eq(1)
                        m.d.sync += [pins.dq_o.eq(item.word), pins.dq_oe.eq(1)]
                        with m.If(hold < t.wr):
                            m.d.sync += hold.eq(t.wr - 1)
        return m

    def _refresh_due(self, m: Module) -> tuple[Value, Signal]:
        """Return whether a refresh is due, and the cycles since the last one was."""
        interval = self.cycles.refresh
        since = Signal(range(16 * interval), name="since")
        with m.If(self.ready):
            m.d.sync += since.eq(since + 1)
        return since >= interval, since

    def _words(self, m: Module) -> Value:
        """Give out the words that come back; returns whether none are on their way."""
        first = Signal(read_pipe(self.cycles.cas) + 1, name="first")
        left = Signal(range(BURST + 1), name="left")
        m.d.sync += first.eq(Cat(self.asked, first[:-1]))
        with m.If(first[-1]):
            m.d.sync += left.eq(BURST - 1)
        with m.Elif(left.any()):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [self.valid.eq(first[-1] | left.any()), self.data.eq(self.pins.dq_i)]
        return ~(first.any() | left.any() | self.asked)
