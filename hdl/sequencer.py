"""Sequencer: fetches instructions and issues their passes to the dot units and the column pipelines."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.geometry import Geometry
from ternac.hdl.memory import BlockRam
from ternac.hdl.tech import Technology
from ternac.isa import LAYOUT, WORDS, Opcode, Source

PASS_FIELDS = (
    "source", "table_en", "table", "mul", "sub", "add", "stat", "to_logits", "to_bank", "to_x", "x_dst",
    "wide1", "wide2", "shift1", "shift2",
)  # fmt: skip
"""Instruction fields that the column pipelines need for as long as the pass is on its way."""
BASES = ("b", "c", "d")
"""Operand addresses likewise: the bank words of slot 0."""
PACE = 4
"""Cycles per element of a paced pass."""


def dot_layout(geometry: Geometry) -> data.StructLayout:
    """One word of a matrix row, issued to the weight memory, the x buffer and the dot units."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "last": 1,
            "weight": ceil_log2(geometry.weight_depth),
            "word": max(1, ceil_log2(geometry.x_depth)),
            "half": 1,
        }
    )


def first_address_bits(geometry: Geometry) -> int:
    """Width of operand A, which addresses a bank, the row corrections or the embedding."""
    return ceil_log2(max(geometry.bank_depth, geometry.bias_depth, geometry.embed_depth))


