"""Sequencer: fetches instructions and issues their passes to the dot units and the column pipelines."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT, Lane, Opcode, Source
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.registers import duplicate_register
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.fetch import Fetch

PASS_FIELDS = (
    "source", "table_en", "table", "mul", "sub", "add", "stat", "to_logits", "to_bank", "to_x",
    "wide1", "wide2", "shift1", "shift2", "lane", "to_side", "pre", "post", "norm_table",
)  # fmt: skip
"""Instruction fields that the column pipelines need for as long as the pass is on its way."""
BASES = ("b", "c", "d")
"""Operand addresses likewise: the bank words of slot 0."""
PACE = 4
"""Cycles per element of a paced pass."""
STREAM_GAP = 19
"""Cycles from the last result of a NORM pass in the side lane to the first that streams back out of it."""
BACK_TO_BACK = 16
"""Slots from which a NORM pass may follow another one at once."""


def dot_layout(geometry: Geometry) -> data.StructLayout:
    """One word of a matrix row, issued to the weight memory, the x buffer and the dot units."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "last": 1,
            "weight": ceil_log2(geometry.weight_depth),
            "word": max(1, ceil_log2(geometry.x_depth)),
        }
    )


def first_address_bits(geometry: Geometry) -> int:
    """Width of operand A, which addresses a bank, the row corrections or the embedding."""
    return ceil_log2(max(geometry.bank_depth, geometry.bias_depth, geometry.embed_depth))


def pass_slots(geometry: Geometry) -> int:
    """Passes that may be on their way at the same time."""
    return 4 if geometry.contexts > 1 else 2


def context_bits(geometry: Geometry) -> int:
    """Width of a context's number."""
    return max(1, ceil_log2(geometry.contexts))


