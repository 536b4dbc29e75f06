"""Row unit: the memory rows of all columns, and whatever finds them: winners, digit list, address former."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.isa import DIGIT_BITS, LIST_BITS
from ternac.hdl.cells.registers import delay, duplicate_register
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.digit_list import DigitList
from ternac.hdl.engine.ports import (
    ROW_ADDRESS_BITS,
    UPDATE_AHEAD,
    RowKind,
    context_bits,
    lane_layout,
    move_signature,
    pass_slots,
    row_settings_layout,
    write_layout,
)
from ternac.hdl.engine.row_address import ADDRESS_LATENCY, RowAddressFormer
from ternac.hdl.engine.row_column import ROW_BITS, SUM_BITS, RowColumn
from ternac.hdl.engine.winners import Winners, winners_latency
from ternac.hdl.sdram.controller import SdramPins
from ternac.hdl.sdram.rows import RowMover
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS, MOST_CLEAR

__all__ = ["READ_AHEAD", "RowUnit"]

READ_AHEAD = ADDRESS_LATENCY + 1
"""Cycles from the last head of a read's slot to the element of that slot."""
assert UPDATE_AHEAD == ADDRESS_LATENCY + 5  # to the columns, out of the rows, what is kept of a word
SETTLE = 2
"""Cycles that a read's settings need until its first head."""
_RETIRE = 6
"""Cycles from the last head of an update until its pass retires."""
COLUMNS_A_REGISTER = 4
"""Columns that share an address register."""


