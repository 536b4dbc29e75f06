"""Sequencer: fetches instructions and issues their passes to the dot units and the column pipeline."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.geometry import Geometry
from ternac.hdl.tech import Technology
from ternac.hdl.memory import BlockRam
from ternac.isa import LAYOUT, WORDS, Opcode, Source

# instruction fields that travel with an element into the column pipeline
ELEMENT_FIELDS = (
    "source", "table_en", "table", "mul", "sub", "add", "stat", "to_logits", "to_bank", "to_x", "x_dst",
    "wide1", "wide2", "shift1", "shift2",
)  # fmt: skip


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


def element_layout(geometry: Geometry) -> data.StructLayout:
    """One slot entering the column pipeline: operand addresses, slot number and the pass's settings."""
    bank = ceil_log2(geometry.bank_depth)
    first = max(bank, ceil_log2(geometry.bias_depth), ceil_log2(geometry.embed_depth))
    fields: dict[str, Shape] = {"valid": unsigned(1), "last": unsigned(1), "a": unsigned(first)}
    fields |= dict.fromkeys(("b", "c", "d"), unsigned(bank))
    fields["slot"] = unsigned(bank)
    fields |= {name: unsigned(LAYOUT[name][2]) for name in ELEMENT_FIELDS}
    return data.StructLayout(fields)


