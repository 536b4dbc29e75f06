"""Row mover: rows between an SDRAM and the row RAM of the columns, a head in each bank after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import DIGIT_BITS, LAYOUT, LIST_BITS
from ternac.compile.row_store import BANKS, BURST, CHIP, REFRESH, SECTOR_BURSTS, TIMES, MoveTime
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.ports import context_bits, move_layout, move_signature
from ternac.hdl.sdram.controller import (
    ALL_BANKS,
    POWER_UP_REFRESHES,
    Command,
    SdramPins,
    command_pins,
    mode_register,
    read_pipe,
)
from ternac.link import CLEAR_BLOCK, HALF_BLOCK

__all__ = ["DRAIN_AHEAD", "RowMover"]

WRITE_FIFO = 32
"""Words of the host that wait: it sends one in two cycles, and a refresh with a new row takes 20."""
DRAIN_AHEAD = 5
"""Cycles from a word's address in the row RAM to its command."""
MAP_HEADS = 16
"""Rows of which one word of a map says whether they are zero."""
_OPEN, _CLOSE = 4, 2
"""Beats of a head from the SDRAM in which the next head's row is opened, the one's before closed."""
_BURST_BITS = CHIP.row_bits + CHIP.column_bits - 3
_COLUMN_BURSTS = CHIP.column_bits - 3
_HEADS = LAYOUT["words"][2]


