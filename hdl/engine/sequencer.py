"""Sequencer: fetches instructions and issues their passes to the dot units and the column pipelines."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import TOKEN_DIGITS, Lane, Opcode, Source
from ternac.hdl.cells.registers import delay, duplicate_register
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.fetch import Fetch
from ternac.hdl.engine.issue import IN_LANE_BITS, DotIssue, ElementIssue, LaneArbiter
from ternac.hdl.engine.ports import (
    PACE,
    RowKind,
    context_bits,
    count_bits,
    dot_layout,
    element_layout,
    move_layout,
    pass_layout,
    pass_slots,
    row_settings_layout,
)

__all__ = ["InFlight", "Sequencer", "Turns"]


def _rows_members(index: int) -> dict[str, wiring.Member]:
    """How passes retire that an engine's row unit retires late."""
    members = {"arg_retire": In(1), "arg_index": In(index), "rows_retire": In(1), "rows_index": In(index)}
    return members


def _move_members(geometry: Geometry) -> dict[str, wiring.Member]:
    """A move of rows, and its end."""
    return {"move": Out(1), "move_settings": Out(move_layout(geometry)), "move_retire": In(1)}


def _uses_rows(one: data.View[data.StructLayout]) -> Value:
    """Whether a pass uses rows or reads the list."""
    return (one.source == Source.ROWS) | one.to_rows | one.mask


