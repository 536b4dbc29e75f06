"""The span of a token, its place among the frequencies of all, while the logits pass by once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.hdl.cells.memory import read_port
from ternac.hdl.cells.registers import delay
from ternac.link import SPAN_WORDS
from ternac.run.coding import EXP2, LEAST_SHIFT, LOG2_E, LOG2_E_SHIFT, frequencies, spans

__all__ = ["Frequency", "Span"]

_SIZE_BITS = LEAST_SHIFT + 1
_CODE_BITS = 31 - LOG2_E_SHIFT
"""A distance of 16 bits times `LOG2_E`, less the shift that is always made."""


class Frequency(wiring.Component):
    """``above`` = frequency less 1 of a logit ``distance`` below the largest (docs/compress.md).

    ``above`` belongs to the ``distance`` of :attr:`latency` cycles before; ``shift`` is constant while
    elements pass. The factor is 85 + 23 * 1024: five additions.

    Members
    -------
    distance : In(16)
        How far a logit is below the largest.
    shift : In(5)
        The program's ``logit_scale_bits``.
    above : Out(24)
        Its frequency less 1, `latency` cycles later.
    """

    latency = 9

    def __init__(self) -> None:
        assert LOG2_E == 85 + 23 * 1024
        super().__init__({"distance": In(16), "shift": In(5), "above": Out(LEAST_SHIFT)})

    @staticmethod
    def model(distance: np.ndarray, shift: int) -> np.ndarray:
        """Return the frequencies less 1, int64, of distances 0..65535."""
        logits = np.stack([np.zeros_like(distance), -np.asarray(distance, np.int64)], axis=1)
        return frequencies(logits, shift)[:, 1] - 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        d = self.distance

        # Cycles 1 to 3: the product.
        times_5, times_7 = Signal(19, name="times_5"), Signal(19, name="times_7")
        times_85, times_23 = Signal(23, name="times_85"), Signal(21, name="times_23")
        product = Signal(31, name="product")
        m.d.sync += [
            times_5.eq((d << 2) + d),
            times_7.eq((d << 3) - d),
            times_85.eq((times_5 << 4) + times_5),
            times_23.eq((delay(m, d, name="distance_1") << 4) + times_7),
            product.eq(times_85 + (times_23 << 10)),
        ]

        # Cycles 4 and 5: the shift, by eights and by ones.
        coarse, code = Signal(_CODE_BITS, name="coarse"), Signal(_CODE_BITS, name="code")
        m.d.sync += [
            coarse.eq(product[LOG2_E_SHIFT:] >> Cat(Const(0, 3), self.shift[3:])),
            code.eq(coarse >> self.shift[:3]),
        ]

        # Cycles 6 and 7: the table, and how often its value is halved.
        m.submodules.rom = rom = Memory(shape=16, depth=256, init=[int(value) for value in EXP2])
        read = read_port(rom)
        m.d.comb += [read.en.eq(1), read.addr.eq(code[:8])]
        mantissa = Signal(16, name="mantissa")
        halvings, none = Signal(5, name="halvings"), Signal(name="none")
        m.d.sync += [
            mantissa.eq(read.data),
            halvings.eq(delay(m, code[8:13], name="halvings_6")),
            none.eq(delay(m, (code[8:] >= LEAST_SHIFT), name="none_6")),
        ]

        # Cycles 8 and 9: halved, by eights and by ones.
        eights, ones = Signal(LEAST_SHIFT, name="eights"), Signal(3, name="ones")
        m.d.sync += [
            eights.eq(Mux(none, 0, Cat(Const(0, 8), mantissa) >> Cat(Const(0, 3), halvings[3:]))),
            ones.eq(halvings[:3]),
            self.above.eq(eights >> ones),
        ]
        return m


class Span(wiring.Component):
    """Adds up the frequencies of all tokens, and keeps the sum before that of ``token`` and its own.

    ``begin`` clears; then the elements come in order, ``valid`` with each ``distance`` and ``last`` with the
    last one. ``done`` is high for one cycle, `latency` cycles after that. The span of a token that is not
    among them is 0, 0 and the total.

    Parameters
    ----------
    elements : at most so many.

    Members
    -------
    begin : In(1)
        Pulse: clear.
    token : In(16)
        The token, constant from ``begin`` to ``done``.
    shift : In(5)
        The program's ``logit_scale_bits``, likewise.
    valid : In(1)
        There is an element.
    last : In(1)
        It is the last one.
    distance : In(16)
        How far its logit is below the largest.
    done : Out(1)
        Pulse: the span is complete, and stays until ``begin``.
    number : In(3)
        A word of it.
    word : Out(16)
        That word: 0 to 2 start, 3 and 4 size, 5 to 7 total, the lowest first.
    """

    latency = Frequency.latency + 1
    """Cycles from the last element to ``done``."""

    def __init__(self, *, elements: int) -> None:
        self.bits = _SIZE_BITS + ceil_log2(elements)
        super().__init__(
            {
                "begin": In(1),
                "token": In(16),
                "shift": In(5),
                "valid": In(1),
                "last": In(1),
                "distance": In(16),
                "done": Out(1),
                "number": In(3),
                "word": Out(16),
            }
        )

    @staticmethod
    def model(logits: Sequence[int] | np.ndarray, token: int, shift: int) -> tuple[int, int, int]:
        """Return start, size and total of a token."""
        start, size, total = spans(np.asarray(logits)[None], shift, [token])[0].tolist()
        return start, size, total

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.frequency = frequency = Frequency()
        m.d.comb += [frequency.distance.eq(self.distance), frequency.shift.eq(self.shift)]
        valid = delay(m, self.valid & ~self.begin, Frequency.latency, name="valid")
        last = delay(m, self.last & self.valid & ~self.begin, Frequency.latency, name="last")

        start, total = Signal(self.bits, name="start"), Signal(self.bits, name="total")
        size, index = Signal(_SIZE_BITS, name="size"), Signal(16, name="index")
        m.d.sync += self.done.eq(last)
        with m.If(self.begin):
            m.d.sync += [start.eq(0), size.eq(0), total.eq(0), index.eq(0)]
        with m.Elif(valid):
            # the sum of the two and the 1 is one adder with a carry
            m.d.sync += [total.eq(total + frequency.above + 1), index.eq(index + 1)]
            with m.If(index == self.token):
                m.d.sync += [start.eq(total), size.eq(frequency.above + 1)]

        span = Cat(
            start, Const(0, 48 - self.bits), size, Const(0, 32 - _SIZE_BITS), total, Const(0, 48 - self.bits)
        )
        m.d.comb += self.word.eq(Array(span.word_select(k, 16) for k in range(SPAN_WORDS))[self.number])
        return m