class RowMover(wiring.Component):
    """Moves the rows of heads whose digits are in the list, and does for the host what it may do with rows.

    A move takes ``LEAD + rcd`` cycles, for each head its words (and ``GAP`` more to the SDRAM), and ``TAIL``
    (`MoveTime`, which says when refreshes come between). While one head's words pass, the next head's row is
    opened in the next bank and that of the head before is closed.

    Parameters
    ----------
    geometry : that keeps rows in an SDRAM.
    power_up : cycles until the chip takes its first command.

    Members
    -------
    move : In(1)
        Pulse: begin as soon as the chip is free. Not before the last one's ``retire``.
    settings : In(move_layout)
        The move, taken with ``move``.
    retire : Out(1)
        Pulse: a pass that uses what was moved may begin two cycles later.
    rest : In(1)
        Pulse: a token starts from rest; from now on refreshes come at fixed distances.
    list_use : Out(1)
        The address list is read as the four members below say.
    list_a : Out(word)
        The word of the first digit.
    list_b : Out(word)
        The word of the second one.
    list_context : Out(context)
        The context of both.
    list_column : Out(column)
        The column of both.
    a : In(10)
        The first digit, a cycle later.
    b : In(10)
        The second one, likewise.
    fill : Out(1)
        Write ``fill_word`` to the row RAM of columns 2 * ``pair`` and the one behind.
    fill_pair : Out(pair)
        The pair of columns.
    fill_address : Out(address)
        The word of the row RAM.
    fill_word : Out(16)
        The bytes of both columns.
    drain_use : Out(1)
        Read ``drain_address`` of the row RAM.
    drain_address : Out(address)
        That word.
    drained : In(16).array(columns // 2)
        The words of all pairs of columns, three cycles later.
    wr_en : In(1)
        The host writes a word, in at most one cycle of two and none in which a token is in work.
    wr_block : In(8)
        Its address above ``wr_addr``, to which `HALF_BLOCK` adds the uppermost bit; or `CLEAR_BLOCK`: zero
        ``wr_data`` + 1 sectors from ``wr_addr`` on, while which the host must not write.
    wr_addr : In(16)
        The lower part of its address.
    wr_data : In(16)
        The word.
    rd_en : In(1)
        Pulse: the host reads a word, one at a time; it waits for all that it wrote.
    rd_block : In(8)
        `READ_ROWS` and the address above ``rd_addr``; or `READ_MAP` and log2 of the bursts of a row: which of
        16 rows are not zero.
    rd_addr : In(16)
        The lower part of its address; of the 16 rows their number: 4 in each bank.
    rd_valid : Out(1)
        Pulse: there is the word.
    rd_data : Out(16)
        The word.
    busy : Out(1)
        Work of the host's is left.
    ready : Out(1)
        The chip has been initialised; nothing else happens before.
    pins : Out(SdramPins)
        The chip.
    """

    AREA_PART = "rows"

    def __init__(self, geometry: Geometry, *, power_up: int = TIMES.power_up) -> None:
        g = self.geometry = geometry
        self.power_up = power_up
        assert TIMES.rp <= 2 and TIMES.wr == MoveTime.GAP == TIMES.rcd and TIMES.cas == 2
        self.pairs = g.columns // 2
        address = ceil_log2(g.rows)
        super().__init__(
            {
                **move_signature(g).flip().members,
                "list_use": Out(1),
                "list_a": Out(LIST_BITS),
                "list_b": Out(LIST_BITS),
                "list_context": Out(context_bits(g)),
                "list_column": Out(ceil_log2(g.columns)),
                "a": In(DIGIT_BITS),
                "b": In(DIGIT_BITS),
                "fill": Out(1),
                "fill_pair": Out(max(1, ceil_log2(self.pairs))),
                "fill_address": Out(address),
                "fill_word": Out(16),
                "drain_use": Out(1),
                "drain_address": Out(address),
                "drained": In(16).array(self.pairs),
                "pins": Out(SdramPins),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        own = Signal(move_layout(self.geometry), name="own")
        pending, engine = Signal(name="pending"), Signal(name="engine")
        words = Signal(range(65), name="words")  # of a head
        m.d.comb += words.eq(BURST << own.bursts)

        host = self._host(m)
        first_bank = Signal(2, name="first_bank")
        base = Signal(_BURST_BITS, name="base")
        head, advance, restart = self._address(m, own, base, first_bank)
        begins, tail_ends, data_of = self._chip(m, own, words, head, advance, pending, engine, host)

        # A move of the engine's; the host's begin when the chip is idle.
        with m.If(self.move):
            m.d.sync += [
                own.eq(self.settings), pending.eq(1), engine.eq(1), first_bank.eq(0), self.list_use.eq(1),
                base.eq(self.settings.sector * SECTOR_BURSTS),
            ]  # fmt: skip
            m.d.comb += restart.eq(1)
        with m.If(begins.engine):
            m.d.sync += pending.eq(0)
        with m.If(begins.host):
            m.d.sync += [
                own.out.eq(host.out), own.heads.eq(host.heads), own.bits.eq(0), own.two.eq(0),
                own.bursts.eq(host.bursts), first_bank.eq(host.bank), base.eq(host.base), engine.eq(0),
            ]  # fmt: skip
            m.d.comb += restart.eq(1)
        self._words_in(m, own, words, engine, begins, tail_ends)
        m.d.comb += data_of.eq(self._words_out(m, own, words, engine, begins))
        return m

    @staticmethod
    def model(
        sdram: npt.NDArray[np.uint16], rows: npt.NDArray[np.uint8], a: Sequence[int], b: Sequence[int] | None,
        *, out: bool, bits: int, bursts: int, step: int, sector: int, buffer: int,
    ) -> None:  # fmt: skip
        """Move the rows of heads with digits ``a`` and ``b`` between ``sdram`` (words) and the row RAM
        (``[columns, words]``), as docs/sdram.md says.
        """
        mask, size = (1 << bits) - 1, 1 << bits * (1 if b is None else 2)
        for k, digit in enumerate(a):
            local = digit & mask if b is None else (digit & mask) << bits | b[k] & mask
            burst = sector * SECTOR_BURSTS + ((k // BANKS * size + local) << bursts)
            row, column = divmod(burst, 1 << _COLUMN_BURSTS)
            first = row << CHIP.column_bits + 2 | k % BANKS << CHIP.column_bits | column * BURST
            for w in range(BURST << bursts):
                slot, pair = divmod(w, len(rows) // 2)
                at = buffer + (k << step) + slot
                room = slot < 1 << step
                if out:
                    low, high = (int(rows[2 * pair + i, at]) if room else 0 for i in range(2))
                    sdram[first + w] = low | high << 8
                elif room:
                    rows[2 * pair, at], rows[2 * pair + 1, at] = sdram[first + w] & 255, sdram[first + w] >> 8

    # ---- the host's work --------------------------------------------------------------------------------

    def _host(self, m: Module) -> Any:
        """Note what the host wants; returns the next piece of it, as a move of its own."""
        next_one = Signal(
            data.StructLayout(
                {
                    "any": 1, "out": 1, "heads": _HEADS, "bursts": 2, "bank": 2, "base": _BURST_BITS,
                    "words": 1, "maps": 1, "reads": 1, "clears": 1,
                }
            ),
            name="host",
        )  # fmt: skip
        half = Signal(name="half")
        m.submodules.writes = fifo = self.writes = SyncFIFO(width=CHIP.word_bits + 16, depth=WRITE_FIFO)
        plain = self.wr_en & ~self.wr_block[7]
        m.d.comb += [
            fifo.w_en.eq(plain),
            fifo.w_data.eq(Cat(self.wr_addr, self.wr_block[:7], half, self.wr_data)),
        ]
        sector, left = Signal(16, name="clear_sector"), Signal(17, name="clear_left")
        self.cleared = Signal(name="cleared")
        with m.If(self.cleared):
            m.d.sync += [sector.eq(sector + 1), left.eq(left - 1)]
        with m.If(self.wr_en & (self.wr_block == HALF_BLOCK)):
            m.d.sync += half.eq(self.wr_data[0])
        with m.If(self.wr_en & (self.wr_block == CLEAR_BLOCK)):
            m.d.sync += [sector.eq(self.wr_addr), left.eq(self.wr_data + 1)]
        wanted, block, address = Signal(name="rd_wanted"), Signal(8, name="rd_from"), Signal(16, name="rd_at")
        with m.If(self.rd_en):
            m.d.sync += [wanted.eq(1), block.eq(self.rd_block), address.eq(self.rd_addr)]
        self.read_begins = Signal(name="read_begins")
        with m.If(self.read_begins):
            m.d.sync += wanted.eq(0)
        self.word_of_burst = address[:3]

        low, bank = CHIP.column_bits, CHIP.bank_bits
        item = fifo.r_data[: CHIP.word_bits]
        word = Cat(address, block[:7], half)

        def burst_of(at: Value) -> Value:
            return Cat(at[3:low], at[low + bank :])

        clears = ~fifo.r_rdy & left.any()
        maps = ~fifo.r_rdy & ~left.any() & wanted & ~block[7]
        m.d.comb += [
            next_one.words.eq(fifo.r_rdy),
            next_one.clears.eq(clears),
            next_one.maps.eq(maps),
            next_one.reads.eq(~fifo.r_rdy & ~left.any() & wanted & block[7]),
            next_one.any.eq(fifo.r_rdy | left.any() | wanted),
            next_one.out.eq(fifo.r_rdy | left.any()),
            next_one.heads.eq(1),
        ]
        with m.If(fifo.r_rdy):
            m.d.comb += [next_one.base.eq(burst_of(item)), next_one.bank.eq(item[low : low + bank])]
        with m.Elif(clears):
            m.d.comb += [next_one.base.eq(sector * SECTOR_BURSTS), next_one.heads.eq(BANKS)]
            m.d.comb += next_one.bursts.eq(3)
        with m.Elif(maps):
            rows = Cat(address, half) << 2
            m.d.comb += [
                next_one.base.eq(rows << block[:2]),
                next_one.heads.eq(MAP_HEADS),
                next_one.bursts.eq(block[:2]),
            ]
        with m.Else():
            m.d.comb += [next_one.base.eq(burst_of(word)), next_one.bank.eq(word[low : low + bank])]
        return next_one

    # ---- addresses --------------------------------------------------------------------------------------

    def _address(self, m: Module, own: Any, base: Value, first_bank: Value) -> tuple[Any, Signal, Signal]:
        """The place of a head, three cycles after it is the next; returns it, and what goes to the next or
        to the first.
        """
        advance, restart = Signal(name="advance"), Signal(name="restart")
        head = Signal(2, name="head")
        start = Signal(_BURST_BITS, name="start")
        word_a, word_b = Signal(LIST_BITS, name="word_a"), Signal(LIST_BITS, name="word_b")
        column = Signal(ceil_log2(self.geometry.columns), name="column_of_list")
        size = Signal(5, name="size")
        region = Signal(_BURST_BITS, name="region")
        m.d.sync += [size.eq(Mux(own.two, own.bits << 1, own.bits)), region.eq(1 << size)]
        with m.If(advance):
            m.d.sync += [head.eq(head + 1), column.eq(column + 1)]
            with m.If(head == BANKS - 1):
                m.d.sync += start.eq(start + region)
            with m.If(column == self.geometry.columns - 1):
                m.d.sync += [column.eq(0), word_a.eq(word_a + 1), word_b.eq(word_b + 1)]
        with m.If(restart):
            m.d.sync += [head.eq(0), start.eq(0), column.eq(0)]
            m.d.sync += [
                word_a.eq(self.settings.lists[:LIST_BITS]), word_b.eq(self.settings.lists[LIST_BITS:]),
            ]  # fmt: skip
        m.d.comb += [
            self.list_a.eq(word_a), self.list_b.eq(word_b), self.list_column.eq(column),
            self.list_context.eq(own.context),
        ]  # fmt: skip

        # Cycle 1: the digits.  Cycle 2: the row among its head's.  Cycle 3: its burst.
        mask = Signal(DIGIT_BITS, name="mask")
        m.d.comb += mask.eq((1 << own.bits) - 1)
        high, low = self.a & mask, Mux(own.two, self.b, self.a) & mask
        local = Signal(_BURST_BITS, name="local")
        place = Signal(data.StructLayout({"burst": _BURST_BITS, "bank": 2}), name="place")
        m.d.sync += [
            local.eq(Mux(own.two, high << own.bits, 0) | low),
            place.burst.eq(base + ((start + local) << own.bursts)),
            place.bank.eq(first_bank + head),
        ]
        return place, advance, restart

    # ---- the chip ---------------------------------------------------------------------------------------

    def _chip(
        self, m: Module, own: Any, words: Value, place: Any, advance: Signal, pending: Signal,
        engine: Signal, host: Any,
    ) -> tuple[Any, Signal, Signal]:  # fmt: skip
        """Give the chip its commands; returns when a move begins, when one ends, and the word to write."""
        pins, t = self.pins, TIMES
        begins = Signal(data.StructLayout({"engine": 1, "host": 1}), name="begins")
        tail_ends, word = Signal(name="tail_ends"), Signal(16, name="word_out")
        command = command_pins(m, pins, self.ready)

        # Refreshes: one is owed with a start from rest and every REFRESH cycles after it.
        owed, since = Signal(range(16), name="owed"), Signal(range(REFRESH), name="since")
        pays = Signal(name="pays")
        due = (since == REFRESH - 1) | self.rest
        with m.If(self.ready):
            m.d.sync += [since.eq(Mux(due, 0, since + 1)), owed.eq(owed + due - pays)]

        pause = Signal(range(max(self.power_up, 8) + 1), init=self.power_up, name="pause")
        count = Signal(range(POWER_UP_REFRESHES + 1), name="count")
        with m.If(pause.any()):
            m.d.sync += pause.eq(pause - 1)

        lead = Signal(range(MoveTime.LEAD + 1), name="lead")
        beat, left = Signal(range(67), name="beat"), Signal(_HEADS, name="heads_left")
        last_beat = Signal(range(67), name="last_beat")
        now, following = (
            Signal(data.StructLayout({"column": _COLUMN_BURSTS, "bank": 2}), name=name)
            for name in ("now", "following")
        )
        old, first = Signal(2, name="old_bank"), Signal(name="first_head")
        working = Signal(data.StructLayout({"words": 1, "maps": 1, "reads": 1, "clears": 1}), name="working")
        page = Signal(CHIP.word_bits - CHIP.column_bits, name="page")
        self.asked = Signal(name="asked")
        self.lead, self.working = lead, working
        fifo = self.writes
        m.d.comb += last_beat.eq(Mux(own.out, words + (MoveTime.GAP - 1), words - 1))

        def open_next() -> None:
            command(Command.ACTIVATE, place.bank, place.burst[_COLUMN_BURSTS:])
            m.d.sync += [following.column.eq(place.burst[:_COLUMN_BURSTS]), following.bank.eq(place.bank)]
            m.d.comb += advance.eq(1)

        with m.FSM():
            with m.State("POWER UP"):
                with m.If(pause == 0):
                    command(Command.PRECHARGE, 0, ALL_BANKS)
                    m.d.sync += pause.eq(t.rp - 1)
                    m.next = "FIRST REFRESHES"
            with m.State("FIRST REFRESHES"):
                with m.If(pause == 0):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == POWER_UP_REFRESHES):
                        command(Command.MODE, 0, mode_register(t.cas))
                        m.d.sync += [pause.eq(t.mrd - 1), self.ready.eq(1)]
                        m.next = "REST"
                    with m.Else():
                        command(Command.REFRESH)
                        m.d.sync += pause.eq(t.rfc - 1)
            with m.State("REST"):
                with m.If(pause <= 1):
                    m.next = "IDLE"
            with m.State("IDLE"):  # all banks are closed
                m.d.sync += [lead.eq(0), beat.eq(0), first.eq(1), working.eq(0)]
                with m.If(owed.any()):
                    command(Command.REFRESH)
                    m.d.comb += pays.eq(1)
                    m.d.sync += pause.eq(t.rfc - 1)
                    m.next = "REST"
                with m.Elif(pending):
                    m.d.comb += begins.engine.eq(1)
                    m.d.sync += left.eq(own.heads)
                    m.next = "LEAD"
                with m.Elif(host.any):
                    m.d.comb += begins.host.eq(1)
                    m.d.sync += [
                        left.eq(host.heads), page.eq(fifo.r_data[CHIP.column_bits : CHIP.word_bits]),
                        *(working[name].eq(host[name]) for name in ("words", "maps", "reads", "clears")),
                    ]  # fmt: skip
                    m.next = "LEAD"
            with m.State("LEAD"):
                m.d.sync += lead.eq(lead + 1)
                with m.If(lead == MoveTime.LEAD - 1):
                    open_next()
                    m.next = "OPENING"
            with m.State("OPENING"):
                m.d.sync += now.eq(following)
                m.next = "WORDS"
            with m.State("WORDS"):
                m.d.sync += beat.eq(beat + 1)
                # from the SDRAM the next head's row is opened, to it this one's
                closes = Mux(own.out, 1, _CLOSE)
                with m.If(Mux(own.out, (beat == 0) & ~first, (beat == _OPEN) & (left != 1))):
                    open_next()
                with m.If(own.out & (beat == 1)):
                    m.d.sync += now.eq(following)
                with m.If((beat == closes) & ~first):
                    command(Command.PRECHARGE, old)
                with m.If(~own.out & (beat[:3] == 0)):
                    command(Command.READ, now.bank, Cat(Const(0, 3), now.column) + beat)
                    m.d.comb += self.asked.eq(1)
                written = own.out & (beat >= MoveTime.GAP)
                same = fifo.r_rdy & (fifo.r_data[CHIP.column_bits : CHIP.word_bits] == page)
                with m.If(written & ~(working.words & ~same)):
                    column = Cat(Const(0, 3), now.column) + (beat - MoveTime.GAP)[:6]
                    item = fifo.r_data[: CHIP.column_bits]
                    command(Command.WRITE, now.bank, Mux(working.words, item, column[: CHIP.column_bits]))
                    given = Mux(working.words, fifo.r_data[CHIP.word_bits :], word)
                    m.d.sync += [pins.dq_oe.eq(1), pins.dq_o.eq(given)]
                    m.d.comb += fifo.r_en.eq(working.words)
                with m.If(working.words):
                    with m.If(beat == MoveTime.GAP):  # as long as words of the open row are there
                        m.d.sync += beat.eq(beat)
                        with m.If(~same):
                            m.d.sync += [beat.eq(0), old.eq(now.bank)]
                            m.next = "TAIL"
                with m.Elif(beat == last_beat):
                    m.d.sync += [
                        beat.eq(0), first.eq(0), old.eq(now.bank), now.eq(following), left.eq(left - 1),
                    ]  # fmt: skip
                    with m.If(left == 1):
                        m.next = "TAIL"
            with m.State("TAIL"):
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == Mux(own.out, 1, _CLOSE)):
                    command(Command.PRECHARGE, old)
                    m.d.comb += self.retire.eq(engine)
                with m.If(beat == MoveTime.TAIL - 1):
                    m.d.comb += [tail_ends.eq(1), self.cleared.eq(working.clears)]
                    m.next = "IDLE"
        m.d.comb += [
            self.busy.eq(host.any | working.as_value().any()),
            self.read_begins.eq(begins.host & (host.maps | host.reads)),
        ]
        with m.If(self.retire):
            m.d.sync += self.list_use.eq(0)
        return begins, tail_ends, word

    # ---- words ------------------------------------------------------------------------------------------

    def _places(
        self, m: Module, own: Any, words: Value, name: str, restart: Value, goes: Value
    ) -> tuple[Value, Value, Value, Value]:
        """Count through the words of the heads; returns pair of columns, word of the row RAM, whether that
        has room for it, and whether it is a head's last.
        """
        pair, slot = Signal(range(max(2, self.pairs)), name=f"{name}_pair"), Signal(6, name=f"{name}_slot")
        word = Signal(range(65), name=f"{name}_word")
        base = Signal(len(self.fill_address), name=f"{name}_base")
        ends = word == words - 1
        with m.If(goes):
            m.d.sync += [pair.eq(pair + 1), word.eq(word + 1)]
            with m.If(pair == self.pairs - 1):
                m.d.sync += [pair.eq(0), slot.eq(slot + 1)]
            with m.If(ends):
                m.d.sync += [pair.eq(0), slot.eq(0), word.eq(0), base.eq(base + (1 << own.step))]
        with m.If(restart):
            m.d.sync += [pair.eq(0), slot.eq(0), word.eq(0), base.eq(own.buffer)]
        return pair, base + slot, (slot >> own.step) == 0, ends

    def _words_in(
        self, m: Module, own: Any, words: Value, engine: Value, begins: Any, tail_ends: Value
    ) -> None:
        """Lead the words that come to the row RAM, and to the host's register."""
        pipe = Signal(read_pipe(TIMES.cas) + 1, name="pipe")
        left = Signal(range(BURST), name="burst_left")
        valid = Signal(name="valid")
        m.d.sync += pipe.eq(Cat(self.asked, pipe[:-1]))
        with m.If(pipe[-1]):
            m.d.sync += left.eq(BURST - 1)
        with m.Elif(left.any()):
            m.d.sync += left.eq(left - 1)
        m.d.comb += valid.eq(pipe[-1] | left.any())
        # counted anew when nothing of the move before can still come
        restart = begins.engine | begins.host
        pair, address, room, ends = self._places(
            m, own, words, "in", delay(m, restart, name="restarts"), valid
        )
        m.d.sync += [
            self.fill.eq(valid & engine & room),
            self.fill_pair.eq(pair),
            self.fill_address.eq(address),
            self.fill_word.eq(self.pins.dq_i),
        ]

        # A word of the host's is one of a burst; of a map's rows each gives a bit.
        is_map = self.working.maps
        number, some = Signal(3, name="number"), Signal(name="some")
        filled = self.pins.dq_i.any()
        with m.If(valid):
            m.d.sync += [number.eq(number + 1), some.eq((some | filled) & ~ends)]
            with m.If(is_map):
                with m.If(ends):
                    m.d.sync += self.rd_data.eq(Cat(self.rd_data[1:], some | filled))
            with m.Elif(~engine & (number == self.word_of_burst)):
                m.d.sync += self.rd_data.eq(self.pins.dq_i)
        with m.If(restart):
            m.d.sync += [number.eq(0), some.eq(0)]
        reads = self.working.maps | self.working.reads
        m.d.comb += self.rd_valid.eq(delay(m, tail_ends & reads, 3, name="read_ends"))

    def _words_out(self, m: Module, own: Any, words: Value, engine: Value, begins: Any) -> Value:
        """Read the row RAM, `DRAIN_AHEAD` cycles before each word's command; returns the word for that."""
        runs, gap = Signal(name="drains"), Signal(range(MoveTime.GAP + 1), name="drain_gap")
        left = Signal(_HEADS, name="drain_left")
        goes = runs & (gap == 0)
        begin = delay(m, begins.engine & own.out, name="drain_begins")
        pair, address, room, ends = self._places(m, own, words, "out", begin, goes)
        with m.If(gap.any()):
            m.d.sync += gap.eq(gap - 1)
        with m.If(goes & ends):
            m.d.sync += [gap.eq(MoveTime.GAP), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += runs.eq(0)
        with m.If(begin):
            m.d.sync += [runs.eq(1), gap.eq(0), left.eq(own.heads)]
        m.d.comb += [self.drain_use.eq(runs), self.drain_address.eq(address)]
        late = delay(m, Cat(room, pair), 3, name="drain_place", reset_less=True)
        chosen = Array(self.drained)[late[1:]] if self.pairs > 1 else self.drained[0]
        kept = Mux(late[0] & engine, chosen, 0)
        return delay(m, kept, DRAIN_AHEAD - 3, name="drain_word", reset_less=True)