class Sequencer(wiring.Component):
    """Runs the microcode from word 0 to HALT once per ``start``.

    A pass over a matrix issues one `dot` word per cycle; its rows come back ``dot_delay`` cycles after their last word
    was issued, as one `elem` each. A pass over banks or the embedding issues `elem` directly, one per cycle, or every
    fourth cycle when it is ``paced``. Elements leave in the order of the microcode. An instruction with ``barrier``, and
    every bank or embedding pass, waits until ``drain`` cycles have gone by since the last element, and until the norm
    unit is done. The next instruction is fetched while one runs.

    Parameters
    ----------
    geometry : the engine's.
    dot_delay : cycles from a row's last `dot` to its `elem`, at least 3.
    drain : cycles from an `elem` until its results can be read from the banks and the x buffer.

    Members
    -------
    start : In(1) pulse; token, session_base : In(16), stable while busy.
    busy : Out(1); done : Out(1) pulse, every result written.
    wr_en, wr_addr, wr_data(16) : In, loader's port of the program memory (only while not busy).
    dot : Out, see `dot_layout`.   elem : Out, see `element_layout`.
    norm_start : Out(1) pulse; norm_post(5), norm_table(3), norm_tail : Out, of the last statistics pass.   norm_done : In(1) pulse.
    logits_last(slot), logits_tail(16) : Out, the last slot and the columns it fills of the logits' pass.
    """

    def __init__(
        self, geometry: Geometry, *, dot_delay: int, drain: int, tech: Technology = Technology.PORTABLE
    ) -> None:
        if dot_delay < 3:
            raise ValueError(f"dot_delay must be at least 3, not {dot_delay}")
        if drain < 1:
            raise ValueError(f"drain must be at least 1, not {drain}")
        self.geometry, self.dot_delay, self.drain, self.tech = geometry, dot_delay, drain, tech
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
        elem_shape = element_layout(g)
        widths = {
            "count": bits_for(max(g.bank_depth, g.bias_depth)),
            "words": bits_for(g.x_depth),
            "weight": ceil_log2(g.weight_depth),
            "a": elem_shape["a"].width,
            "b": elem_shape["b"].width,
            "c": elem_shape["c"].width,
            "d": elem_shape["d"].width,
            "tail": bits_for(g.columns),
        }
        nxt = {name: Signal(widths.get(name, LAYOUT[name][2]), name=f"next_{name}") for name in LAYOUT}
        have, started = (
            Signal(),
            Signal(),
        )  # the fetched instruction is complete / has been issued to the dot side
        take = Signal()  # the element side takes the fetched instruction over

        # fetch
        m.submodules.program = program = BlockRam(16, g.program_depth, tech=self.tech, memory="PROGRAM")
        m.d.comb += [
            program.wr_en.eq(self.wr_en),
            program.wr_addr.eq(self.wr_addr),
            program.wr_data.eq(self.wr_data),
        ]
        pc = Signal(ceil_log2(g.program_depth))
        latency = BlockRam.LATENCY
        step = Signal(range(WORDS + latency + 1))
        m.d.comb += program.rd_addr.eq(pc)
        rel = Signal()
        address = Signal(16)
        m.d.comb += address.eq(program.rd_data + Mux(rel, self.session_base, 0))
        shifted_token = Signal(elem_shape["a"].width)
        with m.If(self.busy & ~have):
            with m.If(step < WORDS):
                m.d.sync += pc.eq(pc + 1)
            with m.If((step > LAYOUT["stride"][0] + latency) & (nxt["stride"] != 0)):
                m.d.sync += [nxt["stride"].eq(nxt["stride"] - 1), shifted_token.eq(shifted_token << 1)]
            with m.If(step < WORDS + latency):
                m.d.sync += step.eq(step + 1)
            with m.Elif(nxt["stride"] == 0):
                m.d.sync += have.eq(1)
            for word in range(WORDS):
                with m.If(step == word + latency):
                    for name, (home, low, width) in LAYOUT.items():
                        if home != word:
                            continue
                        if name in ("a", "b", "c", "d"):
                            m.d.comb += rel.eq(nxt["rel_" + name])
                            m.d.sync += nxt[name].eq(address)
                        else:
                            m.d.sync += nxt[name].eq(program.rd_data[low : low + width])
        is_dot = nxt["source"] == Source.DOT

        # dot side: one word of one row per cycle
        running = Signal()
        rows_left = Signal(widths["count"])
        words_left = Signal(widths["words"])
        words = Signal(widths["words"])
        weight = Signal(widths["weight"])
        word = Signal(max(1, ceil_log2(g.x_depth)))
        half = Signal()
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
        row_pipe = Signal(self.dot_delay)
        m.d.sync += row_pipe.eq(Cat(self.dot.valid & self.dot.last, row_pipe[:-1]))

        # element side: the pass whose slots enter the column pipeline
        active = Signal()
        cfg = {name: Signal(LAYOUT[name][2], name=f"pass_{name}") for name in ELEMENT_FIELDS}
        paced, phase = Signal(), Signal(2)
        addr = {name: Signal(widths[name], name=f"addr_{name}") for name in ("a", "b", "c", "d")}
        slot = Signal(elem_shape["slot"].width)
        left = Signal(widths["count"])
        go = Signal()
        from_dot = Signal()
        m.d.comb += go.eq(active & Mux(from_dot, row_pipe[-1], ~paced | (phase == 3)))
        m.d.sync += phase.eq(phase + 1)
        m.d.comb += [
            self.elem.valid.eq(go),
            self.elem.last.eq(left == 1),
            self.elem.slot.eq(slot),
            *(getattr(self.elem, name).eq(value) for name, value in (addr | cfg).items()),
        ]
        finishing = Signal()
        m.d.comb += finishing.eq(go & self.elem.last)
        with m.If(go):
            m.d.sync += [value.eq(value + 1) for value in addr.values()]
            m.d.sync += [slot.eq(slot + 1), left.eq(left - 1)]
        norm_wait, norm_run = Signal(), Signal()
        with m.If(finishing):
            m.d.sync += active.eq(0)
            with m.If(cfg["stat"]):
                m.d.sync += norm_wait.eq(1)

        # what is still on its way
        draining = Signal(range(self.drain + 1))
        with m.If(go):
            m.d.sync += draining.eq(self.drain)
        with m.Elif(draining != 0):
            m.d.sync += draining.eq(draining - 1)
        drained, empty = Signal(), Signal()
        m.d.comb += [
            drained.eq(~running & ~active & ~started & (draining == 0)),
            empty.eq(drained & ~norm_wait & ~norm_run),
            self.norm_start.eq(norm_wait & drained),
        ]
        with m.If(self.norm_start):
            m.d.sync += [norm_wait.eq(0), norm_run.eq(1)]
        with m.If(self.norm_done):
            m.d.sync += norm_run.eq(0)

        # start of the fetched instruction; HALT ends one cycle after the last result is written
        m.d.sync += self.done.eq(0)
        is_vec = nxt["op"] == Opcode.VEC
        with m.If(have & ~started):
            # rows would overtake a bank pass that is still issuing, hence ~active | from_dot
            with m.If(
                is_vec & is_dot & ~running & (~nxt["barrier"] | empty) & ~norm_wait & (~active | from_dot)
            ):
                m.d.sync += [
                    started.eq(1),
                    running.eq(1),
                    rows_left.eq(nxt["count"]),
                    words_left.eq(nxt["words"]),
                    words.eq(nxt["words"]),
                    weight.eq(nxt["weight"]),
                    word.eq(0),
                    half.eq(nxt["x_src"]),
                ]
            with m.If(is_vec & ~is_dot & empty):
                m.d.comb += take.eq(1)
            with m.If(~is_vec & empty):
                m.d.sync += [self.done.eq(1), self.busy.eq(0), have.eq(0)]
        with m.If(started & (~active | finishing)):
            m.d.comb += take.eq(1)
        with m.If(take):
            m.d.sync += [active.eq(1), started.eq(0), have.eq(0), step.eq(0), shifted_token.eq(self.token)]
            m.d.sync += [
                from_dot.eq(is_dot),
                left.eq(nxt["count"]),
                slot.eq(0),
                paced.eq(nxt["paced"]),
                phase.eq(0),
            ]
            m.d.sync += [cfg[name].eq(nxt[name]) for name in ELEMENT_FIELDS]
            m.d.sync += [addr[name].eq(nxt[name]) for name in addr]
            with m.If(nxt["source"] == Source.EMBED):
                m.d.sync += addr["a"].eq(shifted_token)
            with m.If(nxt["stat"]):
                m.d.sync += [self.norm_post.eq(nxt["shift2"]), self.norm_table.eq(nxt["norm_table"])]
                m.d.sync += self.norm_tail.eq(nxt["tail"])
            with m.If(nxt["to_logits"]):
                m.d.sync += [self.logits_last.eq(nxt["count"] - 1), self.logits_tail.eq(nxt["tail"])]
        with m.If(self.start & ~self.busy):
            m.d.sync += [self.busy.eq(1), pc.eq(0), step.eq(0), have.eq(0), shifted_token.eq(self.token)]
        return m
