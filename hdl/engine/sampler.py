"""Sampler: logits in, next token out, by argmax or by seeded top-k / temperature sampling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.hdl.cells.memory import read_port, write_port
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.argmax import Argmax
from ternac.hdl.engine.draw import Draw
from ternac.hdl.engine.exponential import Exponential
from ternac.hdl.engine.span import Span
from ternac.run import sampling

__all__ = ["Sampler", "sampler_latency", "span_latency"]

_KEY_BITS = 16
_COUNT = 5  # stages of the search: memory, its register, comparison, population count, sum
_DISTANCE = 4  # stages of a distance: memory, its register, choice, distance
_WEIGH = (
    _DISTANCE + Exponential.latency
)  # stages of a weight: memory, its register, choice, distance, exponential


def _population(bits: Sequence[ValueLike]) -> ValueLike:
    """Number of ones, added as a balanced tree."""
    if len(bits) == 1:
        return bits[0]
    half = len(bits) // 2
    return _population(bits[:half]) + _population(bits[half:])


def _settle(columns: int) -> int:
    """Cycles after ``start`` in which the argmax settles."""
    return max(1, ceil_log2(columns))


def sampler_latency(columns: int, pace: int, vocab: int, *, greedy: bool, top_k: int = 0) -> int:
    """Cycles from ``start`` to ``done`` of a ``Sampler``.

    Argmax: ceil_log2(columns) + 1 (2 for one column). A draw adds two passes over the elements, 33 cycles of
    multiplication and, with ``top_k``, sixteen passes over the rows.
    """
    cycles = _settle(columns) + 1
    if not greedy:
        cycles += 2 * (pace * (vocab - 1) + 1 + _WEIGH) + 1 + Draw.scaling
        if top_k:
            cycles += _KEY_BITS * (-(-vocab // columns) + _COUNT)
    return cycles


def span_latency(pace: int, vocab: int) -> int:
    """Cycles from ``span_start`` to ``span_done``: a pass over the elements, and what follows the last."""
    return pace * (vocab - 1) + 1 + _DISTANCE + Span.latency


class LogitScan(wiring.Component):
    """The logits of a step and the way through them, row by row or element by element.

    A pass begins with ``begin``. An element goes out every ``pace`` cycles, a row every cycle; bit i of
    ``valid`` says that one went out i + 1 cycles ago.

    Members
    -------
    row_valid : In(1)
        Write a row of logits.
    row_slot : In(slot)
        Its slot.
    keys : In(16 * columns)
        Its keys.
    last_slot : In(slot)
        The last row of the step.
    tail : In(tail)
        Its columns.
    begin : In(1)
        Pulse: walk through all.
    by_row : In(1)
        Row by row.
    valid : Out(stages)
        A row or an element went out, by its age.
    last : Out(stages)
        It was the last one.
    row : Out(16 * columns)
        The row of two cycles ago.
    column : Out(column)
        The element's column in it.
    row_end : Out(1)
        It is the last row.
    """

    def __init__(self, *, columns: int, slots: int, pace: int) -> None:
        self.columns, self.slots, self.pace = columns, slots, pace
        super().__init__(
            {
                "row_valid": In(1),
                "row_slot": In(ceil_log2(slots)),
                "keys": In(_KEY_BITS * columns),
                "last_slot": In(ceil_log2(slots)),
                "tail": In(bits_for(columns)),
                "begin": In(1),
                "by_row": In(1),
                "valid": Out(_WEIGH),
                "last": Out(_WEIGH),
                "row": Out(_KEY_BITS * columns),
                "column": Out(range(max(2, columns))),
                "row_end": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns, by_row = self.columns, self.by_row
        m.submodules.logits = memory = Memory(shape=_KEY_BITS * columns, depth=self.slots, init=[])
        write, read = write_port(memory), read_port(memory, domain="comb")
        m.d.comb += [
            write.en.eq(self.row_valid),
            write.addr.eq(self.row_slot),
            write.data.eq(self.keys),
        ]

        # Cycle 0: the address, `slot` and `column`. An element stays for `pace` cycles.
        slot, column = Signal(range(self.slots), name="slot"), Signal.like(self.column, name="column_0")
        issue, row_end, pass_end = Signal(name="issue"), Signal(name="row_end_0"), Signal(name="pass_end")
        first_phase, last_phase = Signal(name="first_phase"), Signal(name="last_phase")
        if self.pace == 1:
            m.d.comb += [first_phase.eq(1), last_phase.eq(1)]
        else:
            phase = Signal(range(self.pace), name="phase")
            m.d.sync += phase.eq(Mux(issue, phase + 1, 0))
            m.d.comb += first_phase.eq(by_row | (phase == 0))
            m.d.comb += last_phase.eq(by_row | (phase == self.pace - 1))
        m.d.comb += [
            row_end.eq(slot == self.last_slot),
            pass_end.eq(row_end & (by_row | (column == (self.tail - 1)[: len(column)]))),
            read.addr.eq(slot),
        ]
        with m.If(issue & last_phase):
            with m.If(by_row | (column == columns - 1)):
                m.d.sync += [slot.eq(slot + 1), column.eq(0)]
            with m.Else():
                m.d.sync += column.eq(column + 1)
        with m.If(issue & first_phase & pass_end):
            m.d.sync += issue.eq(0)
        m.d.sync += self.valid.eq(Cat(issue & first_phase, self.valid))
        m.d.sync += self.last.eq(Cat(issue & first_phase & pass_end, self.last))
        with m.If(self.begin):
            m.d.sync += [issue.eq(1), slot.eq(0), column.eq(0), self.valid.eq(0), self.last.eq(0)]

        # Cycles 1 and 2: the memory's output and its register.
        read_data = Signal(_KEY_BITS * columns, name="read_data")
        with m.If(~self.row_valid):  # with this, synthesis knows that the block RAM's ports never collide
            m.d.sync += read_data.eq(read.data)
        m.d.sync += self.row.eq(read_data)
        m.d.comb += [
            self.column.eq(delay(m, column, 2, name="column_late")),
            self.row_end.eq(delay(m, row_end, 2, name="row_end_late")),
        ]
        return m


class Sampler(wiring.Component):
    """Chooses the next token from the logits of one step; docs/numerics.md, section Sampling, is its formula.

    Logits arrive a row at a time: the row of slot t holds elements t * columns .. t * columns + columns - 1.
    The rows 0, 1, .., last_slot come in this order, with any gaps; the row of slot 0 begins a new step. In
    the last row only the first ``tail`` columns exist (vocab = last_slot * columns + tail). The argmax is
    found on the way in.

    ``start`` may come two cycles after the last row, or later. ``last_slot`` and
    ``tail`` must be stable from the first row until ``done``, the other parameters from ``start`` until
    ``done``. ``done`` is high for one cycle, exactly :meth:`latency` cycles after ``start``; from then until
    the next ``start``, ``next_token`` and ``rng_out`` are valid. ``busy`` is high in between. While busy,
    rows must not arrive and ``start`` is ignored.

    greedy = 1: the argmax, rng_out = rng_in.  greedy = 0: one draw, rng_out = xorshift32(rng_in), and the
    logits of the step stay: another ``start`` draws again.

    Parameters
    ----------
    columns : logits a row, 1..64.
    slots : rows of the logits memory, 2..65536 // columns.
    pace : cycles per element in the two weighing passes of a draw: 1, or 4 for the smaller multiplier.
    spans : the span of a token can be asked for, by the members ``span_..``, which are there only then.

    Members
    -------
    row_valid : In(1)
        A row of logits.
    row_slot : In(slot)
        Its slot.
    row : In(signed(16)).array(columns)
        The logits.
    last_slot : In(slot)
        The last slot of the step.
    tail : In(tail)
        Its columns, 1 to ``columns``.
    start : In(1)
        Pulse: choose a token.
    greedy : In(1)
        The argmax, else a draw.
    inv_m : In(8)
        Mantissa of the inverse temperature, 1 to 255.
    inv_s : In(5)
        Its shift.
    top_k : In(16)
        Draw among this number of the largest logits; 0: among all.
    rng_in : In(32)
        The state of the generator, not 0.
    busy : Out(1)
        A token is being chosen.
    done : Out(1)
        Pulse: it is.
    next_token : Out(16)
        The token.
    rng_out : Out(32)
        The new state of the generator.
    span_start : In(1)
        Pulse, while not busy, two cycles after the last row or later: count a span in one pass.
    span_token : In(16)
        The token, constant until ``span_done``.
    span_shift : In(5)
        The program's ``logit_scale_bits``, likewise.
    span_done : Out(1)
        Pulse, :meth:`span_latency` cycles after ``span_start``: it stays until the next one.
    span_number : In(3)
        A word of it.
    span_word : Out(16)
        That word.

    Area on iCE40 for columns=2, slots=128 (``synth_ice40``): 703 LUT4 and 395 FF at pace 4, 849 and
    495 at pace 1, 3 block RAMs.
    """

    AREA_PART = "sampler"

    def __init__(self, *, columns: int, slots: int, pace: int = 1, spans: bool = False) -> None:
        if not 1 <= columns <= 64:
            raise ValueError(f"columns must be 1..64, not {columns!r}")
        if not 2 <= slots <= 65536 // columns:
            raise ValueError(f"slots must be 2..{65536 // columns} for {columns} columns, not {slots!r}")
        if pace not in (1, 4):
            raise ValueError(f"pace must be 1 or 4, not {pace!r}")
        self.columns = columns
        self.slots = slots
        self.pace = pace
        self.spans = spans
        span = {
            "span_start": In(1),
            "span_token": In(16),
            "span_shift": In(5),
            "span_done": Out(1),
            "span_number": In(3),
            "span_word": Out(16),
        }
        super().__init__(
            {
                "row_valid": In(1),
                "row_slot": In(ceil_log2(slots)),
                "row": In(signed(16)).array(columns),
                "last_slot": In(ceil_log2(slots)),
                "tail": In(bits_for(columns)),
                "start": In(1),
                "greedy": In(1),
                "inv_m": In(8),
                "inv_s": In(5),
                "top_k": In(16),
                "rng_in": In(32),
                "busy": Out(1),
                "done": Out(1),
                "next_token": Out(16),
                "rng_out": Out(32),
                **(span if spans else {}),
            }
        )

    def span_latency(self, vocab: int) -> int:
        """Cycles from ``span_start`` to ``span_done``, see :func:`span_latency`."""
        return span_latency(self.pace, vocab)

    def latency(self, vocab: int, *, greedy: bool, top_k: int = 0) -> int:
        """Cycles from ``start`` to ``done``, see :func:`sampler_latency`."""
        return sampler_latency(self.columns, self.pace, vocab, greedy=greedy, top_k=top_k)

    @staticmethod
    def model(
        logits: Sequence[int] | np.ndarray, *, greedy: bool, inv_m: int, inv_s: int, top_k: int, rng_in: int
    ) -> tuple[int, int]:
        """(next_token, rng_out) for one step's logits; arguments as the members."""
        return sampling.choose(logits, sampling.Sampling(greedy, inv_m, inv_s, top_k), rng_in)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        columns, slots = self.columns, self.slots

        # Way in. Keys are logits with the sign bit inverted: unsigned order is the logits' order.
        m.submodules.scan = scan = LogitScan(columns=columns, slots=slots, pace=self.pace)
        m.submodules.argmax = argmax = Argmax(columns=columns, slots=slots)
        keys = [Cat(logit[:-1], ~logit[-1]) for logit in self.row]
        m.d.comb += [
            argmax.row_valid.eq(self.row_valid),
            argmax.row_slot.eq(self.row_slot),
            argmax.row_last.eq(self.row_slot == self.last_slot),
            argmax.tail.eq(self.tail),
            *(port.eq(key) for port, key in zip(argmax.keys, keys, strict=True)),
            scan.row_valid.eq(self.row_valid),
            scan.row_slot.eq(self.row_slot),
            scan.keys.eq(Cat(keys)),
            scan.last_slot.eq(self.last_slot),
            scan.tail.eq(self.tail),
        ]

        # A pass over rows (search) or elements. Cycle 2: the row. 3: its lanes against the candidate.
        begin, begun, by_row = scan.begin, Signal(name="begun"), scan.by_row
        valid, last = scan.valid, scan.last
        lanes = [scan.row.word_select(c, _KEY_BITS) for c in range(columns)]
        candidate, bit = Signal(_KEY_BITS, name="candidate"), Signal(_KEY_BITS, name="bit")
        reaches = Signal(columns, name="reaches")
        m.d.comb += reaches.eq(Cat(lane >= candidate for lane in lanes))

        # Search: 4: how many lanes of the row reach the candidate. 5: added up.
        counted, reaching = Signal(columns, name="counted"), Signal(range(columns + 1), name="reaching")
        total = range(columns * slots + 1)
        count, above = Signal(total, name="count"), Signal(total, name="above")
        exists = Cat(~scan.row_end | (self.tail > c) for c in range(columns))
        m.d.sync += counted.eq(reaches & exists & (valid[1] & by_row).replicate(columns))
        m.d.sync += reaching.eq(_population(list(counted)))

        # Weights: 3: the element. 4: its distance from the largest. Then the exponential.
        element, distance = Signal(_KEY_BITS, name="element"), Signal(_KEY_BITS, name="distance")
        over, over_4, equal = Signal(name="over"), Signal(name="over_4"), Signal(name="equal")
        weighing, tie = Signal(name="weighing"), Signal(name="tie")
        m.submodules.exponential = exponential = Exponential(pace=self.pace)
        m.d.sync += [
            element.eq(Array(lanes)[scan.column]),
            over.eq(reaches.bit_select(scan.column, 1)),
            distance.eq(argmax.best - element),
            equal.eq(element == candidate),
            over_4.eq(over),
        ]
        m.d.comb += [
            weighing.eq(valid[3] & ~by_row),
            tie.eq(weighing & equal & (count != self.top_k)),
            exponential.distance.eq(distance),
            exponential.strobe.eq(valid[3]),
            exponential.keep.eq(tie | (weighing & ((self.top_k == 0) | (over_4 & ~equal)))),
            exponential.m.eq(self.inv_m),
            exponential.s.eq(self.inv_s),
        ]
        with m.If(begun):
            m.d.sync += count.eq(Mux(by_row, 0, above))
        with m.Else():
            m.d.sync += count.eq(count + Mux(by_row, reaching, tie))

        m.submodules.draw = draw = Draw(elements=columns * slots)
        m.d.comb += [
            draw.advance.eq(~self.greedy),
            draw.rng_in.eq(self.rng_in),
            draw.preset_token.eq(argmax.index),
            draw.valid.eq(valid[-1]),
            draw.weight.eq(exponential.weight),
            self.next_token.eq(draw.token),
            self.rng_out.eq(draw.rng_out),
        ]

        if self.spans:
            m.submodules.span = span = Span(elements=columns * slots)
            m.d.comb += [
                span.token.eq(self.span_token),
                span.shift.eq(self.span_shift),
                span.valid.eq(valid[_DISTANCE - 1]),
                span.last.eq(last[_DISTANCE - 1]),
                span.distance.eq(distance),
                span.number.eq(self.span_number),
                self.span_word.eq(span.word),
            ]

        # The search finds the k-th largest key bit by bit: `candidate` is what is known so far and the bit on
        # trial; `above` counts the keys over it, so that top_k - above of those equal to it may stay.
        timer, enough = Signal(5, name="timer"), Signal(name="enough")
        m.d.comb += enough.eq(count >= self.top_k)
        m.d.sync += [self.done.eq(0), begun.eq(begin)]
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += [timer.eq(0), candidate.eq(0), bit.eq(1 << (_KEY_BITS - 1)), above.eq(0)]
                with m.If(self.start):
                    m.d.comb += draw.load.eq(1)
                    m.next = "SETTLE"
                if self.spans:
                    with m.Elif(self.span_start):
                        m.d.comb += [begin.eq(1), span.begin.eq(1)]
                        m.next = "SPAN"
            if self.spans:
                with m.State("SPAN"):
                    m.d.comb += self.span_done.eq(span.done)
                    with m.If(span.done):
                        m.next = "IDLE"
            with m.State("SETTLE"):
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == _settle(columns) - 1):
                    with m.If(self.greedy):
                        m.d.comb += draw.preset.eq(1)
                        m.d.sync += self.done.eq(1)
                        m.next = "IDLE"
                    with m.Else():
                        m.d.comb += begin.eq(1)
                        m.next = "SUM"
                        with m.If(self.top_k != 0):
                            m.d.sync += candidate[-1].eq(1)
                            m.next = "SEARCH"
            with m.State("SEARCH"):
                m.d.comb += by_row.eq(1)
                with m.If(last[_COUNT - 1]):
                    m.d.comb += begin.eq(1)
                    m.d.sync += [
                        bit.eq(bit >> 1),
                        candidate.eq(candidate & ~(bit & (~enough).replicate(_KEY_BITS)) | bit >> 1),
                    ]
                    with m.If(~enough):
                        m.d.sync += above.eq(count)
                    with m.If(bit[0]):
                        m.next = "SUM"
            with m.State("SUM"):
                with m.If(last[-1]):
                    m.next = "TURN"
            with m.State("TURN"):
                m.d.comb += draw.summed.eq(1)
                m.d.sync += timer.eq(0)
                m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.d.comb += draw.multiply.eq(1)
                m.d.sync += timer.eq(timer + 1)
                with m.If(timer == Draw.scaling - 1):
                    m.d.comb += begin.eq(1)
                    m.next = "PICK"
            with m.State("PICK"):
                m.d.comb += draw.pick.eq(1)
                with m.If(last[-1]):
                    m.d.sync += self.done.eq(1)
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