class Turns(wiring.Component):
    """Says which contexts run and whose turn it is, in the order of their numbers.

    Members
    -------
    start : In(1)
        Pulse: ``start_context`` runs.
    start_context : In(context)
        The context that starts.
    leave : In(1)
        Pulse: the current context has ended.
    switch : In(1)
        Pulse: the current context hands on its turn.
    running : Out(contexts)
        One bit per context.
    current : Out(context)
        Whose turn it is.
    fetching : Out(context)
        The same in a register of its own, for the fetch.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        self.count, self.tech = geometry.contexts, tech
        context = context_bits(geometry)
        super().__init__(
            {
                "start": In(1),
                "start_context": In(context),
                "leave": In(1),
                "switch": In(1),
                "running": Out(self.count),
                "current": Out(context),
                "fetching": Out(context),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        turn = Signal.like(self.current, name="turn_next")
        current, fetching = duplicate_register(m, turn, 2, self.tech, "turn")
        m.d.comb += [turn.eq(current), self.current.eq(current), self.fetching.eq(fetching)]
        with m.If(self.leave):
            m.d.sync += self.running.bit_select(current, 1).eq(0)
        with m.If(self.start):
            m.d.sync += self.running.bit_select(self.start_context, 1).eq(1)
        if self.count == 1:
            return m
        staying = self.running & ~Mux(self.leave, 1 << current, 0)[: self.count]
        following: list[Value] = []
        for k in range(self.count):
            choice: Value = Cat(current)
            for step in range(self.count - 1, 0, -1):
                other = (k + step) % self.count
                choice = Mux(staying[other], other, choice)
            following.append(choice)
        with m.If(self.switch | self.leave | ~self.running.bit_select(current, 1)):
            m.d.comb += turn.eq(Array(following)[current])
        with m.If(self.start & ~self.running.any()):
            m.d.comb += turn.eq(self.start_context)
        return m


class InFlight(wiring.Component):
    """Keeps account of the passes whose results are not all written: in the pipelines and in the side lane.

    Members
    -------
    accept : In(1)
        Pulse: the pass ``index`` of the current context begins.
    to_x : In(1)
        It writes the x buffer, taken with ``accept``.
    current : In(context)
        Whose turn it is.
    passes : In(ArrayLayout(pass_layout))
        The passes by index.
    retire : In(1)
        Pulse: the last result of pass ``retire_index`` is written two cycles later.
    retire_index : In(pass)
        The index of that pass.
    lane_retire : In(1)
        Pulse: the side lane has passed on the last x word of a pass.
    lane_context : In(context)
        The context of that pass.
    index : Out(pass)
        The place of the next pass.
    occupied : Out(1)
        The pass before in that place is still in the pipelines.
    pending : Out(1)
        Passes of the current context are in flight.
    any : Out(1)
        Passes of any context are in the pipelines.
    arg_retire : In(1)
        With rows: pulse like ``retire``, two cycles before all winners of ``arg_index`` are in the list.
    arg_index : In(pass)
        The index of that pass.
    rows_retire : In(1)
        With rows: likewise of an update.
    rows_index : In(pass)
        The index of that pass.
    rows : Out(1)
        With rows: one of them uses rows or reads the list.
    args : Out(1)
        With rows: one of them looks for winners.
    move : In(1)
        With rows in SDRAM: pulse: a move of the current context begins.
    move_retire : In(1)
        Pulse, two cycles before a pass may use what was moved.
    moving : Out(1)
        A move of the current context has not ended. It counts as a pass that uses rows, and as no other.
    """

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        self.slots = pass_slots(g)
        index, context = ceil_log2(self.slots), context_bits(g)
        super().__init__(
            {
                "accept": In(1),
                "to_x": In(1),
                "current": In(context),
                "passes": In(data.ArrayLayout(pass_layout(g), self.slots)),
                "retire": In(1),
                "retire_index": In(index),
                "lane_retire": In(1),
                "lane_context": In(context),
                "index": Out(index),
                "occupied": Out(1),
                "pending": Out(1),
                "any": Out(1),
                **(_rows_members(index) | {"rows": Out(1), "args": Out(1)} if g.rows else {}),
                **({"move": In(1), "move_retire": In(1), "moving": Out(1)} if g.stores_rows else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        on_way = Signal(self.slots, name="on_way")
        with m.If(self.retire):
            m.d.sync += on_way.bit_select(self.retire_index, 1).eq(0)
        if self.geometry.rows:
            with m.If(self.arg_retire):
                m.d.sync += on_way.bit_select(self.arg_index, 1).eq(0)
            with m.If(self.rows_retire):
                m.d.sync += on_way.bit_select(self.rows_index, 1).eq(0)
            uses = Cat(on_way[i] & _uses_rows(self.passes[i]) for i in range(self.slots)).any()
            if self.geometry.stores_rows:
                moves, owner = Signal(name="moves"), Signal.like(self.current, name="mover")
                with m.If(self.move_retire):
                    m.d.sync += moves.eq(0)
                with m.If(self.move):
                    m.d.sync += [moves.eq(1), owner.eq(self.current)]
                m.d.comb += self.moving.eq(moves & (owner == self.current))
                uses = uses | moves
            m.d.comb += [
                self.rows.eq(uses),
                self.args.eq(Cat(on_way[i] & self.passes[i].arg for i in range(self.slots)).any()),
            ]
        with m.If(self.accept):
            m.d.sync += [self.index.eq(self.index + 1), on_way.bit_select(self.index, 1).eq(1)]
        owned = [on_way[i] & (self.passes[i].context == self.current) for i in range(self.slots)]
        m.d.comb += [self.occupied.eq(on_way.bit_select(self.index, 1)), self.any.eq(on_way.any())]
        if not self.geometry.lane_depth:
            m.d.comb += self.pending.eq(Cat(owned).any())
            return m
        # What leaves a pipeline for the x buffer is in the side lane for some cycles more.
        counts = Array([Signal(IN_LANE_BITS, name=f"in_lane_{k}") for k in range(self.geometry.contexts)])
        for k, count in enumerate(counts):
            enter = delay(m, self.accept & self.to_x & (self.current == k))
            leave = self.lane_retire & (self.lane_context == k)
            with m.If(enter & ~leave):
                m.d.sync += count.eq(count + 1)
            with m.Elif(leave & ~enter):
                m.d.sync += count.eq(count - 1)
        m.d.comb += self.pending.eq(Cat(owned).any() | counts[self.current].any())
        return m


class Sequencer(wiring.Component):
    """Runs the microcode of up to ``contexts`` sessions, each from its entry to HALT once per ``start``.

    A pass over a matrix issues one `dot` word per cycle; its rows come back ``dot_delay`` cycles after their
    last word was issued, as one `elem` per turn. A pass over banks or the embedding issues `elem` directly,
    one per cycle, or one in `PACE` cycles when it is ``paced``. Passes of all contexts are issued one after
    the other, and elements leave in that order. At most `pass_slots` passes are in flight; an element's
    ``index`` says which of the `passes` it belongs to, and ``retire`` gives that one back.

    After an instruction with ``switch``, and after HALT, it is the next running context's turn, in the order
    of their numbers. An instruction with ``barrier`` waits until all earlier passes of its context have been
    written. A bank or embedding pass also waits until the rows of all matrix passes have come back. A pass
    that reads operand A from the banks waits until all passes of all contexts have been written: operands A
    and B share a port, and the pass before would still be reading its B.

    The side lane carries one vector at a time: a NORM pass claims room in it and streams back out of it
    `STREAM_GAP` cycles after its last result; a pass that writes the x buffer otherwise waits until its
    results come later than that.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last `dot` to its first `elem`, at least 3.

    Members
    -------
    start : In(1)
        Pulse, not while its context runs. The five members below are taken with it.
    start_context : In(context)
        The context that starts.
    again : In(1)
        Entry and session base stay what they were.
    entry : In(16)
        Address of the first word of its program.
    token : In(16)
        The token that it is fed.
    session_base : In(16)
        The bank word at which its session's state begins.
    running : Out(contexts)
        One bit per context.
    done : Out(1)
        Pulse, after every result of ``done_context`` was written.
    done_context : Out(context)
        The context that has ended.
    wr_en : In(1)
        Loader: write a word of the program memory, only while no context runs.
    wr_block : In(1)
        Loader: 0 for even words, 1 for odd ones.
    wr_addr : In(addr)
        Loader: half of the word's address.
    wr_data : In(16)
        Loader: the word.
    dot_ready : In(1)
        Where weights stream: there is a word of them, taken in a cycle with ``dot.valid``.
    dot : Out(dot_layout)
        Words for the dot units.
    elem : Out(element_layout)
        Elements for the column pipelines.
    passes : Out(ArrayLayout(pass_layout))
        The settings of the passes in flight.
    retire : In(1)
        Pulse: the last result of a pass is written two cycles later.
    retire_index : In(pass)
        The index of that pass.
    rows_accept : Out(1)
        With rows: pulse: a pass has begun, the cycle before, that uses rows or reads the list.
    rows_settings : Out(row_settings_layout)
        With rows: its settings.
    reads_rows : Out(1)
        With rows: the words of `dot` are heads of a read.
    arg_retire : In(1)
        With rows: see `InFlight`, like the three members below.
    arg_index : In(pass)
        The index of a pass.
    rows_retire : In(1)
        With rows: see `InFlight`.
    rows_index : In(pass)
        The index of a pass.
    move : Out(1)
        With rows in SDRAM: pulse: a move has begun, the cycle before.
    move_settings : Out(move_layout)
        Its settings.
    move_retire : In(1)
        Pulse, two cycles before a pass may use what was moved.
    claim : Out(1)
        Pulse: a NORM pass takes room in the side lane.
    claim_slots : Out(count)
        The slots that it takes.
    room : In(lane_depth)
        Slots that are free in the side lane.
    lane_retire : In(1)
        Pulse: the last x word of a pass has passed the side lane; a matrix pass that reads it may begin two
        cycles later.
    lane_context : In(context)
        The context of that pass.
    norm_start : Out(1)
        Pulse: the sums of squares of a statistics pass are complete.
    norm_post : Out(5)
        Shift of the last statistics pass.
    norm_table : Out(3)
        Its table of reciprocal square roots.
    norm_tail : Out(tail)
        The columns that its last slot fills.
    norm_done : In(1)
        Pulse: the norm is there.
    logits_start : Out(1)
        Pulse: the pass of a context's logits begins.
    logits_issued : Out(1)
        Pulse: its last word is issued.
    logits_hold : In(1)
        A pass of logits must not begin.
    logits_last : Out(slot)
        The last slot of the logits' pass, the same for all contexts.
    logits_tail : Out(tail)
        The columns that it fills.
    """

    AREA_PART = "sequencer"

    def __init__(self, geometry: Geometry, *, dot_delay: int, tech: Technology = Technology.PORTABLE) -> None:
        if dot_delay < 3:
            raise ValueError(f"dot_delay must be at least 3, not {dot_delay}")
        g = self.geometry = geometry
        self.dot_delay, self.tech = dot_delay, tech
        self.slots, context = pass_slots(g), context_bits(g)
        super().__init__(
            {
                "start": In(1),
                "start_context": In(context),
                "again": In(1),
                "entry": In(16),
                "token": In(16),
                "session_base": In(16),
                "running": Out(g.contexts),
                "done": Out(1),
                "done_context": Out(context),
                "wr_en": In(1),
                "wr_block": In(1),
                "wr_addr": In(ceil_log2(g.program_depth // 2)),
                "wr_data": In(16),
                "dot": Out(dot_layout(g)),
                "elem": Out(element_layout(g)),
                "passes": Out(data.ArrayLayout(pass_layout(g), self.slots)),
                "retire": In(1),
                "retire_index": In(ceil_log2(self.slots)),
                "claim": Out(1),
                "claim_slots": Out(count_bits(g)),
                "room": In(bits_for(g.lane_depth)),
                "lane_retire": In(1),
                "lane_context": In(context),
                "norm_start": Out(1),
                "norm_post": Out(5),
                "norm_table": Out(3),
                "norm_tail": Out(bits_for(g.columns)),
                "norm_done": In(1),
                "logits_start": Out(1),
                "logits_issued": Out(1),
                "logits_hold": In(1),
                "logits_last": Out(ceil_log2(g.bank_depth)),
                "logits_tail": Out(bits_for(g.columns)),
                **({"dot_ready": In(1)} if g.streams else {}),
                **(self._rows_members(g) if g.rows else {}),
                **(_move_members(g) if g.stores_rows else {}),
            }
        )

    @staticmethod
    def _rows_members(geometry: Geometry) -> dict[str, wiring.Member]:
        return _rows_members(ceil_log2(pass_slots(geometry))) | {
            "rows_accept": Out(1),
            "rows_settings": Out(row_settings_layout(geometry)),
            "reads_rows": Out(1),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        m.submodules.turns = turns = Turns(g, tech=self.tech)
        m.submodules.fetch = fetch = Fetch(g, tech=self.tech)
        m.submodules.in_flight = in_flight = InFlight(g)
        m.submodules.dots = dots = DotIssue(g, dot_delay=self.dot_delay)
        m.submodules.elements = elements = ElementIssue(g, dot_delay=self.dot_delay)
        begin, bank, accept = Signal(name="begin"), Signal(name="bank"), Signal(name="accept")
        leave = Signal(name="leave")
        goes_on = Signal(name="goes_on")
        following, kept = fetch.next, fetch.passes[in_flight.index]
        # all but the last words of an instruction are there some cycles before it is complete
        by_rows: Value = kept.source == Source.DOT
        if g.rows:  # a read's sums come row after row like products
            by_rows = by_rows | ((kept.source == Source.ROWS) & (following.op == Opcode.MEM))
        is_dot = delay(m, by_rows, name="is_dot")
        to_logits = delay(m, kept.to_logits, name="to_logits")
        is_norm = kept.to_x & (kept.lane == Lane.NORM)

        # Whose turn it is, and the next instruction.
        m.d.comb += [
            turns.start.eq(self.start),
            turns.start_context.eq(self.start_context),
            turns.leave.eq(leave),
            *(() if g.stores_rows else (turns.switch.eq(accept & following.switch),)),
            self.running.eq(turns.running),
            *(
                getattr(fetch, name).eq(getattr(self, name))
                for name in (
                    "start", "start_context", "again", "entry", "token", "session_base",
                    "wr_en", "wr_block", "wr_addr", "wr_data",
                )
            ),
            fetch.running.eq(turns.running),
            fetch.current.eq(turns.fetching),
            fetch.index.eq(in_flight.index),
            fetch.occupied.eq(in_flight.occupied),
            *(
                ()
                if g.stores_rows
                else (fetch.take.eq(accept | leave | goes_on if g.rows else accept | leave),)
            ),
            self.passes.eq(fetch.passes),
        ]  # fmt: skip

        # The passes in flight.
        m.d.comb += [
            in_flight.accept.eq(accept),
            in_flight.to_x.eq(kept.to_x),
            in_flight.current.eq(turns.current),
            in_flight.passes.eq(fetch.passes),
            *(
                getattr(in_flight, name).eq(getattr(self, name))
                for name in ("retire", "retire_index", "lane_retire", "lane_context")
            ),
        ]

        # Words of a matrix pass, and elements.
        m.d.comb += [
            dots.begin.eq(begin),
            dots.next.eq(following),
            dots.is_logits.eq(to_logits),
            self.dot.eq(dots.dot),
            self.logits_issued.eq(dots.logits_issued),
            elements.ticket.index.eq(in_flight.index),
            elements.ticket.norm.eq(is_norm),
            elements.ticket.count.eq(following.count),
            elements.ticket.a.eq(following.a),
            elements.ticket.logits.eq(to_logits),
            elements.ticket.tail.eq(kept.tail),
            elements.queue.eq(begin),
            elements.bank.eq(bank),
            elements.paced.eq(following.paced),
            elements.stat.eq(kept.stat),
            elements.row.eq(dots.row),
            self.elem.eq(elements.elem),
            self.logits_last.eq(elements.logits_last),
            self.logits_tail.eq(elements.logits_tail),
        ]
        if g.rows:  # an update takes a cycle for each head
            by_heads = kept.to_rows & (~following.paced | (following.words > PACE))
            m.d.comb += [
                elements.paced.eq(following.paced | kept.to_rows),
                elements.pace.eq(Mux(by_heads, following.words, PACE)),
            ]
        if g.streams:
            m.d.comb += dots.dot_ready.eq(self.dot_ready)
        lane_free = self._lane(m, elements, accept, kept.to_x, is_norm, is_dot, following.count)
        norm_wait, unsettled = self._norm(m, elements, in_flight, bank, kept)

        # The instruction starts. LOOP goes on or back. HALT ends one cycle after the last result is written.
        is_vec: Value = following.op == Opcode.VEC
        ends = ~is_vec
        port_taken = (kept.source == Source.BANK) & in_flight.any
        busy = (following.barrier & in_flight.pending) | port_taken | ~lane_free
        if g.rows:
            is_vec = is_vec | (following.op == Opcode.MEM)
            ends = ~is_vec & (following.op != Opcode.LOOP)
            over: Value = kept.source == Source.ROWS  # others wait for the bank's port
            if g.stores_rows:  # which moves do not take
                over = over | (following.op == Opcode.MEM)
            busy = busy | (over & in_flight.rows)
        waits = delay(m, busy, name="waits")
        if g.rows:  # the flag is in the last words: it comes with the complete instruction
            waits = waits | (fetch.lists & delay(m, in_flight.args, name="args_in_flight"))
        if g.stores_rows:  # so is that of a mask, which reads the list
            waits = waits | (fetch.masks & delay(m, in_flight.rows, name="rows_in_flight"))
        still: Value = Cat(1)
        if g.stores_rows:
            moves = fetch.complete & (following.op == Opcode.MOVE) & ~waits
            ends = ends & (following.op != Opcode.MOVE)
            still = delay(m, ~in_flight.moving, name="still")
            self._moves(m, fetch, in_flight, moves, turns.current)
            m.d.comb += [
                fetch.take.eq(accept | leave | goes_on | moves),
                turns.switch.eq((accept | moves) & following.switch),
            ]
        quiet = delay(m, ~in_flight.pending, name="quiet")
        ready = ~dots.running & elements.room & ~norm_wait & ~waits
        m.d.comb += [
            begin.eq(fetch.complete & is_vec & is_dot & ready & ~(to_logits & self.logits_hold)),
            bank.eq(fetch.complete & is_vec & ~is_dot & ~dots.running & elements.idle & ~unsettled & ~waits),
            accept.eq(begin | bank),
            leave.eq(
                fetch.complete & ends & quiet & ~unsettled & still
                if g.stores_rows
                else fetch.complete & ends & quiet & ~unsettled
            ),
            self.logits_start.eq(begin & to_logits),
        ]
        if g.rows:
            loops = fetch.complete & (following.op == Opcode.LOOP)
            m.d.comb += goes_on.eq(loops & still if g.stores_rows else loops)
            self._rows(m, fetch, in_flight, begin, accept, goes_on, turns.current)
        m.d.sync += self.done.eq(leave)
        with m.If(leave):
            m.d.sync += self.done_context.eq(turns.current)
        return m

    def _moves(self, m: Module, fetch: Fetch, in_flight: InFlight, moves: Value, current: Value) -> None:
        """Give the mover a move that begins; it runs beside the passes."""
        own, kept = fetch.next, fetch.passes[in_flight.index]
        settings = self.move_settings
        m.d.sync += [
            self.move.eq(moves),
            settings.out.eq(kept.to_rows),
            settings.context.eq(current),
            settings.heads.eq(own.words),
            settings.lists.eq(own.x_src),
            settings.bits.eq(kept.post),
            settings.two.eq(kept.pre[0]),
            settings.bursts.eq(kept.table),
            settings.step.eq(kept.norm_table),
            settings.sector.eq(own.weight + Mux(kept.pre[2], fetch.row_base, 0)),
            settings.buffer.eq(kept.d),
        ]
        m.d.comb += [in_flight.move.eq(moves), in_flight.move_retire.eq(self.move_retire)]

    def _rows(
        self, m: Module, fetch: Fetch, in_flight: InFlight, begin: Value, accept: Value, goes_on: Value,
        current: Value,
    ) -> None:  # fmt: skip
        """Give the row unit the settings of a pass that begins, and LOOP its next run."""
        own, kept = fetch.next, fetch.passes[in_flight.index]
        settings = Signal(self.rows_settings.shape(), name="settings")
        m.d.sync += [self.rows_accept.eq(accept & _uses_rows(kept)), self.rows_settings.eq(settings)]
        with m.If(kept.to_rows):
            m.d.comb += settings.kind.eq(RowKind.UPDATE)
        with m.Elif(kept.mask):
            m.d.comb += settings.kind.eq(RowKind.MASK)
        with m.Elif(own.op == Opcode.MEM):
            m.d.comb += settings.kind.eq(RowKind.READ)
        with m.Else():
            is_token = (kept.pre & TOKEN_DIGITS).any()
            m.d.comb += settings.kind.eq(Mux(is_token, RowKind.TOKEN, RowKind.LIST))
        m.d.comb += [
            settings.index.eq(in_flight.index),
            settings.context.eq(current),
            settings.heads.eq(own.words),
            settings.lists.eq(own.x_src),
            settings.bits.eq(kept.post),
            settings.two.eq(kept.pre[0]),
            settings.shared.eq(kept.pre[1]),
            settings.stride.eq(kept.norm_table),
            settings.base.eq(own.weight + Mux(kept.pre[2], fetch.row_base, 0)),
            settings.keep.eq(kept.d),
            settings.group.eq(kept.c),
            settings.token.eq(fetch.full_token),
            fetch.loop.eq(goes_on),
            *(getattr(in_flight, name).eq(getattr(self, name)) for name in _rows_members(1)),
        ]
        with m.If(begin):
            m.d.sync += self.reads_rows.eq(kept.source == Source.ROWS)

    def _lane(
        self, m: Module, elements: ElementIssue, accept: Signal, to_x: Value, is_norm: Value, is_dot: Value,
        count: Value,
    ) -> Value:  # fmt: skip
        """Wire the arbiter of the side lane; returns whether the next pass may use it."""
        if not self.geometry.lane_depth:
            return Cat(1)
        m.submodules.arbiter = arbiter = LaneArbiter(self.geometry, dot_delay=self.dot_delay)
        m.d.comb += [
            arbiter.to_x.eq(to_x),
            arbiter.is_norm.eq(is_norm),
            arbiter.is_dot.eq(is_dot),
            arbiter.count.eq(count),
            arbiter.accept.eq(accept),
            arbiter.norm_ends.eq(elements.norm_ends),
            arbiter.norm_open.eq(elements.norm_open),
            arbiter.slots.eq(elements.slots),
            arbiter.room.eq(self.room),
            self.claim.eq(arbiter.claim),
            self.claim_slots.eq(arbiter.claim_slots),
        ]
        return arbiter.free

    def _norm(
        self, m: Module, elements: ElementIssue, in_flight: InFlight, bank: Signal,
        kept: data.View[data.StructLayout],
    ) -> tuple[Signal, Value]:  # fmt: skip
        """Wait for the norm of a statistics pass; returns whether it is still to begin, and whether there is
        one at all.
        """
        norm_wait, norm_run = Signal(name="norm_wait"), Signal(name="norm_run")
        m.d.comb += self.norm_start.eq(norm_wait & ~in_flight.any)
        with m.If(elements.finishing):
            m.d.sync += norm_wait.eq(elements.is_stat)
        with m.If(self.norm_start):
            m.d.sync += [norm_wait.eq(0), norm_run.eq(1)]
        with m.If(self.norm_done):
            m.d.sync += norm_run.eq(0)
        with m.If(bank & kept.stat):
            m.d.sync += [
                self.norm_post.eq(kept.shift2),
                self.norm_table.eq(kept.norm_table),
                self.norm_tail.eq(kept.tail),
            ]
        return norm_wait, norm_wait | norm_run