class RowUnit(wiring.Component):
    """Everything that an engine with rows has beside the pipelines (docs/isa.md, "Rows").

    One pass at a time uses rows or reads the list: ``accept`` gives its settings, which it keeps until it
    retires. Of a read, every head is a ``step``; the sum of a slot is a value in the cycle `READ_AHEAD` + 3
    after its last step (the steps pass registers, so that this is `dot_delay` + 3). An update begins a slot
    `UPDATE_AHEAD` cycles before its result; it takes a head a cycle.

    Members
    -------
    accept : In(1)
        Pulse: such a pass begins.
    settings : In(row_settings_layout)
        Its settings, taken with ``accept``.
    step : In(1)
        A head of a read.
    step_last : In(1)
        It is the last one of a slot.
    take : In(1)
        An element takes its value in the next cycle: the list goes on to the next word.
    update : In(1)
        Pulse: a slot of an update begins.
    update_last : In(1)
        It is the last one.
    mask : In(1)
        Pulse: a slot of a mask pass.
    hits : Out(columns)
        Two cycles later: the columns in which it is the winner's.
    values : Out(signed(20)).array(columns)
        The value of each column: the sum of rows, a digit of the list, or of the token.
    to_list : In(1)
        The results go to the list. The members from here to ``results`` come together.
    arg : In(1)
        The results are scores of groups.
    to_rows : In(1)
        The results are taken away from rows.
    group : In(count)
        Slots of a group.
    slot : In(slot)
        The slot.
    lane : In(lane_layout)
        Target, context and tail; first and last of the pass.
    index : In(pass)
        The index of the pass.
    results : In(signed(16)).array(columns)
        The results.
    arg_retire : Out(1)
        Pulse: the winners of pass ``arg_index`` are all in the list two cycles later.
    arg_index : Out(pass)
        The index of that pass.
    rows_retire : Out(1)
        Pulse: an update's rows are written before a pass that begins two cycles later reads them.
    rows_index : Out(pass)
        The index of the update.
    wr : In(write_layout)
        The loader's write; to block `CLEAR_BLOCK` it clears `CLEAR_WORDS` * (value + 1) words of all columns.
    clearing : Out(1)
        Words are left to be cleared.
    rd_en : In(1)
        The host reads rows, only while nothing runs.
    rd_addr : In(16)
        The word.
    rd_data : Out(8).array(columns)
        That word of each column, three cycles later.
    moves : In(move_signature)
        With rows in SDRAM: moves of rows, and the host's work; then ``wr`` loads none.
    sdram : Out(SdramPins)
        With rows in SDRAM: the chip.
    """

    AREA_PART = "rows"

    def __init__(self, geometry: Geometry, *, dot_delay: int, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        least = READ_AHEAD + SETTLE
        if dot_delay < least:
            raise ValueError(f"dot_delay must be at least {least} with rows, not {dot_delay}")
        self.dot_delay, self.tech = dot_delay, tech
        index, slot = ceil_log2(pass_slots(g)), ceil_log2(g.bank_depth)
        super().__init__(
            {
                "accept": In(1),
                "settings": In(row_settings_layout(g)),
                "step": In(1),
                "step_last": In(1),
                "take": In(1),
                "update": In(1),
                "update_last": In(1),
                "mask": In(1),
                "hits": Out(g.columns),
                "values": Out(signed(SUM_BITS)).array(g.columns),
                "to_list": In(1),
                "arg": In(1),
                "to_rows": In(1),
                "group": In(slot),
                "slot": In(slot),
                "lane": In(lane_layout(g)),
                "index": In(index),
                "results": In(signed(16)).array(g.columns),
                "arg_retire": Out(1),
                "arg_index": Out(index),
                "rows_retire": Out(1),
                "rows_index": Out(index),
                "wr": In(write_layout()),
                "clearing": Out(1),
                "rd_en": In(1),
                "rd_addr": In(ROW_ADDRESS_BITS),
                "rd_data": Out(ROW_BITS).array(g.columns),
                **({"moves": In(move_signature(g)), "sdram": Out(SdramPins)} if g.stores_rows else {}),
            }
        )

    @staticmethod
    def model(
        settings: Mapping[str, int],
        slots: int,
        digits: Sequence[Sequence[int]],
        rows: list[list[int]],
        results: Sequence[Sequence[int]] = (),
    ) -> list[list[int]]:
        """What a pass of ``slots`` slots shows, a row of a value (or a hit, 0 or 1) for each column.

        ``settings``: by the names of `row_settings_layout`. ``digits``: words of its list. ``rows``:
        of each column, changed by an update with ``results``, which shows nothing.
        """
        columns, kind = len(rows), settings["kind"]
        a, b = (settings["lists"] >> shift & (1 << LIST_BITS) - 1 for shift in (0, LIST_BITS))
        if kind == RowKind.TOKEN:
            token = [settings["token"] >> 8, settings["token"] & 255, *[0] * columns]
            return [token[:columns]] * slots
        if kind == RowKind.LIST:
            return [list(digits[a + slot]) for slot in range(slots)]
        first, second = ([d for word in digits[at:] for d in word] for at in (a, b))
        if kind == RowKind.MASK:
            group, places = settings["group"], range(columns)
            slot_in = ((first[slot // group], slot % group * columns) for slot in range(slots))
            return [[int(winner == base + c) for c in places] for winner, base in slot_in]
        heads, found = settings["heads"], list[list[int]]()
        for slot in range(slots):
            where = RowAddressFormer.model(
                first[:heads],
                second[:heads] if settings["two"] else None,
                slot,
                bits=settings["bits"],
                shared=bool(settings["shared"]),
                stride=settings["stride"],
                base=settings["base"],
            )
            if kind == RowKind.UPDATE:
                for column, e in zip(rows, results[slot], strict=True):
                    for at in where:
                        column[at] = RowColumn.model(column[at], e, settings["keep"])
            else:
                found.append([sum(column[at] for at in where) for column in rows])
        return found

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        within, contexts = ceil_log2(g.list_slots), context_bits(g) if g.contexts > 1 else 0
        words = 1 << within + contexts
        m.submodules.list = digits = DigitList(columns=g.columns, words=words, tech=self.tech)
        own = Signal(row_settings_layout(g), name="own")
        with m.If(self.accept):
            m.d.sync += own.eq(self.settings)

        def list_word(word: Value, context: Value) -> Value:
            return Cat(word[:within], context[:contexts])

        # The heads of a read pass registers; an update walks through its own.
        walking, left = Signal(name="walking"), Signal(len(own.heads), name="heads_left")
        final = Signal(name="final")
        with m.If(walking):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += walking.eq(0)
        with m.If(self.update):
            m.d.sync += [walking.eq(1), left.eq(own.heads), final.eq(self.update_last)]
        early = delay(m, Cat(self.step, self.step & self.step_last), self.dot_delay - READ_AHEAD, name="step")
        step, last = Signal(name="step"), Signal(name="last")
        m.d.comb += [step.eq(early[0] | walking), last.eq(early[1] | (walking & (left == 1)))]
        m.d.comb += [
            self.rows_retire.eq(delay(m, walking & last & final, _RETIRE, name="updated")),
            self.rows_index.eq(own.index),
        ]

        # Cycle 0 of a head: its entry of the list, a slot after the other. A mask takes one for each group, a
        # pass that reads the list a word for each slot.
        word_a, word_b = Signal(within, name="word_a"), Signal(within, name="word_b")
        column, slot = (
            Signal(ceil_log2(g.columns), name="column"),
            Signal(ROW_ADDRESS_BITS, name="slot_of_row"),
        )
        at_first = Signal(init=1, name="at_first")
        group_slot, base = Signal(len(self.group), name="group_slot"), Signal(DIGIT_BITS, name="group_base")
        group_ends = group_slot == own.group - 1
        with m.If(step | (self.mask & group_ends)):
            m.d.sync += [column.eq(column + 1), at_first.eq(0)]
            with m.If(column == g.columns - 1):
                m.d.sync += [column.eq(0), word_a.eq(word_a + 1), word_b.eq(word_b + 1)]
        with m.If(self.take & (own.kind == RowKind.LIST)):
            m.d.sync += word_a.eq(word_a + 1)
        with m.If(last):
            m.d.sync += slot.eq(slot + 1)
        with m.If(self.accept):
            m.d.sync += slot.eq(0)
        with m.If(last | self.accept):
            first_words = Mux(self.accept, self.settings.lists, own.lists)
            m.d.sync += [
                word_a.eq(first_words[:LIST_BITS]),
                word_b.eq(first_words[LIST_BITS:]),
                column.eq(0),
                at_first.eq(1),
            ]
        mover: RowMover | None = None
        reads = list_word(word_a, own.context), list_word(word_b, own.context), column
        if g.stores_rows:  # no pass that reads the list is in work while it does
            m.submodules.mover = mover = RowMover(g)
            for name, member in move_signature(g).members.items():
                here, there = getattr(self.moves, name), getattr(mover, name)
                m.d.comb += there.eq(here) if member.flow == Out else here.eq(there)
            wiring.connect(m, mover.pins, wiring.flipped(self.sdram))
            words_of = (mover.list_a, mover.list_b)
            others = *(list_word(word, mover.list_context) for word in words_of), mover.list_column
            reads = tuple(Mux(mover.list_use, *both) for both in zip(others, reads, strict=True))
            m.d.comb += [mover.a.eq(digits.a), mover.b.eq(digits.b)]
        m.d.comb += [
            digits.read_a.eq(reads[0]),
            digits.read_b.eq(reads[1]),
            digits.column.eq(reads[2]),
        ]

        # A mask: cycle 0 the group's entry, cycle 1 how far the winner is from the slot, cycle 2 the columns.
        with m.If(self.mask):
            m.d.sync += [group_slot.eq(group_slot + 1), base.eq(base + g.columns)]
            with m.If(group_ends):
                m.d.sync += [group_slot.eq(0), base.eq(0)]
        with m.If(self.accept):
            m.d.sync += [group_slot.eq(0), base.eq(0)]
        ahead = Signal(DIGIT_BITS, name="ahead")
        m.d.comb += ahead.eq(digits.a - delay(m, base, name="base_late", reset_less=True))
        m.d.sync += self.hits.eq(Cat(ahead == c for c in range(g.columns)))

        self._to_list(m, digits, list_word)

        # Cycles 0 to 3: the address. Cycle 4: at the columns, like the host's.
        m.submodules.former = former = RowAddressFormer()
        m.d.comb += [
            former.step.eq(step),
            former.first.eq(at_first),
            former.slot.eq(slot),
            former.a.eq(digits.a),
            former.b.eq(digits.b),
            *(getattr(former, name).eq(own[name]) for name in ("two", "shared", "bits", "stride", "base")),
        ]
        places = -(-g.columns // COLUMNS_A_REGISTER) if g.pipelined_broadcast else 1
        target = Mux(self.rd_en, self.rd_addr, former.address)
        if mover is not None:
            target = Mux(mover.drain_use, mover.drain_address, former.address)
        addresses = duplicate_register(m, target[: ceil_log2(g.rows)], places, self.tech, "row_address")
        heads = former.valid, delay(m, at_first, ADDRESS_LATENCY, name="first_head", reset_less=True)
        sums = self._columns(m, own, former.address, heads, addresses, mover)

        # Values: a sum, or a digit, which comes out of the list a cycle before.
        by_digit = own.kind != RowKind.READ
        is_token = own.kind == RowKind.TOKEN
        for c, value in enumerate(self.values):
            token = (own.token[8:], own.token[:8])[c] if c < 2 else 0
            digit = delay(m, Mux(is_token, token, digits.row[c]), name=f"digit_{c}", reset_less=True)
            m.d.comb += value.eq(Mux(by_digit, digit, sums[c]))
        return m

    def _to_list(self, m: Module, digits: DigitList, list_word: Callable[[Value, Value], Value]) -> None:
        """Lead results, or the winners among them, to the list."""
        g = self.geometry
        m.submodules.winners = winners = Winners(columns=g.columns, words=digits.words)
        word = list_word((self.lane.x_dst + self.slot)[:LIST_BITS], self.lane.context)
        m.d.comb += [
            digits.word_en.eq(delay(m, self.to_list, name="word_en")),
            digits.word.eq(delay(m, word, name="word", reset_less=True)),
            *(
                digit.eq(delay(m, result[:DIGIT_BITS], name="digit", reset_less=True))
                for digit, result in zip(digits.digits, self.results, strict=True)
            ),
            winners.row.eq(self.arg),
            winners.first.eq(self.lane.first),
            winners.group.eq(self.group),
            winners.tail.eq(self.lane.tail),
            winners.target.eq(list_word(self.lane.x_dst[:LIST_BITS], self.lane.context)),
            *(score.eq(result) for score, result in zip(winners.scores, self.results, strict=True)),
            digits.entry_en.eq(winners.valid),
            digits.entry_word.eq(winners.word),
            digits.entry_column.eq(winners.column),
            digits.entry.eq(winners.winner),
        ]
        late = winners_latency(g.columns) - 1
        ended = Cat(self.arg & self.lane.last, self.index)
        ended = delay(m, ended, late, name="found")
        m.d.comb += Cat(self.arg_retire, self.arg_index).eq(ended)

    def _columns(
        self, m: Module, own: data.View[data.StructLayout], address: Value, heads: tuple[Value, Value],
        addresses: list[Value], mover: RowMover | None,
    ) -> list[Value]:  # fmt: skip
        """The columns, which sum or update the rows of ``heads`` (valid, first); returns their sums.

        ``address`` comes with ``heads``, ``addresses`` are copies of it a cycle later.
        """
        g = self.geometry
        valid, first = heads
        is_read = own.kind == RowKind.READ
        sum_en = delay(m, Cat(valid & is_read, first), 3, name="summed")
        update = delay(m, valid & ~is_read, 7, name="update")

        # What the loader writes, and words that are cleared.
        left, cleared = (
            Signal(range(MOST_CLEAR * CLEAR_WORDS + 1), name="left"),
            Signal.like(self.wr.addr, name="cleared"),
        )
        loads = self.wr.en & (self.wr.mem == Mem.ROWS)
        clears = loads & (self.wr.block == CLEAR_BLOCK)
        m.d.comb += self.clearing.eq(left.any())
        with m.If(left.any()):
            m.d.sync += [left.eq(left - 1), cleared.eq(cleared + 1)]
        with m.If(clears):
            m.d.sync += [left.eq((self.wr.data[:8] + 1) * CLEAR_WORDS), cleared.eq(self.wr.addr)]
        load_word = delay(
            m, Mux(self.clearing, 0, self.wr.data[:ROW_BITS]), name="load_word", reset_less=True
        )
        changed = delay(m, address, 6, name="changed", reset_less=True)
        target = Mux(self.clearing, cleared, Mux(loads, self.wr.addr, changed))[: ceil_log2(g.rows)]
        if mover is not None:
            target = Mux(mover.fill, mover.fill_address, changed[: ceil_log2(g.rows)])
        targets = duplicate_register(m, target, len(addresses), self.tech, "row_target")

        sums: list[Value] = []
        for c in range(g.columns):
            storage = "distributed" if g.rows_in_luts else "block"
            m.submodules[f"column_{c}"] = column = RowColumn(
                g.rows, column=c, tech=self.tech, storage=storage
            )
            e = Signal(signed(16), name=f"e_{c}", reset_less=True)
            with m.If(self.to_rows):
                m.d.sync += e.eq(self.results[c])
            m.d.comb += [
                column.address.eq(addresses[c * len(addresses) // g.columns]),
                column.sum_en.eq(sum_en[0]),
                column.sum_first.eq(sum_en[1]),
                column.keep.eq(own.keep),
                column.e.eq(e),
                column.update.eq(update),
                column.wr_address.eq(targets[c * len(targets) // g.columns]),
            ]
            if mover is None:
                m.d.comb += [
                    column.load.eq(
                        delay(m, self.clearing | (loads & (self.wr.block == c)), name=f"load_{c}")
                    ),
                    column.load_word.eq(load_word),
                ]
            else:
                low = 8 * (c % 2)
                word = mover.fill_word[low : low + ROW_BITS]
                m.d.comb += [
                    column.load.eq(delay(m, mover.fill & (mover.fill_pair == c // 2), name=f"load_{c}")),
                    column.load_word.eq(delay(m, word, name=f"load_word_{c}", reset_less=True)),
                    mover.drained[c // 2][low : low + ROW_BITS].eq(column.word),
                ]
            m.d.comb += self.rd_data[c].eq(column.word)
            sums.append(column.sum)
        return sums
