"""The column array: weight store, x buffer, dot units, banks and pipelines of all columns in lockstep."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ternac.geometry import Geometry, Mem
from ternac.hdl.dot import DotControl, DotUnit, dot_latency
from ternac.hdl.epilogue import (
    B_OFFSET, C_OFFSET, SQUARE_OFFSET, Y_OFFSET, AddSelect, Epilogue, EpilogueControl, MulSelect,
)  # fmt: skip
from ternac.hdl.memory import BlockRam
from ternac.hdl.sequencer import dot_layout, element_layout
from ternac.hdl.tech import Technology
from ternac.hdl.xbuffer import XBuffer
from ternac.isa import Addend, MulBy, Source

V0_OFFSET = BlockRam.LATENCY + 1
"""Cycles from an element's first address to its v0."""
RESULT_OFFSET = V0_OFFSET + Y_OFFSET
"""Cycles from an element's first address to the cycle that writes its result."""


def write_layout() -> data.StructLayout:
    """One loader write: memory, block, word address, word."""
    return data.StructLayout({"en": 1, "mem": 3, "block": 8, "addr": 16, "data": 18})


class ColumnArray(wiring.Component):
    """All columns of an engine, driven by the sequencer's two streams, with no state of its own beyond memories.

    A `dot` word at cycle t is row data of all columns; the row's `elem` must come `DOT_DELAY` cycles after its last
    word. An `elem` at cycle t reads bank or embedding at t, its operands B and C a little later (same port as A for B,
    hence the sequencer's ``paced``), and writes its result at t + `RESULT_OFFSET`.

    Members
    -------
    dot, elem : In, see hdl/sequencer.py.   mantissa(8), norm_shift(5) : In, from the norm unit, held.
    square_tail : In, columns that the last slot of a statistics pass fills.   square_sums : Out, 32 bits a column.
    row_valid, row_slot, row : Out, results of the logits' pass, 16 bits a column.
    wr : In, loader.   rd_addr : In, rd_data : Out, 16 bits a column, BlockRam.LATENCY later; only while nothing runs.
    """

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        self.dot_delay = dot_latency(g.lanes, g.chain)
        elem = element_layout(g)
        super().__init__(
            {
                "dot": In(dot_layout(g)),
                "elem": In(elem),
                "mantissa": In(8),
                "norm_shift": In(5),
                "square_tail": In(bits_for(g.columns)),
                "square_sums": Out(32).array(g.columns),
                "row_valid": Out(1),
                "row_slot": Out(elem["slot"].width),
                "row": Out(signed(16)).array(g.columns),
                "wr": In(write_layout()),
                "rd_addr": In(elem["d"].width),
                "rd_data": Out(data.ArrayLayout(16, g.columns)),
                "rd_en": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g, wr = self.geometry, self.wr
        x, trits = self.dot_operands(m)
        m.submodules.dot_control = dot_control = DotControl(g.lanes, g.chain)
        m.d.comb += [
            dot_control.en.eq(_later(m, self.dot.valid, BlockRam.LATENCY)),
            dot_control.first.eq(_later(m, self.dot.first, BlockRam.LATENCY)),
            dot_control.last.eq(_later(m, self.dot.last, BlockRam.LATENCY)),
        ]

        # the element's addresses, each in its cycle
        e = self.elem
        b_addr = _later(m, e.b, V0_OFFSET + B_OFFSET - BlockRam.LATENCY)
        c_addr = _later(m, e.c, V0_OFFSET + C_OFFSET - BlockRam.LATENCY)
        takes_a = e.valid & (e.source == Source.BANK)
        port_addr = Signal.like(b_addr)
        m.d.comb += port_addr.eq(Mux(self.rd_en, self.rd_addr, Mux(takes_a, e.a, b_addr)))
        source = _later(m, e.source, BlockRam.LATENCY)
        stages = self.element_control(m)
        d_addr = _later(m, e.d, RESULT_OFFSET)
        slot = _later(m, e.slot, RESULT_OFFSET)
        flags = _later(
            m, Cat(e.to_bank & e.valid, e.to_logits & e.valid, e.to_x & e.valid, e.x_dst), RESULT_OFFSET
        )
        to_bank, to_logits, to_x, x_dst = flags

        embed: list[Value] = []
        for i in range(g.memory(Mem.EMBED).blocks):
            storage = "spram" if g.weight_ram == "spram" else "block"
            ram = self.memory(m, Mem.EMBED, i, storage)
            m.d.comb += ram.rd_addr.eq(e.a)
            embed += [ram.rd_data[8 * k : 8 * k + 8] for k in range(g.embed_block_bits // 8)]

        table_en = wr.en & (wr.mem == Mem.TABLE)
        for c in range(g.columns):
            m.submodules[f"dot_{c}"] = dot = DotUnit(g.lanes, g.chain, g.x_depth * g.lanes, tech=self.tech)
            m.submodules[f"pipe_{c}"] = pipe = Epilogue(g.tables, tech=self.tech)
            bias = self.memory(m, Mem.BIAS, c)
            m.d.comb += [
                dot.acc_en.eq(dot_control.acc_en),
                dot.acc_first.eq(dot_control.acc_first),
                bias.rd_addr.eq(e.a),
            ]
            for j in range(g.chain):
                m.d.comb += [
                    dot.x[j].eq(x[j]),
                    dot.nz[j].eq(Cat(trits[j][2 * (c * g.chains + q)] for q in range(g.chains))),
                    dot.neg[j].eq(Cat(trits[j][2 * (c * g.chains + q) + 1] for q in range(g.chains))),
                ]
            banks = []
            for address in (port_addr, c_addr):
                ram = BlockRam(16, g.bank_depth, tech=self.tech, memory="BANK", block=c)
                m.submodules[f"bank_{c}_{len(banks)}"] = ram
                m.d.comb += ram.rd_addr.eq(address)
                banks.append(ram)
            loads = wr.en & (wr.mem == Mem.BANK) & (wr.block == c)
            for ram in banks:
                m.d.comb += [
                    ram.wr_en.eq(loads | to_bank),
                    ram.wr_addr.eq(Mux(wr.en, wr.addr, d_addr)),
                    ram.wr_data.eq(Mux(wr.en, wr.data, pipe.y)),
                ]
            with m.Switch(source):
                with m.Case(Source.DOT):
                    m.d.sync += pipe.v0.eq(dot.acc + bias.rd_data)
                with m.Case(Source.BANK):
                    m.d.sync += pipe.v0.eq(banks[0].rd_data.as_signed())
                with m.Default():
                    m.d.sync += pipe.v0.eq(embed[c].as_signed() << 8)
            m.d.comb += [
                pipe.b.eq(banks[0].rd_data),
                pipe.c.eq(banks[1].rd_data),
                pipe.drop_last.eq(self.square_tail <= c),
                pipe.table_wr_en.eq(table_en),
                pipe.table_wr_addr.eq(wr.addr),
                pipe.table_wr_data.eq(wr.data),
                self.square_sums[c].eq(pipe.square_sum),
                self.row[c].eq(pipe.y),
                self.rd_data[c].eq(banks[0].rd_data),
                self.x_write[c].eq(pipe.y[:8]),
            ]
            _connect_stages(m, pipe.stages, stages)
        chunk_bits = (self.chunks - 1).bit_length()
        m.d.comb += [
            self.row_valid.eq(to_logits),
            self.row_slot.eq(slot),
            self.xbuffer.wr_en.eq(to_x),
            self.xbuffer.wr_half.eq(x_dst),
            self.xbuffer.wr_data.eq(self.x_write),
        ]
        if self.chunks == 1 << chunk_bits:
            m.d.comb += Cat(
                self.xbuffer.wr_chunk[:chunk_bits] if chunk_bits else [], self.xbuffer.wr_word
            ).eq(slot)
        else:
            self.count_chunks(m, to_x, slot == 0)
        return m

    def memory(self, m: Module, mem: Mem, block: int, storage: str = "block") -> BlockRam:
        """One loadable block of ``mem``, its write port connected to the loader."""
        shape = self.geometry.memory(mem)
        ram = BlockRam(shape.bits, shape.depth, tech=self.tech, storage=storage, memory=mem.name, block=block)
        m.submodules[f"{mem.name.lower()}_{block}"] = ram
        m.d.comb += [
            ram.wr_en.eq(self.wr.en & (self.wr.mem == mem) & (self.wr.block == block)),
            ram.wr_addr.eq(self.wr.addr),
            ram.wr_data.eq(self.wr.data),
        ]
        return ram

    def dot_operands(self, m: Module) -> tuple[list[Value], list[Value]]:
        """X buffer and weight memory; stage j of both arrives j cycles later than stage 0."""
        g = self.geometry
        m.submodules.xbuffer = self.xbuffer = XBuffer(g, tech=self.tech)
        self.chunks = self.xbuffer.chunks
        self.x_write = Signal(data.ArrayLayout(8, g.columns))
        m.d.comb += [self.xbuffer.rd_half.eq(self.dot.half), self.xbuffer.rd_word.eq(self.dot.word)]
        address: Value = self.dot.weight
        trits: list[Value] = []
        storage = "spram" if g.weight_ram == "spram" else "block"
        for j in range(g.chain):
            word: list[Value] = []
            for i in range(g.weight_blocks_per_stage):
                ram = self.memory(m, Mem.WEIGHT, j * g.weight_blocks_per_stage + i, storage)
                m.d.comb += ram.rd_addr.eq(address)
                word.append(ram.rd_data)
            trits.append(Cat(*word))
            address = _later(m, address, 1)
        return [self.xbuffer.x[j] for j in range(g.chain)], trits

    def element_control(self, m: Module) -> wiring.PureInterface:
        """The shared control pipeline; returns its staged outputs."""
        g = self.geometry
        m.submodules.control = control = EpilogueControl(g.tables)
        names = (
            "valid",
            "last",
            "table_en",
            "table",
            "mul",
            "sub",
            "add",
            "wide1",
            "wide2",
            "shift1",
            "shift2",
            "stat",
        )
        first = self.elem.slot == 0
        record = _later(m, Cat(*(getattr(self.elem, n) for n in names), first), V0_OFFSET)
        parts: dict[str, Value] = {}
        low = 0
        for n in names:
            width = len(getattr(self.elem, n))
            parts[n] = record[low : low + width]
            low += width
        is_norm = parts["mul"] == MulBy.NORM
        m.d.comb += [
            control.valid.eq(parts["valid"]),
            control.first.eq(record[-1]),
            control.last.eq(parts["last"]),
            control.shift1.eq(parts["shift1"]),
            control.narrow1.eq(~parts["wide1"]),
            control.table_en.eq(parts["table_en"]),
            control.table_sel.eq(parts["table"]),
            control.sub.eq(parts["sub"]),
            control.const.eq(Mux(is_norm, self.mantissa, 1)),
            control.shift2.eq(Mux(is_norm, self.norm_shift, parts["shift2"])),
            control.narrow2.eq(~parts["wide2"]),
        ]
        with m.Switch(parts["mul"]):
            with m.Case(MulBy.BANK_C):
                m.d.comb += control.mul.eq(MulSelect.C)
            with m.Case(MulBy.SQUARE):
                m.d.comb += control.mul.eq(MulSelect.SQUARE)
            with m.Default():
                m.d.comb += control.mul.eq(MulSelect.CONST)
        with m.Switch(parts["add"]):
            with m.Case(Addend.V2):
                m.d.comb += control.add.eq(AddSelect.V2)
            with m.Case(Addend.B):
                m.d.comb += control.add.eq(AddSelect.B)
            with m.Default():
                m.d.comb += control.add.eq(AddSelect.ZERO)
        return control.stages

    def count_chunks(self, m: Module, step: Value, restart: Value) -> None:
        """Word and chunk of a slot where the chunks of a word are not a power of two: counters instead of bits."""
        word, chunk = Signal.like(self.xbuffer.wr_word), Signal.like(self.xbuffer.wr_chunk)
        m.d.comb += [
            self.xbuffer.wr_word.eq(Mux(restart, 0, word)),
            self.xbuffer.wr_chunk.eq(Mux(restart, 0, chunk)),
        ]
        with m.If(step):
            m.d.sync += [chunk.eq(self.xbuffer.wr_chunk + 1), word.eq(self.xbuffer.wr_word)]
            with m.If(self.xbuffer.wr_chunk == self.chunks - 1):
                m.d.sync += [chunk.eq(0), word.eq(self.xbuffer.wr_word + 1)]


SQUARES_DONE_OFFSET = V0_OFFSET + SQUARE_OFFSET
assert SQUARES_DONE_OFFSET <= RESULT_OFFSET, "the sequencer's drain covers both"


def _later(m: Module, value: Value, cycles: int) -> Value:
    for _ in range(cycles):
        delayed = Signal.like(Value.cast(value), name="delayed")
        m.d.sync += delayed.eq(value)
        value = delayed
    return value


def _connect_stages(m: Module, column: wiring.PureInterface, shared: wiring.PureInterface) -> None:
    for name in shared.signature.members:
        m.d.comb += getattr(column, name).eq(getattr(shared, name))