def element_layout(geometry: Geometry) -> data.StructLayout:
    """One element per pipeline: column ``turn`` of those that share it, of one slot of pass ``parity``.

    ``first`` marks slot 0 at turn 0, ``last`` the last slot at every turn.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "parity": 1,
            "first": 1,
            "last": 1,
            "turn": ceil_log2(geometry.share),
            "a": first_address_bits(geometry),
        }
    )


def pass_layout(geometry: Geometry) -> data.StructLayout:
    """What a pass keeps while its elements are in the pipelines."""
    fields: dict[str, Shape] = {name: unsigned(LAYOUT[name][2]) for name in PASS_FIELDS}
    return data.StructLayout(fields | dict.fromkeys(BASES, unsigned(ceil_log2(geometry.bank_depth))))


class Sequencer(wiring.Component):
    """Runs the microcode from word 0 to HALT once per ``start``.

    A pass over a matrix issues one `dot` word per cycle; its rows come back ``dot_delay`` cycles after their
    last word was issued, as one `elem` per turn. A pass over banks or the embedding issues `elem` directly,
    one per cycle, or one in `PACE` cycles when it is ``paced``. Elements leave in the order of the microcode.
    Two passes at most are on their way; an element's ``parity`` says which of the two `passes` it belongs to,
    and ``retire`` gives that one back. An instruction with ``barrier``, and every bank or embedding pass,
    waits until no pass is on its way and the norm unit is done. The next instruction is fetched meanwhile.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last `dot` to its first `elem`, at least 3.

    Members
    -------
    start : In(1) pulse; token, session_base : In(16), stable while busy.
    busy : Out(1); done : Out(1) pulse, after every result has been written.
    wr_en, wr_addr, wr_data(16) : In, loader's port of the program memory (only while not busy).
    dot : Out, see `dot_layout`.   elem : Out, see `element_layout`.   passes : Out, two of `pass_layout`.
    retire, retire_parity : In(1), the pass's last result will have been written in the next cycle.
    norm_start : Out(1) pulse; norm_post(5), norm_table(3), norm_tail : Out, of the last statistics pass.
    norm_done : In(1) pulse.
    logits_last(slot), logits_tail : Out, the last slot and the columns it fills of the logits' pass.
    """

    def __init__(self, geometry: Geometry, *, dot_delay: int, tech: Technology = Technology.PORTABLE) -> None:
        if dot_delay < 3:
            raise ValueError(f"dot_delay must be at least 3, not {dot_delay}")
        self.geometry, self.dot_delay, self.tech = geometry, dot_delay, tech
        super().__init__(
            {
                "start": In(1),
                "token": In(16),
                "session_base": In(16),
                "busy": Out(1),
                "done": Out(1),
                "wr_en": In(1),
                "wr_addr": In(ceil_log2(geometry.program_depth)),
                "wr_data": In(16),
                "dot": Out(dot_layout(geometry)),
                "elem": Out(element_layout(geometry)),
                "passes": Out(data.ArrayLayout(pass_layout(geometry), 2)),
                "retire": In(1),
                "retire_parity": In(1),
                "norm_start": Out(1),
                "norm_post": Out(5),
                "norm_table": Out(3),
                "norm_tail": Out(bits_for(geometry.columns)),
                "norm_done": In(1),
                "logits_last": Out(ceil_log2(geometry.bank_depth)),
                "logits_tail": Out(bits_for(geometry.columns)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        widths = {
            "count": bits_for(max(g.bank_depth, g.bias_depth)),
            "words": bits_for(g.x_depth),
            "weight": ceil_log2(g.weight_depth),
            "a": first_address_bits(g),
            "tail": bits_for(g.columns),
        }
        # the fetched instruction: what its pass keeps is fetched straight into its place in `passes`
        own = {
            name: Signal(widths.get(name, LAYOUT[name][2]), name=f"next_{name}")
            for name in LAYOUT
            if name not in (*PASS_FIELDS, *BASES)
        }
        parity = Signal()
        place = self.passes[parity]

        def field(name: str) -> Value:
            return Value.cast(own[name] if name in own else getattr(place, name))

        have, started = Signal(), Signal()  # it is complete / its rows have been issued
        take = Signal()  # its elements may enter the pipelines
        on_way = Signal(2)  # by parity: elements of a pass are in the pipelines
        self.fetch(m, own, field, have, on_way.bit_select(parity, 1))
        is_dot = field("source") == Source.DOT

        # dot side: one word of one row per cycle
        running = Signal()
        rows_left = Signal(widths["count"])
        words_left, words = Signal(widths["words"]), Signal(widths["words"])
        weight, word, half = Signal(widths["weight"]), Signal(len(self.dot.word)), Signal()
        m.d.comb += [
            self.dot.valid.eq(running),
            self.dot.first.eq(word == 0),
            self.dot.last.eq(words_left == 1),
            self.dot.weight.eq(weight),
            self.dot.word.eq(word),
            self.dot.half.eq(half),
        ]
        with m.If(running):
            m.d.sync += [weight.eq(weight + 1), word.eq(word + 1), words_left.eq(words_left - 1)]
            with m.If(self.dot.last):
                m.d.sync += [word.eq(0), words_left.eq(words), rows_left.eq(rows_left - 1)]
                with m.If(rows_left == 1):
                    m.d.sync += running.eq(0)
        rows = Signal(self.dot_delay)
        m.d.sync += rows.eq(Cat(self.dot.valid & self.dot.last, rows[:-1]))

        # element side: the pass whose slots enter the pipelines
        active, from_dot, paced, first = Signal(), Signal(), Signal(), Signal()
        stat = Signal()
        phase = Signal(range(PACE))
        address = Signal(widths["a"])
        left = Signal(widths["count"])
        turn = Signal(max(1, ceil_log2(g.share)))
        go, last_turn, finishing = Signal(), Signal(), Signal()
        m.d.comb += [
            last_turn.eq(turn == g.share - 1),
            go.eq(active & Mux(from_dot, rows[-1] | (turn != 0), ~paced | (phase == PACE - 1))),
            finishing.eq(go & self.elem.last & last_turn),
            self.elem.valid.eq(go),
            self.elem.first.eq(first),
            self.elem.last.eq(left == 1),
            self.elem.a.eq(address),
            self.elem.turn.eq(turn),
        ]
        m.d.sync += phase.eq(phase + 1)
        norm_wait, norm_run = Signal(), Signal()
        with m.If(go):
            m.d.sync += [first.eq(0), turn.eq(Mux(last_turn, 0, turn + 1))]
            with m.If(last_turn):
                m.d.sync += [address.eq(address + 1), left.eq(left - 1)]
        with m.If(finishing):
            m.d.sync += [active.eq(0), norm_wait.eq(stat)]

        written, empty = Signal(), Signal()
        m.d.comb += [
            written.eq(~running & ~active & ~started & (on_way == 0)),
            empty.eq(written & ~norm_wait & ~norm_run),
            self.norm_start.eq(norm_wait & written),
        ]
        with m.If(self.norm_start):
            m.d.sync += [norm_wait.eq(0), norm_run.eq(1)]
        with m.If(self.norm_done):
            m.d.sync += norm_run.eq(0)
        with m.If(self.retire):
            m.d.sync += on_way.bit_select(self.retire_parity, 1).eq(0)

        # start of the fetched instruction; HALT ends one cycle after the last result is written
        m.d.sync += self.done.eq(0)
        is_vec = field("op") == Opcode.VEC
        with m.If(have & ~started):
            # rows would overtake a bank pass that is still issuing, hence ~active | from_dot
            ready = ~running & ~norm_wait & (~active | from_dot) & (~field("barrier") | empty)
            with m.If(is_vec & is_dot & ready):
                m.d.sync += [
                    started.eq(1),
                    running.eq(1),
                    rows_left.eq(field("count")),
                    words_left.eq(field("words")),
                    words.eq(field("words")),
                    weight.eq(field("weight")),
                    word.eq(0),
                    half.eq(field("x_src")),
                ]
            with m.If(is_vec & ~is_dot & empty):
                m.d.comb += take.eq(1)
            with m.If(~is_vec & empty):
                m.d.sync += [self.done.eq(1), self.busy.eq(0), have.eq(0)]
        with m.If(started & (~active | finishing)):
            m.d.comb += take.eq(1)
        with m.If(take):
            m.d.sync += [
                active.eq(1),
                started.eq(0),
                have.eq(0),
                parity.eq(~parity),
                on_way.bit_select(parity, 1).eq(1),
                self.elem.parity.eq(parity),
                from_dot.eq(is_dot),
                stat.eq(field("stat")),
                paced.eq(field("paced")),
                phase.eq(0),
                first.eq(1),
                turn.eq(0),
                left.eq(field("count")),
                address.eq(field("a")),
            ]
            with m.If(field("stat")):
                m.d.sync += [
                    self.norm_post.eq(field("shift2")),
                    self.norm_table.eq(field("norm_table")),
                    self.norm_tail.eq(field("tail")),
                ]
            with m.If(field("to_logits")):
                m.d.sync += [self.logits_last.eq(field("count") - 1), self.logits_tail.eq(field("tail"))]
        with m.If(self.start & ~self.busy):
            m.d.sync += [self.busy.eq(1), have.eq(0)]
        return m

    def fetch(self, m: Module, own: dict[str, Signal], field: object, have: Signal, occupied: Value) -> None:
        """Read an instruction into `own` and the place of its pass once that is free; sets ``have``."""
        assert callable(field)
        m.submodules.program = program = BlockRam(
            16, self.geometry.program_depth, tech=self.tech, memory="PROGRAM"
        )
        pc = Signal(ceil_log2(self.geometry.program_depth))
        latency = BlockRam.LATENCY
        step = Signal(range(WORDS + latency + 1))
        relative = Array([0] * (latency + WORDS + 1))
        for name in ("a", "b", "c", "d"):
            relative[LAYOUT[name][0] + latency] = own["rel_" + name]
        address = Signal(16)
        token = Signal(len(own["a"]))
        m.d.comb += [
            program.wr_en.eq(self.wr_en),
            program.wr_addr.eq(self.wr_addr),
            program.wr_data.eq(self.wr_data),
            program.rd_addr.eq(pc),
            address.eq(program.rd_data + Mux(relative[step], self.session_base, 0)),
        ]
        with m.If(self.start & ~self.busy):
            m.d.sync += [pc.eq(0), step.eq(0)]
        with m.Elif(have):
            m.d.sync += step.eq(0)
        with m.Elif(self.busy & ~((step == 0) & occupied)):
            with m.If(step < WORDS):
                m.d.sync += pc.eq(pc + 1)
            # an embedding's address is the token shifted by the stride
            with m.If(step == 0):
                m.d.sync += [own["stride"].eq(0), token.eq(self.token)]
            with m.Elif((step > LAYOUT["stride"][0] + latency) & (own["stride"] != 0)):
                m.d.sync += [own["stride"].eq(own["stride"] - 1), token.eq(token << 1)]
            with m.If(step < WORDS + latency):
                m.d.sync += step.eq(step + 1)
            with m.Elif(own["stride"] == 0):
                m.d.sync += have.eq(1)
                with m.If(field("source") == Source.EMBED):
                    m.d.sync += own["a"].eq(token)
            for word in range(WORDS):
                with m.If(step == word + latency):
                    for name, (home, low, width) in LAYOUT.items():
                        if home == word:
                            value = address if name in "abcd" else program.rd_data[low : low + width]
                            m.d.sync += field(name).eq(value)
