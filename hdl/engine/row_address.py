"""Row address: digits to the word of a memory row, one a cycle, by shifts and two adders."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.isa import DIGIT_BITS
from ternac.hdl.cells.registers import delay
from ternac.hdl.engine.ports import ROW_ADDRESS_BITS

__all__ = ["ADDRESS_LATENCY", "RowAddressFormer"]

ADDRESS_LATENCY = 3
"""Cycles from a step to its address."""


class RowAddressFormer(wiring.Component):
    """Address of a head's word for a slot, one head a cycle.

    Of head k, by the rule of docs/numerics.md, "Addresses"::

        local   = a & mask                            mask = 2^bits - 1
                  (a & mask) << bits | b & mask       with two digits
        address = base + slot + ((shared ? 0 : k * R) + local << stride)   R = 2^bits, or 2^(2 * bits)

    modulo 2^16. The digits of a step come a cycle after it; the settings stand still from two cycles before
    the first step until the last address is there.

    Members
    -------
    step : In(1)
        A head. The two members below come with it.
    first : In(1)
        It is head 0 of a slot.
    slot : In(16)
        The slot, taken with ``first``.
    a : In(10)
        The first digit, a cycle after the step.
    b : In(10)
        The second one, likewise.
    two : In(1)
        An address has two digits.
    shared : In(1)
        All heads have one region.
    bits : In(4)
        Bits of a digit that count, 1..10.
    stride : In(3)
        log2 of the words that a row takes.
    base : In(16)
        Word of row 0, slot 0.
    valid : Out(1)
        ``step``, `ADDRESS_LATENCY` cycles later.
    address : Out(16)
        Its address, in that cycle.
    """

    AREA_PART = "rows"

    def __init__(self) -> None:
        super().__init__(
            {
                "step": In(1),
                "first": In(1),
                "slot": In(ROW_ADDRESS_BITS),
                "a": In(DIGIT_BITS),
                "b": In(DIGIT_BITS),
                "two": In(1),
                "shared": In(1),
                "bits": In(4),
                "stride": In(3),
                "base": In(ROW_ADDRESS_BITS),
                "valid": Out(1),
                "address": Out(ROW_ADDRESS_BITS),
            }
        )

    @staticmethod
    def model(
        a: Sequence[int],
        b: Sequence[int] | None,
        slot: int,
        *,
        bits: int,
        shared: bool,
        stride: int,
        base: int,
    ) -> list[int]:
        """The addresses of all heads."""
        mask, region = (1 << bits) - 1, 1 << bits * (1 if b is None else 2)
        found = []
        for k, digit in enumerate(a):
            local = digit & mask if b is None else (digit & mask) << bits | b[k] & mask
            row = local + (0 if shared else k * region)
            found.append((base + slot + (row << stride)) & 0xFFFF)
        return found

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # From the settings: the mask, and the words of a head's region.
        mask, region = Signal(DIGIT_BITS, name="mask"), Signal(ROW_ADDRESS_BITS, name="region")
        size = Signal(5, name="size")
        m.d.sync += [
            mask.eq((1 << self.bits) - 1),
            size.eq(Mux(self.two, self.bits << 1, self.bits) + self.stride),
            region.eq(Mux(self.shared, 0, 1 << size)),
        ]

        # Cycle 1: where the head's region begins.  Cycle 2: the row in it.  Cycle 3: the address.
        start = Signal(ROW_ADDRESS_BITS, name="start")
        with m.If(self.step):
            m.d.sync += start.eq(Mux(self.first, self.base + self.slot, start + region))
        high, low = self.a & mask, Mux(self.two, self.b, self.a) & mask
        local = Signal(ROW_ADDRESS_BITS, name="local")
        m.d.sync += [
            local.eq(Mux(self.two, high << self.bits, 0) | low),
            self.address.eq(delay(m, start, name="start_late", reset_less=True) + (local << self.stride)),
        ]
        m.d.comb += self.valid.eq(delay(m, self.step, ADDRESS_LATENCY, name="stepped"))
        return m
