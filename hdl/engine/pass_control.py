"""The control of the column pipelines: which element is where, and what its pass wants there."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import PIPELINE, Addend, MulBy, Source
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.engine.epilogue import (
    B_OFFSET,
    C_OFFSET,
    SQUARE_OFFSET,
    Y_OFFSET,
    AddendCode,
    EpilogueStages,
    MulSelect,
)
from ternac.hdl.engine.ports import (
    UPDATE_AHEAD,
    element_layout,
    lane_layout,
    pass_layout,
    pass_slots,
)

A_READ = 1
"""Cycles from an element to the read of its operand A, whose address passes a register on its way to all the
columns."""
A_OFFSET = A_READ + BlockRam.LATENCY
"""Cycles from an element to its bank, correction or embedding word."""
V0_OFFSET = A_OFFSET + 1
"""Cycles from an element to its v0, the pipeline's cycle 0."""
B_READ = V0_OFFSET + B_OFFSET - BlockRam.LATENCY
"""Cycles from an element to the read of its operand B."""
C_READ = V0_OFFSET + C_OFFSET - BlockRam.LATENCY
"""Cycles from an element to the read of its operand C."""
RESULT_OFFSET = V0_OFFSET + Y_OFFSET
"""Cycles from an element to the cycle that writes its result."""
MASK_STEP = V0_OFFSET + C_OFFSET - 2
"""Cycles from an element to the search for its group's winner, which is known when operand C is taken."""
UPDATE_STEP = RESULT_OFFSET - UPDATE_AHEAD
"""Cycles from an element of an update to the start of its walk through the rows."""


