"""The column array: weight memory, x buffer, dot units, banks and pipelines of all columns in lockstep."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.isa import Source
from ternac.hdl.array.dot import DotControl, DotUnit, array_latency
from ternac.hdl.array.negatives import NegativeCount
from ternac.hdl.array.xbuffer import XBuffer
from ternac.hdl.cells.memory import BlockRam, MemoryBank
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.epilogue import Epilogue
from ternac.hdl.engine.memories import EmbeddingMemory, WeightMemory
from ternac.hdl.engine.pass_control import A_READ, PassControl
from ternac.hdl.engine.ports import (
    ROW_ADDRESS_BITS,
    context_bits,
    count_bits,
    dot_layout,
    element_layout,
    move_signature,
    pass_layout,
    pass_slots,
    row_settings_layout,
    write_layout,
)
from ternac.hdl.engine.row_unit import RowUnit
from ternac.hdl.engine.side_lane import SideLane
from ternac.hdl.sdram.controller import SdramPins
from ternac.hdl.sdram.feed import WeightFeed

COLUMNS_A_REGISTER = 4
"""Pipelines whose banks the host reads through one register."""


class ColumnArray(wiring.Component):
    """All columns of an engine, driven by the sequencer's two streams.

    A `dot` word at cycle t is row data of all columns; the row's first `elem` must come `dot_delay` cycles
    after its last word. An `elem` at cycle t reads bank or embedding at t + `A_READ`, its operands B and C a
    little later (B through the same port as A, hence the sequencer's ``paced``), and writes its result at
    t + `RESULT_OFFSET`. Addresses pass a register on their way to all the memories.

    Members
    -------
    dot : In(dot_layout)
        Words of matrix rows.
    elem : In(element_layout)
        Elements.
    passes : In(ArrayLayout(pass_layout))
        The settings of the passes in flight.
    retire : Out(1)
        Pulse: the last result of pass ``retire_index`` is written two cycles later.
    retire_index : Out(pass)
        The index of that pass.
    claim : In(1)
        Pulse: a NORM pass takes room in the side lane.
    claim_slots : In(count)
        The slots that it takes.
    room : Out(lane_depth)
        Slots that are free in the side lane; 0 without one.
    lane_retire : Out(1)
        Pulse: the last x word of a pass has passed the side lane.
    lane_context : Out(context)
        The context of that pass.
    mantissa : In(8)
        The norm unit's result, held.
    norm_shift : In(5)
        Its shift, held.
    square_tail : In(tail)
        Columns that the last slot of a statistics pass fills.
    square_sums : Out(32).array(pipelines)
        Sums of squares.
    row_valid : Out(1)
        Pulse: a row of logits.
    row_slot : Out(slot)
        Its slot.
    row_context : Out(context)
        Its context.
    row : Out(signed(16)).array(columns)
        The logits.
    rows_accept : In(1)
        With rows: a pass that uses rows or reads the list begins.
    rows_settings : In(row_settings_layout)
        With rows: its settings.
    reads_rows : In(1)
        With rows: the words of `dot` are heads of a read.
    arg_retire : Out(1)
        With rows: pulse like ``retire``, of a pass that looked for winners.
    arg_index : Out(pass)
        The index of that pass.
    rows_retire : Out(1)
        With rows: pulse like ``retire``, of an update.
    rows_index : Out(pass)
        The index of that pass.
    clearing : Out(1)
        With rows: words of them are being cleared.
    moves : In(move_signature)
        With rows in SDRAM: moves of rows, and the host's work there.
    sdram : Out(SdramPins)
        With rows in SDRAM: the chip.
    rd_rows : In(1)
        With rows: the host reads these, not a bank; ``rd_addr`` has 16 bits then.
    weights : In(16 * stream_words)
        Where they stream: those of `dot`, in the same cycle.
    wr : In(write_layout)
        The loader's write, only while nothing runs.
    rd_en : In(1)
        The host reads a bank, only while nothing runs.
    rd_block : In(8)
        The column.
    rd_addr : In(slot)
        The word.
    rd_data : Out(16)
        That word, `READ_LATENCY` cycles later.
    """

    AREA_PART = "columns"

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
                "claim_slots": In(count_bits(g)),
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
                "rd_addr": In(ROW_ADDRESS_BITS if g.rows else self.bank_bits),
                "rd_data": Out(16),
                **(self._rows_members(g) if g.rows else {}),
                **({"weights": In(16 * g.stream_words)} if g.streams else {}),
            }
        )

    @staticmethod
    def _rows_members(geometry: Geometry) -> dict[str, wiring.Member]:
        index = ceil_log2(pass_slots(geometry))
        return {
            "rows_accept": In(1),
            "rows_settings": In(row_settings_layout(geometry)),
            "reads_rows": In(1),
            "arg_retire": Out(1),
            "arg_index": Out(index),
            "rows_retire": Out(1),
            "rows_index": Out(index),
            "clearing": Out(1),
            "rd_rows": In(1),
            **(
                {"moves": In(move_signature(geometry)), "sdram": Out(SdramPins)}
                if geometry.stores_rows
                else {}
            ),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        m.submodules.xbuffer = xbuffer = XBuffer(g, tech=self.tech)
        m.submodules.control = control = PassControl(g)
        m.submodules.embedding = embedding = EmbeddingMemory(g, tech=self.tech)
        m.d.comb += [
            embedding.address.eq(self.elem.a),
            embedding.wr.eq(self.wr),
            control.elem.eq(self.elem),
            control.passes.eq(self.passes),
            control.mantissa.eq(self.mantissa),
            control.norm_shift.eq(self.norm_shift),
            self.retire.eq(control.retire),
            self.retire_index.eq(control.retire_index),
        ]
        sums, corrections = self._dots(m, xbuffer, control)

        # Port 0 of a bank serves the host, operand A and operand B; port 1 operand C.
        first_addr = Signal(self.bank_bits, name="first_addr")
        first_turn = Signal(len(self.elem.turn), name="first_turn")
        m.d.sync += [first_addr.eq(control.first_addr), first_turn.eq(control.first_turn)]
        with m.If(self.rd_en):
            m.d.sync += [first_addr.eq(self.rd_addr), first_turn.eq(self.rd_block)]
        reads = Cat(first_turn, first_addr), Cat(control.c_turn, control.c_addr)

        unit = RowUnit(g, dot_delay=self.dot_delay, tech=self.tech) if g.rows else None
        results: list[Value] = []
        read: list[Value] = []
        for p in range(g.pipelines):
            m.submodules[f"pipe_{p}"] = pipe = Epilogue(
                g.tables, column=p, squares=not g.lane_depth, tech=self.tech
            )
            own = range(p * g.share, (p + 1) * g.share)
            a, c = (self._bank(m, p, port, where, control, pipe.y) for port, where in enumerate(reads))

            # v0. A row's sums come together; later turns take theirs from a copy.
            held = [sums[own[0]]]
            for i, column in enumerate(own[1:], 1):
                copy = Signal.like(sums[column], name=f"held_{p}_{i}")
                with m.If(control.v0_turn == 0):
                    m.d.sync += copy.eq(sums[column])
                held.append(copy)
            with m.Switch(control.source):
                with m.Case(Source.DOT):
                    m.d.sync += pipe.v0.eq(_choose(held, control.v0_turn) + corrections[p])
                with m.Case(Source.BANK):
                    m.d.sync += pipe.v0.eq(a.as_signed())
                if unit is not None:
                    with m.Case(Source.ROWS):
                        m.d.sync += pipe.v0.eq(unit.values[p])
                with m.Default():
                    token = _choose([embedding.bytes[column] for column in own], control.v0_turn)
                    m.d.sync += pipe.v0.eq(token.as_signed() << 8)

            # The pipeline itself.
            m.d.comb += [
                pipe.b.eq(a),
                pipe.c.eq(c),
                pipe.drop_last.eq(self.square_tail <= (control.square_turn | p * g.share)),
                pipe.table_wr_en.eq(self.wr.en & (self.wr.mem == Mem.TABLE)),
                pipe.table_wr_addr.eq(self.wr.addr),
                pipe.table_wr_data.eq(self.wr.data),
                self.square_sums[p].eq(pipe.square_sum),
                *(
                    getattr(pipe.stages, name).eq(getattr(control.stages, name))
                    for name in control.stages.signature.members
                ),
            ]
            results.append(pipe.y)
            word = a
            if unit is not None:
                with m.If(control.masks & ~unit.hits[p]):
                    m.d.comb += pipe.stages.const.eq(0)
                word = Mux(self.rd_rows, unit.rd_data[p], a)
            read.append(word)

            # A row of logits is complete with its last turn; the earlier ones wait for it.
            for turn, column in enumerate(own):
                value: Value = pipe.y
                if turn < g.share - 1:
                    value = Signal(signed(16), name=f"row_{column}", reset_less=True)
                    with m.If(control.turn == turn):
                        m.d.sync += value.eq(pipe.y)
                m.d.comb += self.row[column].eq(value)
        m.d.comb += [
            self.row_valid.eq(control.to_logits & (control.turn == g.share - 1)),
            self.row_slot.eq(control.slot),
            self.row_context.eq(control.lane.context),
        ]

        if unit is not None:
            self._rows(m, unit, control, results)

        # What the host reads. The columns are far apart: first one of each four, then one of those.
        number = self.rd_block[ceil_log2(g.share) :]
        near: list[Value] = []
        for i in range(0, len(read), COLUMNS_A_REGISTER):
            one = Signal(16, name=f"read_{i}", reset_less=True)
            m.d.sync += one.eq(_choose(read[i : i + COLUMNS_A_REGISTER], number[:2]))
            near.append(one)
        m.d.sync += self.rd_data.eq(_choose(near, number[2:]))

        if g.lane_depth:
            self._side_lane(m, xbuffer, control, results)
        else:
            self._straight(m, xbuffer, control, results)
        return m

    def _rows(self, m: Module, unit: RowUnit, control: PassControl, results: list[Value]) -> None:
        """Wire the row unit to the pass control and the pipelines."""
        m.submodules.rows = unit
        if self.geometry.stores_rows:
            wiring.connect(m, wiring.flipped(self.moves), unit.moves)
            wiring.connect(m, unit.sdram, wiring.flipped(self.sdram))
        m.d.comb += [
            unit.accept.eq(self.rows_accept),
            unit.settings.eq(self.rows_settings),
            unit.step.eq(self.dot.valid & self.reads_rows),
            unit.step_last.eq(self.dot.last),
            unit.take.eq(control.rows_take),
            unit.update.eq(control.rows_update),
            unit.update_last.eq(control.rows_update_last),
            unit.mask.eq(control.rows_mask),
            *(
                getattr(unit, name).eq(getattr(control, name))
                for name in ("to_list", "arg", "to_rows", "group", "slot", "lane", "index")
            ),
            *(port.eq(y) for port, y in zip(unit.results, results, strict=True)),
            unit.wr.eq(self.wr),
            unit.rd_en.eq(self.rd_en),
            unit.rd_addr.eq(self.rd_addr),
            *(
                getattr(self, name).eq(getattr(unit, name))
                for name in ("arg_retire", "arg_index", "rows_retire", "rows_index", "clearing")
            ),
        ]

    def _dots(self, m: Module, xbuffer: XBuffer, control: PassControl) -> tuple[list[Value], list[Value]]:
        """Weights, activations and dot units; returns the sum of every column, and the correction of every
        pipeline's row: the number of its -1 weights.
        """
        g = self.geometry
        m.submodules.dot_control = flags = DotControl(g.lanes, g.chain, g.fold, g.radix)
        trits: list[Value] = []
        if g.streams:
            m.submodules.weights = feed = WeightFeed(g, latency=A_READ + BlockRam.LATENCY, tech=self.tech)
            m.d.comb += feed.word.eq(self.weights)
            trits += feed.trits
        else:
            m.submodules.weights = memory = WeightMemory(g, tech=self.tech)
            m.d.comb += [memory.address.eq(self.dot.weight), memory.wr.eq(self.wr)]
            trits += memory.trits

        # Activations and flags come with the weights, which may pass one more register.
        late = int(g.weight_register)
        own = Cat(self.dot.valid, self.dot.first, self.dot.last)
        own = delay(m, own, A_READ + BlockRam.LATENCY + late, name="dot_flags")
        m.d.comb += [
            xbuffer.rd_word.eq(delay(m, self.dot.word, late, name="dot_word", reset_less=True)),
            Cat(flags.en, flags.first, flags.last).eq(own),
        ]

        sums: list[Value] = []
        for column in range(g.columns):
            m.submodules[f"dot_{column}"] = dot = DotUnit(
                g.lanes, g.chain, g.x_depth * g.lanes, fold=g.fold, radix=g.radix, tech=self.tech
            )
            m.d.comb += [dot.acc_en.eq(flags.acc_en), dot.acc_first.eq(flags.acc_first)]
            mine = [q * g.columns + column for q in range(g.chains)]
            for j in range(g.chain):
                m.d.comb += [
                    dot.x[j].eq(xbuffer.x[j]),
                    dot.nz[j].eq(Cat(trits[j][2 * t] for t in mine)),
                    dot.neg[j].eq(Cat(trits[j][2 * t + 1] for t in mine)),
                ]
            sums.append(dot.acc)

        # Rows are corrected from a memory, or, where weights stream, their -1 weights are counted.
        corrections: list[Value] = []
        bias_addr = delay(m, self.elem.a, A_READ, name="bias_addr", reset_less=True)
        for p in range(g.pipelines):
            if g.streams:
                m.submodules[f"negatives_{p}"] = count = NegativeCount(g.lanes, g.chain, g.x_depth * g.lanes)
                m.d.comb += [count.acc_en.eq(flags.acc_en), count.acc_first.eq(flags.acc_first)]
                mine = [q * g.columns + p for q in range(g.chains)]
                for j in range(g.chain):
                    m.d.comb += count.neg[j].eq(Cat(trits[j][2 * t + 1] for t in mine))
                corrections.append(count.count)
                continue
            shape = g.memory(Mem.BIAS)
            m.submodules[f"bias_{p}"] = bias = MemoryBank(
                shape.bits, shape.depth * g.share, tech=self.tech, memory=Mem.BIAS.name, block=p
            )
            m.d.comb += [
                bias.rd_addr.eq(Cat(control.a_turn, bias_addr[: ceil_log2(g.bias_depth)])),
                bias.wr_en.eq(self._loads(Mem.BIAS, p)),
                bias.wr_addr.eq(self._shared_address()),
                bias.wr_data.eq(self.wr.data),
            ]
            corrections.append(bias.rd_data)
        return sums, corrections

    def _bank(
        self, m: Module, pipeline: int, port: int, where: Value, control: PassControl, result: Value
    ) -> Value:
        """One read port's copy of the bank of ``pipeline``; returns the word ``where``."""
        g = self.geometry
        ram = BlockRam(16, g.bank_depth * g.share, tech=self.tech, memory="BANK", block=pipeline)
        m.submodules[f"bank_{pipeline}_{port}"] = ram
        loading = self.wr.en
        m.d.comb += [
            ram.rd_addr.eq(where),
            ram.wr_en.eq(self._loads(Mem.BANK, pipeline) | control.to_bank),
            ram.wr_addr.eq(Mux(loading, self._shared_address(), Cat(control.turn, control.d_addr))),
            ram.wr_data.eq(Mux(loading, self.wr.data, result)),
        ]
        return ram.rd_data

    def _loads(self, mem: Mem, pipeline: int) -> Value:
        """The loader writes a block of ``mem`` that belongs to ``pipeline``."""
        shift = ceil_log2(self.geometry.share)
        return self.wr.en & (self.wr.mem == mem) & (self.wr.block[shift:] == pipeline)

    def _shared_address(self) -> Value:
        """Address of the loader's word in a memory in which the columns of a pipeline are interleaved."""
        return Cat(self.wr.block[: ceil_log2(self.geometry.share)], self.wr.addr)

    def _side_lane(self, m: Module, xbuffer: XBuffer, control: PassControl, results: list[Value]) -> None:
        """Lead everything on its way to the x buffer through the side lane."""
        m.submodules.side_lane = lane = SideLane(self.geometry, tech=self.tech)
        m.d.comb += [
            lane.valid.eq(control.to_x),
            lane.to_side.eq(control.to_side),
            lane.slot.eq(control.slot),
            lane.settings.eq(control.lane),
            lane.claim.eq(self.claim),
            lane.claim_slots.eq(self.claim_slots),
            lane.norm_wr_en.eq(self.wr.en & (self.wr.mem == Mem.NORM)),
            lane.norm_wr_addr.eq(self.wr.addr),
            lane.norm_wr_data.eq(self.wr.data),
            *(port.eq(y) for port, y in zip(lane.y, results, strict=True)),
            self.room.eq(lane.room),
            self.lane_retire.eq(lane.retire),
            self.lane_context.eq(lane.retire_context),
            xbuffer.wr_en.eq(lane.x_en),
            xbuffer.wr_word.eq(lane.x_word),
            xbuffer.wr_chunk.eq(lane.x_chunk),
            xbuffer.wr_data.eq(lane.x),
        ]

    def _straight(self, m: Module, xbuffer: XBuffer, control: PassControl, results: list[Value]) -> None:
        """Write results to the x buffer as they are, chunk after chunk and word after word."""
        word = Signal.like(xbuffer.wr_word, name="word")
        chunk = Signal.like(xbuffer.wr_chunk, name="chunk")
        restart = control.slot == 0
        m.d.comb += [
            xbuffer.wr_en.eq(control.to_x),
            xbuffer.wr_turn.eq(control.turn),
            xbuffer.wr_word.eq(Mux(restart, control.lane.x_dst, word)),
            xbuffer.wr_chunk.eq(Mux(restart, 0, chunk)),
            *(xbuffer.wr_data[p].eq(y[:8]) for p, y in enumerate(results)),
        ]
        with m.If(control.to_x & (control.turn == self.geometry.share - 1)):
            m.d.sync += [chunk.eq(xbuffer.wr_chunk + 1), word.eq(xbuffer.wr_word)]
            with m.If(xbuffer.wr_chunk == xbuffer.chunks - 1):
                m.d.sync += [chunk.eq(0), word.eq(xbuffer.wr_word + 1)]


def _choose(values: list[Value], index: Value) -> Value:
    """``values[index]``; one value needs no index."""
    chosen = values[0]
    for i, value in enumerate(values[1:], 1):
        chosen = Mux(index == i, value, chosen)
    return chosen