def element_layout(geometry: Geometry) -> data.StructLayout:
    """One element per pipeline: column ``turn`` of those that share it, of one slot of pass ``index``.

    ``first`` marks slot 0 at turn 0, ``last`` the last slot at every turn.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "index": ceil_log2(pass_slots(geometry)),
            "first": 1,
            "last": 1,
            "turn": ceil_log2(geometry.share),
            "a": first_address_bits(geometry),
        }
    )


def pass_layout(geometry: Geometry) -> data.StructLayout:
    """What a pass keeps while its elements are in the pipelines."""
    fields: dict[str, Shape] = {name: unsigned(LAYOUT[name][2]) for name in PASS_FIELDS}
    fields |= dict.fromkeys(BASES, unsigned(ceil_log2(geometry.bank_depth)))
    fields |= {
        "x_dst": unsigned(max(1, ceil_log2(geometry.x_depth))),
        "tail": unsigned(bits_for(geometry.columns)),
        "context": unsigned(context_bits(geometry)),
    }
    return data.StructLayout(fields)


class Sequencer(wiring.Component):
    """Runs the microcode of up to ``contexts`` sessions, each from its entry to HALT once per ``start``.

    A pass over a matrix issues one `dot` word per cycle; its rows come back ``dot_delay`` cycles after their
    last word was issued, as one `elem` per turn. A pass over banks or the embedding issues `elem` directly,
    one per cycle, or one in `PACE` cycles when it is ``paced``. Passes are issued one after the other,
    whosever they are, and elements leave in that order. As many passes as `pass_slots` are on their way at
    most; an element's ``index`` says which of the `passes` it belongs to, and ``retire`` gives that one back.

    After an instruction with ``switch``, and after HALT, it is the next running context's turn, in the order
    of their numbers. An instruction with ``barrier`` waits until all earlier passes of its context have been
    written. A bank or embedding pass also waits until the rows of all matrix passes have come back.

    The side lane carries one vector at a time: a NORM pass claims room in it and streams back out of it
    `STREAM_GAP` cycles after its last result; a pass that writes the x buffer otherwise waits until its
    results come later than that.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last `dot` to its first `elem`, at least 3.

    Members
    -------
    start : In(1) pulse, not while its context runs.   start_context, again, entry(16, word of the program),
        token(16), session_base(16) : In, taken with ``start``; with ``again`` entry and session base stay.
    running : Out, one bit per context.
    done : Out(1) pulse, after every result of ``done_context`` was written.
    wr_en, wr_block(1), wr_addr, wr_data(16) : In, loader's port of the program memory (only while none runs).
    dot_ready : In(1), where weights stream: there is a word of them, taken in a cycle with ``dot.valid``.
    dot : Out, see `dot_layout`.   elem : Out, see `element_layout`.   passes : Out, of `pass_layout`.
    retire, retire_index : In, the pass's last result is written two cycles later.
    claim(1), claim_slots : Out, a NORM pass takes room in the side lane.   room : In, slots free there.
    lane_retire(1), lane_context : In, likewise for the x buffer's last word of a pass through the side lane,
        two cycles before a matrix pass may begin that reads it.
    norm_start : Out(1) pulse; norm_post(5), norm_table(3), norm_tail : Out, of the last statistics pass.
    norm_done : In(1) pulse.
    logits_start, logits_issued : Out(1) pulses, the pass of a context's logits begins, takes its last word.
    logits_hold : In(1), it must not begin.
    logits_last(slot), logits_tail : Out, the last slot of the logits' pass, which is the same for all
        contexts, and the columns it fills.
    """

    def __init__(self, geometry: Geometry, *, dot_delay: int, tech: Technology = Technology.PORTABLE) -> None:
        if dot_delay < 3:
            raise ValueError(f"dot_delay must be at least 3, not {dot_delay}")
        g = self.geometry = geometry
        self.dot_delay, self.tech = dot_delay, tech
        self.slots, self.context = pass_slots(g), context_bits(g)
        self.widths = {
            "count": bits_for(max(g.bank_depth, g.bias_depth)),
            "words": bits_for(g.x_depth),
            "weight": ceil_log2(g.weight_depth),
            "a": first_address_bits(g),
            "tail": bits_for(g.columns),
            "x_src": max(1, ceil_log2(g.x_depth)),
        }
        super().__init__(
            {
                "start": In(1),
                "start_context": In(self.context),
                "again": In(1),
                "entry": In(16),
                "token": In(16),
                "session_base": In(16),
                "running": Out(g.contexts),
                "done": Out(1),
                "done_context": Out(self.context),
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
                "claim_slots": Out(self.widths["count"]),
                "room": In(bits_for(g.lane_depth)),
                "lane_retire": In(1),
                "lane_context": In(self.context),
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
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g, widths = self.geometry, self.widths
        # the fetched instruction: what its pass keeps is fetched straight into its place in `passes`
        own = {
            name: Signal(widths.get(name, LAYOUT[name][2]), name=f"next_{name}")
            for name in LAYOUT
            if name not in (*PASS_FIELDS, *BASES, "x_dst", "tail")
        }
        index = Signal(ceil_log2(self.slots), name="index")
        place = self.passes[index]

        def field(name: str) -> Value:
            return Value.cast(own[name] if name in own else getattr(place, name))

        have = Signal(name="have")  # it is complete
        begin, accept, leave = (
            Signal(name="begin"),
            Signal(name="accept"),
            Signal(name="leave"),
        )  # its rows begin / it is under way / it was HALT
        on_way = Signal(self.slots, name="on_way")  # elements of a pass are in the pipelines, by index
        turn_next = Signal(self.context, name="turn_next")  # whose turn it will be
        current, fetching = duplicate_register(m, turn_next, 2, self.tech, "current")
        m.d.comb += turn_next.eq(current)
        fetch = Fetch(g, tech=self.tech)
        m.submodules.fetch = fetch
        m.d.comb += [
            fetch.wr_en.eq(self.wr_en),
            fetch.wr_block.eq(self.wr_block),
            fetch.wr_addr.eq(self.wr_addr),
            fetch.wr_data.eq(self.wr_data),
        ]
        fetch.connect(m, self, own, field, have, on_way.bit_select(index, 1), fetching)
        # all but the last words of an instruction are there some cycles before it is complete
        is_dot = delay(m, field("source") == Source.DOT)
        to_logits = delay(m, field("to_logits"))

        # dot side: one word of one row per cycle
        running, is_logits = Signal(name="running"), Signal(name="is_logits")
        rows_left = Signal(widths["count"], name="rows_left")
        words_left, words = Signal(widths["words"], name="words_left"), Signal(widths["words"], name="words")
        weight, word, start_word = (
            Signal(widths["weight"], name="weight"),
            Signal(widths["x_src"], name="word"),
            Signal(widths["x_src"], name="start_word"),
        )
        first_word = Signal(name="first_word")
        # without a word of streamed weights, the row waits
        goes = running & self.dot_ready if g.streams else running
        m.d.comb += [
            self.dot.valid.eq(goes),
            self.dot.first.eq(first_word),
            self.dot.last.eq(words_left == 1),
            self.dot.weight.eq(weight),
            self.dot.word.eq(word),
        ]
        with m.If(goes):
            m.d.sync += [
                weight.eq(weight + 1), word.eq(word + 1), words_left.eq(words_left - 1), first_word.eq(0),
            ]  # fmt: skip
            with m.If(self.dot.last):
                m.d.sync += [
                    word.eq(start_word), words_left.eq(words), rows_left.eq(rows_left - 1), first_word.eq(1),
                ]  # fmt: skip
                with m.If(rows_left == 1):
                    m.d.sync += running.eq(0)
                    m.d.comb += self.logits_issued.eq(is_logits)
        rows = Signal(self.dot_delay, name="rows")
        m.d.sync += rows.eq(Cat(self.dot.valid & self.dot.last, rows[:-1]))

        # element side: the pass whose slots enter the pipelines, and a matrix pass whose slots are next
        active, from_dot, paced, first = (
            Signal(name="active"),
            Signal(name="from_dot"),
            Signal(name="paced"),
            Signal(name="first"),
        )
        stat, norm, slots = Signal(name="stat"), Signal(name="norm"), Signal(widths["count"], name="slots")
        queued, take = Signal(name="queued"), Signal(name="take")
        own_pass = data.StructLayout(
            {"index": len(index), "norm": 1, "count": widths["count"], "a": widths["a"], "logits": 1,
             "tail": widths["tail"]}
        )  # fmt: skip
        entry, waiting = Signal(own_pass, name="entry"), Signal(own_pass, name="waiting")
        m.d.comb += [
            entry.index.eq(index),
            entry.norm.eq(field("to_x") & (field("lane") == Lane.NORM)),
            entry.count.eq(field("count")),
            entry.a.eq(field("a")),
            entry.logits.eq(to_logits),
            entry.tail.eq(field("tail")),
        ]
        phase = Signal(range(PACE), name="phase")
        address = Signal(widths["a"], name="address")
        left = Signal(widths["count"], name="left")
        # rows must not overtake a bank pass that is still issuing: so many of its slots may be left
        near_slots = (self.dot_delay - 2) // g.share
        near, is_last = Signal(init=1, name="near"), Signal(name="is_last")
        turn = Signal(max(1, ceil_log2(g.share)), name="turn")
        go, last_turn, finishing = Signal(name="go"), Signal(name="last_turn"), Signal(name="finishing")
        m.d.comb += [
            last_turn.eq(turn == g.share - 1),
            go.eq(active & Mux(from_dot, rows[-1] | (turn != 0), ~paced | (phase == PACE - 1))),
            finishing.eq(go & self.elem.last & last_turn),
            self.elem.valid.eq(go),
            self.elem.first.eq(first),
            self.elem.last.eq(is_last),
            self.elem.a.eq(address),
            self.elem.turn.eq(turn),
        ]
        m.d.sync += phase.eq(phase + 1)
        with m.If(go):
            m.d.sync += [first.eq(0), turn.eq(Mux(last_turn, 0, turn + 1))]
            with m.If(last_turn):
                m.d.sync += [
                    address.eq(address + 1),
                    left.eq(left - 1),
                    is_last.eq(left == 2),
                    near.eq(left <= near_slots + 1),
                ]

        norm_wait, norm_run, unsettled = (
            Signal(name="norm_wait"),
            Signal(name="norm_run"),
            Signal(name="unsettled"),
        )
        with m.If(finishing):
            m.d.sync += [active.eq(0), norm_wait.eq(stat)]
        m.d.comb += [
            unsettled.eq(norm_wait | norm_run),
            self.norm_start.eq(norm_wait & (on_way == 0)),
        ]
        with m.If(self.norm_start):
            m.d.sync += [norm_wait.eq(0), norm_run.eq(1)]
        with m.If(self.norm_done):
            m.d.sync += norm_run.eq(0)
        with m.If(self.retire):
            m.d.sync += on_way.bit_select(self.retire_index, 1).eq(0)

        pending = self.pending(m, on_way, accept, field, current)
        norm_open = (active & norm) | (queued & waiting.norm)
        lane_free = self.lane_free(m, accept, finishing & norm, norm_open, slots, is_dot, field)

        # start of the fetched instruction; HALT ends one cycle after the last result is written
        m.d.sync += self.done.eq(0)
        is_vec = field("op") == Opcode.VEC
        waits = delay(m, (field("barrier") & pending) | ~lane_free)
        quiet = delay(m, ~pending)
        with m.If(have):
            ready = ~running & ~queued & ~norm_wait & (~active | from_dot | (near & ~paced)) & ~waits
            m.d.comb += begin.eq(is_vec & is_dot & ready & ~(to_logits & self.logits_hold))
            bank = have & is_vec & ~is_dot & ~running & ~queued & ~active & ~unsettled & ~waits
            m.d.comb += [accept.eq(begin | bank), leave.eq(~is_vec & quiet & ~unsettled)]
        with m.If(begin):
            m.d.sync += [
                queued.eq(1),
                waiting.eq(entry),
                running.eq(1),
                rows_left.eq(field("count")),
                words_left.eq(field("words")),
                words.eq(field("words")),
                weight.eq(field("weight")),
                word.eq(field("x_src")),
                start_word.eq(field("x_src")),
                first_word.eq(1),
                is_logits.eq(to_logits),
            ]
            m.d.comb += self.logits_start.eq(to_logits)
        with m.If(accept):
            m.d.sync += [have.eq(0), index.eq(index + 1), on_way.bit_select(index, 1).eq(1)]
        with m.If(leave):
            m.d.sync += [self.done.eq(1), self.done_context.eq(current), have.eq(0)]

        # its elements may enter the pipelines
        m.d.comb += take.eq((queued & (~active | finishing)) | bank)
        coming = Mux(queued, waiting.as_value(), entry.as_value())
        chosen = data.View(own_pass, coming)
        with m.If(take):
            m.d.sync += [
                active.eq(1),
                self.elem.index.eq(chosen.index),
                from_dot.eq(queued),
                stat.eq(field("stat") & ~queued),
                norm.eq(chosen.norm),
                slots.eq(chosen.count),
                paced.eq(field("paced") & ~queued),
                phase.eq(0),
                first.eq(1),
                turn.eq(0),
                left.eq(chosen.count),
                is_last.eq(chosen.count == 1),
                near.eq(chosen.count <= near_slots),
                address.eq(chosen.a),
            ]
            with m.If(queued):
                m.d.sync += queued.eq(0)
            with m.Elif(field("stat")):
                m.d.sync += [
                    self.norm_post.eq(field("shift2")),
                    self.norm_table.eq(field("norm_table")),
                    self.norm_tail.eq(field("tail")),
                ]
            with m.If(chosen.logits):
                m.d.sync += [self.logits_last.eq(chosen.count - 1), self.logits_tail.eq(chosen.tail)]
        self.contexts(m, accept & field("switch"), leave, current, turn_next)
        return m

    def pending(self, m: Module, on_way: Signal, accept: Signal, field: object, current: Value) -> Value:
        """Whether passes of the ``current`` context are still on their way, in the pipelines or the side
        lane."""
        assert callable(field)
        g = self.geometry
        owned = [on_way[i] & (self.passes[i].context == current) for i in range(self.slots)]
        if not g.lane_depth:
            return Cat(owned).any()
        counts = Array([Signal(3, name=f"in_lane_{k}") for k in range(g.contexts)])
        for k, count in enumerate(counts):
            enter = delay(m, accept & field("to_x") & (current == k))
            exit_ = self.lane_retire & (self.lane_context == k)
            with m.If(enter & ~exit_):
                m.d.sync += count.eq(count + 1)
            with m.Elif(exit_ & ~enter):
                m.d.sync += count.eq(count - 1)
        return Cat(owned).any() | counts[current].any()

    def lane_free(
        self, m: Module, accept: Signal, norm_ends: Value, norm_open: Value, slots: Signal, is_dot: Value,
        field: object,
    ) -> Value:  # fmt: skip
        """Whether the fetched pass may use the side lane in the way that it wants to."""
        assert callable(field)
        if not self.geometry.lane_depth:
            return Cat(1)
        busy_for = Signal(
            range(STREAM_GAP + (1 << len(slots))), name="busy_for"
        )  # cycles until the last stream has entered the lane
        least = Signal(len(slots), name="least")
        is_norm = field("lane") == Lane.NORM
        with m.If(busy_for.any()):
            m.d.sync += busy_for.eq(busy_for - 1)
        with m.If(norm_ends):
            m.d.sync += busy_for.eq(slots + (STREAM_GAP - 2))
        claims = accept & field("to_x") & is_norm
        m.d.sync += [self.claim.eq(claims), self.claim_slots.eq(field("count"))]
        with m.If(claims):
            m.d.sync += least.eq(field("count"))
        idle = ~norm_open & ~busy_for.any()
        follows = (field("count") >= least) & (field("count") >= BACK_TO_BACK)
        norm_free = (field("count") <= delay(m, self.room)) & (idle | follows)
        in_time = ~norm_open & (busy_for <= Mux(is_dot, self.dot_delay, 0))
        return ~field("to_x") | Mux(is_norm, norm_free, in_time)

    def contexts(self, m: Module, switch: Value, leave: Signal, current: Value, turn_next: Signal) -> None:
        """Whose turn it is."""
        count = self.geometry.contexts
        with m.If(leave):
            m.d.sync += self.running.bit_select(current, 1).eq(0)
        with m.If(self.start):
            m.d.sync += self.running.bit_select(self.start_context, 1).eq(1)
        if count == 1:
            return
        staying = self.running & ~Mux(leave, 1 << current, 0)[:count]
        following: list[Value] = []
        for k in range(count):
            choice: Value = Cat(current)
            for step in range(count - 1, 0, -1):
                other = (k + step) % count
                choice = Mux(staying[other], other, choice)
            following.append(choice)
        with m.If(switch | leave | ~self.running.bit_select(current, 1)):
            m.d.comb += turn_next.eq(Array(following)[current])
        with m.If(self.start & ~self.running.any()):
            m.d.comb += turn_next.eq(self.start_context)