class PassControl(wiring.Component):
    """Follows each element down the pipeline and gives every stage its pass's settings; one for all columns.

    Only a few bits travel with an element (``track[k]``: the element of k cycles ago); the settings stand
    still in ``passes`` and each stage picks those of its element's pass, one cycle ahead, into a register.

    Members
    -------
    elem : In(element_layout)
        An element enters.
    passes : In(ArrayLayout(pass_layout))
        The settings of the passes in flight.
    mantissa : In(8)
        The norm unit's result, held.
    norm_shift : In(5)
        Its shift, held.
    stages : Out(EpilogueStages)
        The settings of each stage of the epilogues, in the cycle of their use.
    source : Out(2)
        Where v0 comes from, at A_OFFSET.
    first_addr : Out(slot)
        What is read through the port of operands A and B in the next cycle.
    first_turn : Out(turn)
        The turn of that read.
    a_turn : Out(turn)
        The turn at A_READ.
    v0_turn : Out(turn)
        The turn at A_OFFSET.
    c_addr : Out(slot)
        The word of operand C, at C_READ.
    c_turn : Out(turn)
        The turn at C_READ.
    d_addr : Out(slot)
        Where the result goes in the banks, at RESULT_OFFSET.
    slot : Out(slot)
        The slot, at RESULT_OFFSET.
    turn : Out(turn)
        The turn at RESULT_OFFSET.
    to_bank : Out(1)
        At RESULT_OFFSET: a valid result goes to the banks.
    to_x : Out(1)
        Likewise to the x buffer.
    to_logits : Out(1)
        Likewise to the sampler.
    to_side : Out(1)
        Likewise to the side lane's multiplicand.
    lane : Out(lane_layout)
        Settings of the side lane at RESULT_OFFSET.
    square_turn : Out(turn)
        The turn of the square being summed.
    retire : Out(1)
        Pulse, two cycles before a pass's last result is written; not of a pass that retires late.
    retire_index : Out(pass)
        The index of that pass.
    rows_take : Out(1)
        With rows: an element takes a value from the row unit in the next cycle, at A_OFFSET - 1.
    rows_update : Out(1)
        With rows: an element of an update, at UPDATE_STEP.
    rows_update_last : Out(1)
        It is the last one.
    rows_mask : Out(1)
        With rows: an element of a mask pass, at MASK_STEP.
    masks : Out(1)
        With rows: an element of a mask pass takes operand C.
    to_list : Out(1)
        With rows: a valid result goes to the list, at RESULT_OFFSET.
    arg : Out(1)
        Likewise it is a score of a group.
    to_rows : Out(1)
        Likewise it is taken away from rows.
    group : Out(slot)
        Slots of a group, at RESULT_OFFSET.
    index : Out(pass)
        The index of the pass, at RESULT_OFFSET.
    """

    AREA_PART = "control"

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        assert RESULT_OFFSET + 1 - min(B_READ, C_READ) + g.share <= PIPELINE, "the compiler counts on it"
        self.turn_bits = ceil_log2(g.share)
        slots = pass_slots(g)
        index = ceil_log2(slots)
        layout = data.StructLayout(
            {"valid": 1, "index": index, "first": 1, "last": 1, "turn": self.turn_bits}
        )
        self.track_layout = layout
        bank = ceil_log2(g.bank_depth)
        super().__init__(
            {
                "elem": In(element_layout(g)),
                "passes": In(data.ArrayLayout(pass_layout(g), slots)),
                "mantissa": In(8),
                "norm_shift": In(5),
                "stages": Out(EpilogueStages(g.tables)),
                "source": Out(2),
                "first_addr": Out(bank),
                "first_turn": Out(self.turn_bits),
                "a_turn": Out(self.turn_bits),
                "v0_turn": Out(self.turn_bits),
                "c_addr": Out(bank),
                "c_turn": Out(self.turn_bits),
                "d_addr": Out(bank),
                "slot": Out(bank),
                "turn": Out(self.turn_bits),
                "to_bank": Out(1),
                "to_x": Out(1),
                "to_logits": Out(1),
                "to_side": Out(1),
                "lane": Out(lane_layout(g)),
                "square_turn": Out(self.turn_bits),
                "retire": Out(1),
                "retire_index": Out(index),
                **(self._rows_members(bank, index) if g.rows else {}),
            }
        )

    @staticmethod
    def _rows_members(bank: int, index: int) -> dict[str, wiring.Member]:
        pulses = ("rows_take", "rows_update", "rows_update_last", "rows_mask", "masks")
        return dict.fromkeys((*pulses, "to_list", "arg", "to_rows"), Out(1)) | {
            "group": Out(bank),
            "index": Out(index),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        s, slots = self.stages, pass_slots(self.geometry)
        track = [
            Signal(self.track_layout, name=f"track_{k}", reset_less=k > 0) for k in range(RESULT_OFFSET + 1)
        ]
        m.d.comb += [
            self.a_turn.eq(track[A_READ].turn),
            self.v0_turn.eq(track[A_OFFSET].turn),
            self.c_turn.eq(track[C_READ].turn),
            self.turn.eq(track[RESULT_OFFSET].turn),
        ]
        m.d.comb += [
            getattr(track[0], n).eq(getattr(self.elem, n))
            for n in ("valid", "index", "first", "last", "turn")
        ]
        for before, after in zip(track, track[1:], strict=False):
            m.d.sync += after.eq(before)

        def setting(name: str, cycle: int) -> Value:
            """The setting of the element in ``cycle``."""
            return Array(Value.cast(getattr(self.passes[i], name)) for i in range(slots))[track[cycle].index]

        def stage(target: Value, name: str, cycle: int) -> None:
            """Present a setting in ``cycle``, picked one cycle earlier."""
            m.d.sync += Value.cast(target).eq(setting(name, cycle - 1))

        stage(self.source, "source", A_OFFSET)

        def is_norm(cycle: int) -> Value:
            return setting("mul", cycle) == MulBy.NORM

        at = V0_OFFSET
        shift1 = [setting("shift1", at + k - 1) for k in (0, 1)]
        c, b, y = at + C_OFFSET - 1, at + B_OFFSET - 1, at + Y_OFFSET
        m.d.sync += [
            s.coarse1.eq(shift1[0][3:]),
            s.fine1.eq(shift1[1][:3]),
            s.narrow1.eq(~setting("wide1", at + 2)),
            s.table_sel.eq(setting("table", at + 2)),
            s.const.eq(Mux(is_norm(c), self.mantissa, 1)),
            s.table_en.eq(setting("table_en", b)),
            s.sub.eq(setting("sub", b)),
            s.coarse2.eq(Mux(is_norm(y - 5), self.norm_shift, setting("shift2", y - 5))[3:]),
            s.fine2.eq(Mux(is_norm(y - 4), self.norm_shift, setting("shift2", y - 4))[:3]),
            s.narrow2.eq(~setting("wide2", y - 2)),
        ]
        with m.Switch(setting("mul", c)):
            with m.Case(MulBy.BANK_C):
                m.d.sync += s.mul.eq(MulSelect.C)
            with m.Case(MulBy.SQUARE):
                m.d.sync += s.mul.eq(MulSelect.SQUARE)
            with m.Default():
                m.d.sync += s.mul.eq(MulSelect.CONST)
        with m.Switch(setting("add", b)):
            with m.Case(Addend.V2):  # the epilogue holds v2 complemented when it subtracts
                m.d.sync += s.addend.eq(Mux(setting("sub", b), AddendCode.NOT_V2, AddendCode.V2))
            with m.Case(Addend.B):
                m.d.sync += s.addend.eq(AddendCode.B)
            with m.Default():
                m.d.sync += s.addend.eq(AddendCode.ZERO)

        square = track[at + SQUARE_OFFSET - 2]
        m.d.sync += [
            s.square_en.eq(square.valid & setting("stat", at + SQUARE_OFFSET - 2)),
            s.square_first.eq(square.first),
            s.square_last.eq(square.last),
            self.square_turn.eq(square.turn),
        ]

        b_addr, b_next = (
            Signal.like(self.first_addr, name="b_addr"),
            Signal.like(self.first_addr, name="b_next"),
        )
        m.d.comb += b_next.eq(b_addr)
        m.d.sync += b_addr.eq(b_next)
        for address, name, cycle, domain in (
            (b_addr, "b", B_READ, "comb"),
            (self.c_addr, "c", C_READ, "sync"),
            (self.d_addr, "d", RESULT_OFFSET, "sync"),
            (self.slot, None, RESULT_OFFSET, "sync"),
        ):
            ahead = track[cycle - 1]
            with m.If(ahead.valid & (ahead.turn == 0)):
                base = setting(name, cycle - 1) if name else 0
                target = b_next if domain == "comb" else address
                m.d[domain] += target.eq(Mux(ahead.first, base, address + 1))
        reads_a = self.elem.valid & (setting("source", 0) == Source.BANK)
        m.d.comb += [
            self.first_addr.eq(Mux(reads_a, self.elem.a, b_next)),
            self.first_turn.eq(Mux(reads_a, self.elem.turn, track[B_READ - 1].turn)),
        ]

        last = track[RESULT_OFFSET - 1]
        writes = last.valid & ~setting("stat", RESULT_OFFSET - 1)
        targets = ("to_bank", "to_x", "to_logits", "to_side")
        for name in targets:
            m.d.sync += getattr(self, name).eq(setting(name, RESULT_OFFSET - 1) & writes)
        m.d.sync += [self.lane.first.eq(last.first), self.lane.last.eq(last.last)]
        for name in lane_layout(self.geometry).members:
            if name not in ("first", "last"):
                m.d.sync += Value.cast(getattr(self.lane, name)).eq(setting(name, RESULT_OFFSET - 1))
        ahead = track[RESULT_OFFSET - 2]
        m.d.comb += [
            self.retire.eq(ahead.valid & ahead.last & (ahead.turn == self.geometry.share - 1)),
            self.retire_index.eq(ahead.index),
        ]
        if not self.geometry.rows:
            return m

        # With rows: what the row unit does with an element, and passes that it retires.
        stage(self.masks, "mask", V0_OFFSET + C_OFFSET)
        for name in ("to_list", "arg", "to_rows"):
            m.d.sync += getattr(self, name).eq(setting(name, RESULT_OFFSET - 1) & writes)
        updates, ahead = track[UPDATE_STEP], track[A_OFFSET - 1]
        m.d.comb += [
            self.rows_take.eq(ahead.valid & (setting("source", A_OFFSET - 1) == Source.ROWS)),
            self.rows_update.eq(updates.valid & setting("to_rows", UPDATE_STEP)),
            self.rows_update_last.eq(updates.last),
            self.rows_mask.eq(track[MASK_STEP].valid & setting("mask", MASK_STEP)),
            self.index.eq(track[RESULT_OFFSET].index),
        ]
        m.d.sync += self.group.eq(setting("c", RESULT_OFFSET - 1))
        late = setting("arg", RESULT_OFFSET - 2) | setting("to_rows", RESULT_OFFSET - 2)
        with m.If(late):
            m.d.comb += self.retire.eq(0)
        return m
