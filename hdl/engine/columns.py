"""The column array: weight store, x buffer, dot units, banks and pipelines of all columns in lockstep."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.isa import Source
from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.dot import DotControl, DotUnit, array_latency
from ternac.hdl.array.xbuffer import XBuffer
from ternac.hdl.cells.bram_cells import max_depth
from ternac.hdl.cells.memory import BlockRam, DeepRam, PairedRam
from ternac.hdl.cells.registers import delay, duplicate_register
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.epilogue import Epilogue
from ternac.hdl.engine.pass_control import A_OFFSET, A_READ, C_READ, RESULT_OFFSET, PassControl
from ternac.hdl.engine.ports import (
    context_bits,
    dot_layout,
    element_layout,
    pass_layout,
    pass_slots,
    write_layout,
)
from ternac.hdl.engine.side_lane import SideLane
from ternac.hdl.sdram.feed import count_negatives, stage_trits
from ternac.hdl.stream.decode import TritDecoder

NEIGHBOURS = 8
"""Block RAMs of one stage of the weight memory that share an address register."""


class ColumnArray(wiring.Component):
    """All columns of an engine, driven by the sequencer's two streams, with no state of its own beyond
    memories.

    A `dot` word at cycle t is row data of all columns; the row's first `elem` must come `dot_delay` cycles
    after its last word. An `elem` at cycle t reads bank or embedding at t + `A_READ`, its operands B and C a
    little later (B through the same port as A, hence the sequencer's ``paced``), and writes its result at
    t + `RESULT_OFFSET`. Addresses pass a register on their way to all the memories.

    Members
    -------
    dot, elem, passes : In, retire, retire_index : Out, see hdl/engine/sequencer.py.
    mantissa(8), norm_shift(5) : In, from the norm unit, held.
    square_tail : In, columns that the last slot of a statistics pass fills.   square_sums : Out, 32 bits a
    pipeline.
    claim, claim_slots : In;  room, lane_retire, lane_context : Out, see hdl/engine/sequencer.py (0 without
    a side lane).
    row_valid, row_slot, row_context, row : Out, results of a logits' pass, 16 bits a column.
    weights : In, where they stream: those of `dot`, in the same cycle.
    wr : In, loader.   rd_en, rd_block(8), rd_addr : In, rd_data(16) : Out, a bank word `READ_LATENCY` later;
    only while nothing runs.
    """

    READ_LATENCY = BlockRam.LATENCY + 3

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        self.dot_delay = array_latency(g)
        self.bank_bits = ceil_log2(g.bank_depth)
        super().__init__(
            {
                "dot": In(dot_layout(g)),
                "elem": In(element_layout(g)),
                "passes": In(data.ArrayLayout(pass_layout(g), pass_slots(g))),
                "retire": Out(1),
                "retire_index": Out(ceil_log2(pass_slots(g))),
                "claim": In(1),
                "claim_slots": In(bits_for(max(g.bank_depth, g.bias_depth))),
                "room": Out(bits_for(g.lane_depth)),
                "lane_retire": Out(1),
                "lane_context": Out(context_bits(g)),
                "mantissa": In(8),
                "norm_shift": In(5),
                "square_tail": In(bits_for(g.columns)),
                "square_sums": Out(32).array(g.pipelines),
                "row_valid": Out(1),
                "row_slot": Out(self.bank_bits),
                "row_context": Out(context_bits(g)),
                "row": Out(signed(16)).array(g.columns),
                "wr": In(write_layout()),
                "rd_en": In(1),
                "rd_block": In(8),
                "rd_addr": In(self.bank_bits),
                "rd_data": Out(16),
                **({"weights": In(16 * g.stream_words)} if g.streams else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g, wr = self.geometry, self.wr
        trits = self.dot_operands(m)
        m.submodules.control = control = PassControl(g)
        track = control.track
        m.d.comb += [
            control.elem.eq(self.elem),
            control.passes.eq(self.passes),
            control.mantissa.eq(self.mantissa),
            control.norm_shift.eq(self.norm_shift),
            self.retire.eq(control.retire),
            self.retire_index.eq(control.retire_index),
        ]

        # bank port 0 serves the host, operand A and operand B; port 1 operand C
        first_addr = Signal(self.bank_bits, name="first_addr")
        first_turn = Signal(len(self.elem.turn), name="first_turn")
        m.d.sync += [first_addr.eq(control.first_addr), first_turn.eq(control.first_turn)]
        with m.If(self.rd_en):
            m.d.sync += [first_addr.eq(self.rd_addr), first_turn.eq(self.rd_block)]
        a_addr = _late(m, self.elem.a)
        embed = self.embedding(m)
        a_turn = track[A_OFFSET].turn
        out = track[RESULT_OFFSET]
        read: list[Value] = []
        results: list[Value] = []
        for p in range(g.pipelines):
            m.submodules[f"pipe_{p}"] = pipe = Epilogue(
                g.tables, column=p, squares=not g.lane_depth, tech=self.tech
            )
            own = range(p * g.share, (p + 1) * g.share)
            sums = [self.dot_unit(m, c, trits) for c in own]
            if g.streams:
                flags = self.dot_control.acc_en, self.dot_control.acc_first
                correction: Value = count_negatives(m, g, p, trits, *flags)
            else:
                bias = self.shared_memory(m, Mem.BIAS, p)
                m.d.comb += bias.rd_addr.eq(Cat(track[A_READ].turn, a_addr[: ceil_log2(g.bias_depth)]))
                correction = bias.rd_data

            banks = []
            for port, (address, turn) in enumerate(
                ((first_addr, first_turn), (control.c_addr, track[C_READ].turn))
            ):
                ram = BlockRam(16, g.bank_depth * g.share, tech=self.tech, memory="BANK", block=p)
                m.submodules[f"bank_{p}_{port}"] = ram
                m.d.comb += [
                    ram.rd_addr.eq(Cat(turn, address)),
                    ram.wr_en.eq(self.loads(Mem.BANK, p) | control.to_bank),
                    ram.wr_addr.eq(Mux(wr.en, self.shared_address(), Cat(out.turn, control.d_addr))),
                    ram.wr_data.eq(Mux(wr.en, wr.data, pipe.y)),
                ]
                banks.append(ram)

            # a row's sums come together; later turns take theirs from a copy
            held = [sums[0]]
            for i, total in enumerate(sums[1:], 1):
                copy = Signal.like(total, name=f"held_{p}_{i}")
                with m.If(track[A_OFFSET].turn == 0):
                    m.d.sync += copy.eq(total)
                held.append(copy)
            with m.Switch(control.source):
                with m.Case(Source.DOT):
                    m.d.sync += pipe.v0.eq(_choose(held, a_turn) + correction)
                with m.Case(Source.BANK):
                    m.d.sync += pipe.v0.eq(banks[0].rd_data.as_signed())
                with m.Default():
                    m.d.sync += pipe.v0.eq(_choose([embed[c] for c in own], a_turn).as_signed() << 8)

            m.d.comb += [
                pipe.b.eq(banks[0].rd_data),
                pipe.c.eq(banks[1].rd_data),
                pipe.drop_last.eq(self.square_tail <= (control.square_turn | p * g.share)),
                pipe.table_wr_en.eq(wr.en & (wr.mem == Mem.TABLE)),
                pipe.table_wr_addr.eq(wr.addr),
                pipe.table_wr_data.eq(wr.data),
                self.square_sums[p].eq(pipe.square_sum),
            ]
            results.append(pipe.y)
            for name in control.stages.signature.members:
                m.d.comb += getattr(pipe.stages, name).eq(getattr(control.stages, name))
            for turn, c in enumerate(own):
                value: Value = pipe.y
                if turn < g.share - 1:
                    value = Signal(signed(16), name=f"row_{c}", reset_less=True)
                    with m.If(out.turn == turn):
                        m.d.sync += value.eq(pipe.y)
                m.d.comb += self.row[c].eq(value)
            read.append(banks[0].rd_data)

        # the columns are far apart: first one of each four, then one of those
        number = self.rd_block[ceil_log2(g.share) :]
        near = [Signal(16, name=f"read_{i}", reset_less=True) for i in range(0, len(read), 4)]
        m.d.sync += [one.eq(_choose(read[4 * i : 4 * i + 4], number[:2])) for i, one in enumerate(near)]
        m.d.sync += self.rd_data.eq(_choose(list(near), number[2:]))
        m.d.comb += [
            self.row_valid.eq(control.to_logits & (out.turn == g.share - 1)),
            self.row_slot.eq(control.slot),
            self.row_context.eq(control.lane.context),
        ]
        if g.lane_depth:
            self.side_lane(m, control, results)
        else:
            m.d.comb += [self.xbuffer.wr_data[p].eq(y[:8]) for p, y in enumerate(results)]
            m.d.comb += [self.xbuffer.wr_en.eq(control.to_x), self.xbuffer.wr_turn.eq(out.turn)]
            self.place_chunk(m, control)
        return m

    def side_lane(self, m: Module, control: PassControl, results: list[Value]) -> None:
        """Everything on its way to the x buffer passes the side lane."""
        wr = self.wr
        m.submodules.side_lane = lane = SideLane(self.geometry, tech=self.tech)
        m.d.comb += [
            lane.valid.eq(control.to_x), lane.to_side.eq(control.to_side), lane.slot.eq(control.slot),
            lane.settings.eq(control.lane),
            lane.claim.eq(self.claim), lane.claim_slots.eq(self.claim_slots), self.room.eq(lane.room),
            self.lane_retire.eq(lane.retire), self.lane_context.eq(lane.retire_context),
            self.xbuffer.wr_en.eq(lane.x_en), self.xbuffer.wr_word.eq(lane.x_word),
            self.xbuffer.wr_chunk.eq(lane.x_chunk), self.xbuffer.wr_data.eq(lane.x),
            lane.norm_wr_en.eq(wr.en & (wr.mem == Mem.NORM)), lane.norm_wr_addr.eq(wr.addr),
            lane.norm_wr_data.eq(wr.data),
            *(port.eq(y) for port, y in zip(lane.y, results, strict=True)),
        ]  # fmt: skip

    def loads(self, mem: Mem, pipeline: int) -> Value:
        """The loader writes a block of ``mem`` that belongs to ``pipeline``."""
        shift = ceil_log2(self.geometry.share)
        return self.wr.en & (self.wr.mem == mem) & (self.wr.block[shift:] == pipeline)

    def shared_address(self) -> Value:
        """Address of the loader's word in a memory that the columns of a pipeline share."""
        return Cat(self.wr.block[: ceil_log2(self.geometry.share)], self.wr.addr)

    def shared_memory(self, m: Module, mem: Mem, pipeline: int) -> DeepRam | BlockRam:
        """The blocks of ``mem`` of one pipeline's columns, interleaved in one memory."""
        shape = self.geometry.memory(mem)
        depth = shape.depth * self.geometry.share
        form = BlockRam if self.tech is Technology.PORTABLE or depth <= max_depth(self.tech) else DeepRam
        ram = form(shape.bits, depth, tech=self.tech, memory=mem.name, block=pipeline)
        m.submodules[f"{mem.name.lower()}_{pipeline}"] = ram
        m.d.comb += [
            ram.wr_en.eq(self.loads(mem, pipeline)),
            ram.wr_addr.eq(self.shared_address()),
            ram.wr_data.eq(self.wr.data),
        ]
        return ram

    def wide_memory(
        self, m: Module, mem: Mem, block: int, wr: data.View[data.StructLayout] | None = None,
        enable: Value | None = None,
    ) -> BlockRam | DeepRam:  # fmt: skip
        """One block of a memory that all columns read at the same address; ``enable`` stands for the address
        of the block in ``wr``."""
        wr = self.wr if wr is None else wr
        if enable is None:
            enable = wr.en & (wr.mem == mem) & (wr.block == block)
        shape = self.geometry.memory(mem)
        storage = "spram" if self.geometry.weight_ram == "spram" else "block"
        deep = self.tech is not Technology.PORTABLE and shape.depth > max_depth(self.tech)
        if self.geometry.streams and deep:
            ram: BlockRam | DeepRam = DeepRam(
                shape.bits, shape.depth, tech=self.tech, memory=mem.name, block=block
            )
        else:
            ram = BlockRam(
                shape.bits, shape.depth, tech=self.tech, storage=storage, memory=mem.name, block=block
            )
        m.submodules[f"{mem.name.lower()}_{block}"] = ram
        m.d.comb += [
            ram.wr_en.eq(enable),
            ram.wr_addr.eq(wr.addr),
            ram.wr_data.eq(wr.data),
        ]
        return ram

    def embedding(self, m: Module) -> list[Value]:
        """The embedding byte of every column."""
        bytes_: list[Value] = []
        blocks = self.geometry.memory(Mem.EMBED).blocks
        places = -(-blocks // 3)
        addresses = duplicate_register(m, self.elem.a, places, self.tech, "embed_address")
        writes = duplicate_register(m, self.wr, places, self.tech, "embed_write")
        for i in range(blocks):
            place = i * places // blocks
            enable = _late(m, self.wr.en & (self.wr.mem == Mem.EMBED) & (self.wr.block == i))
            ram = self.wide_memory(m, Mem.EMBED, i, data.View(write_layout(), writes[place]), enable)
            m.d.comb += ram.rd_addr.eq(addresses[place])
            bytes_ += [ram.rd_data[low : low + 8] for low in range(0, self.geometry.embed_block_bits, 8)]
        return bytes_

    def dot_operands(self, m: Module) -> list[Value]:
        """X buffer, weight memory and dot flags; returns the trits, stage j of which arrive j cycles late."""
        g = self.geometry
        m.submodules.xbuffer = self.xbuffer = XBuffer(g, tech=self.tech)
        m.submodules.dot_control = self.dot_control = DotControl(g.lanes, g.chain, g.fold, g.radix)
        word: Value = self.dot.word
        flags: Value = Cat(self.dot.valid, self.dot.first, self.dot.last)
        flags = delay(m, flags, A_READ + BlockRam.LATENCY)
        registered = g.weight_register
        if registered:  # weights pass one more register, see array_latency
            word, flags = _late(m, word), _late(m, flags)
        m.d.comb += self.xbuffer.rd_word.eq(word)
        m.d.comb += Cat(self.dot_control.en, self.dot_control.first, self.dot_control.last).eq(flags)
        if g.streams:
            return stage_trits(m, g, self.weights, A_READ + BlockRam.LATENCY, self.tech)
        address: Value = self.dot.weight
        trits: list[Value] = []
        for j in range(g.chain):
            blocks = range(j * g.weight_blocks_per_stage, (j + 1) * g.weight_blocks_per_stage)
            stage = self.weight_word(m, blocks, address)
            if g.weight_code == "five":
                stage = self.decoded(m, j, stage)
            trits.append(_late(m, stage) if registered else stage)
            address = _late(m, address)
        return trits

    def weight_word(self, m: Module, blocks: range, address: Value) -> Value:
        """The word at ``address``, which passes a register, of the weight ``blocks``, of one or two in a
        block RAM."""
        g, wr = self.geometry, self.wr
        word: list[Value] = []
        if g.weight_ram != "paired":
            where = _late(m, address)
            for block in blocks:
                ram = self.wide_memory(m, Mem.WEIGHT, block)
                m.d.comb += ram.rd_addr.eq(where)
                word.append(ram.rd_data)
            return Cat(*word)
        # neighbours share the words on their way in, and the address of a read or a write
        pairs = blocks[::2]
        places = max(1, len(pairs) // NEIGHBOURS)
        for place, copy in enumerate(
            duplicate_register(m, wr, places, self.tech, f"weight_write_{blocks[0]}")
        ):
            near = data.View(write_layout(), copy)
            where = _late(m, Mux(near.en, near.addr[: len(address)], address))
            half, written = _late(m, near.en & near.block[0]), _late(m, near.data)
            enable = near.en & (near.mem == Mem.WEIGHT)
            for block in pairs[place * len(pairs) // places : (place + 1) * len(pairs) // places]:
                pair = PairedRam(
                    g.weight_block_bits, g.weight_depth, tech=self.tech, memory=Mem.WEIGHT.name, block=block
                )
                m.submodules[f"weight_{block}"] = pair
                m.d.comb += [
                    pair.wr_en.eq(_late(m, enable & (near.block[1:] == block // 2))),
                    pair.wr_half.eq(half),
                    pair.wr_data.eq(written),
                    pair.addr.eq(where),
                ]
                word += [pair.rd_data[0], pair.rd_data[1]]
        return Cat(*word)

    def decoded(self, m: Module, stage: int, word: Value) -> Value:
        """The trits of a stage's word of bytes, two bits each."""
        trits: list[Value] = []
        for i in range(self.geometry.stage_bits // 8):
            decoder = TritDecoder(Encoding.FIVE, tech=self.tech)
            m.submodules[f"decode_{stage}_{i}"] = decoder
            m.d.comb += decoder.code.eq(word[8 * i : 8 * i + 8])
            trits += [bit for pair in zip(decoder.nz, decoder.neg, strict=True) for bit in pair]
        return Cat(*trits)

    def dot_unit(self, m: Module, column: int, trits: list[Value]) -> Value:
        """The dot unit of ``column``; returns its sum."""
        g = self.geometry
        m.submodules[f"dot_{column}"] = dot = DotUnit(
            g.lanes, g.chain, g.x_depth * g.lanes, fold=g.fold, radix=g.radix, tech=self.tech
        )
        m.d.comb += [dot.acc_en.eq(self.dot_control.acc_en), dot.acc_first.eq(self.dot_control.acc_first)]
        mine = [q * g.columns + column for q in range(g.chains)]
        for j in range(g.chain):
            m.d.comb += [
                dot.x[j].eq(self.xbuffer.x[j]),
                dot.nz[j].eq(Cat(trits[j][2 * t] for t in mine)),
                dot.neg[j].eq(Cat(trits[j][2 * t + 1] for t in mine)),
            ]
        return dot.acc

    def place_chunk(self, m: Module, control: PassControl) -> None:
        """Word and chunk of the x buffer for the slot being written."""
        chunks = self.xbuffer.chunks
        word, chunk = (
            Signal.like(self.xbuffer.wr_word, name="word"),
            Signal.like(self.xbuffer.wr_chunk, name="chunk"),
        )
        restart = control.slot == 0
        m.d.comb += [
            self.xbuffer.wr_word.eq(Mux(restart, control.lane.x_dst, word)),
            self.xbuffer.wr_chunk.eq(Mux(restart, 0, chunk)),
        ]
        with m.If(control.to_x & (control.track[RESULT_OFFSET].turn == self.geometry.share - 1)):
            m.d.sync += [chunk.eq(self.xbuffer.wr_chunk + 1), word.eq(self.xbuffer.wr_word)]
            with m.If(self.xbuffer.wr_chunk == chunks - 1):
                m.d.sync += [chunk.eq(0), word.eq(self.xbuffer.wr_word + 1)]


def _choose(values: list[Value], index: Value) -> Value:
    """``values[index]``; one value needs no index."""
    chosen = values[0]
    for i, value in enumerate(values[1:], 1):
        chosen = Mux(index == i, value, chosen)
    return chosen


def _late(m: Module, value: Value) -> Value:
    return delay(m, value, reset_less=True)
