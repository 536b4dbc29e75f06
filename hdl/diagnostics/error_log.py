"""Count words that differ from what was written, and keep the first."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.diagnostics.march import Errors

__all__ = ["COUNT_BITS", "ErrorLog"]

COUNT_BITS = 32


class ErrorLog(wiring.Component):
    """Compares words; the results include a comparison three cycles after its ``valid``.

    Members
    -------
    clear : In(1)
        Forget all; comparisons of the two cycles before are lost.
    valid : In(1)
        Compare.
    address : In(address_bits)
        Where the word lies.
    expected : In(bits)
        The word that was written.
    found : In(bits)
        The word that was read.
    count : Out(32)
        Wrong words since ``clear``, which stop at all ones.
    first_address : Out(address_bits)
        Of the first wrong word; 0 while there is none, as the next two.
    first_expected : Out(bits)
        What it should have been.
    first_found : Out(bits)
        What it was.
    mask : Out(bits)
        Bits that were wrong in any word.
    """

    def __init__(self, bits: int, address_bits: int) -> None:
        super().__init__(
            {
                "clear": In(1),
                "valid": In(1),
                "address": In(address_bits),
                "expected": In(bits),
                "found": In(bits),
                "count": Out(COUNT_BITS),
                "first_address": Out(address_bits),
                "first_expected": Out(bits),
                "first_found": Out(bits),
                "mask": Out(bits),
            }
        )

    @staticmethod
    def model(compared: Iterable[tuple[int, int, int]]) -> Errors:
        """The log after comparisons of (address, expected, found)."""
        return Errors.of(compared)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Cycle 1: the difference. Cycle 2: whether there is any. Cycle 3: the log.
        valid, wrong = Signal(name="valid_1"), Signal(name="wrong")
        difference, differs = (
            Signal.like(self.mask, name="difference"),
            Signal.like(self.mask, name="differs"),
        )
        steps = []
        for name in ("address", "expected", "found"):
            source = getattr(self, name)
            one, two = Signal.like(source, name=f"{name}_1"), Signal.like(source, name=f"{name}_2")
            m.d.sync += [one.eq(source), two.eq(one)]
            steps.append(two)
        m.d.sync += [
            valid.eq(self.valid & ~self.clear),
            difference.eq(self.expected ^ self.found),
            differs.eq(difference),
            wrong.eq(valid & difference.any() & ~self.clear),
        ]
        with m.If(self.clear):
            m.d.sync += [
                signal.eq(0)
                for signal in (
                    self.count,
                    self.first_address,
                    self.first_expected,
                    self.first_found,
                    self.mask,
                )
            ]
        with m.Elif(wrong):
            m.d.sync += self.mask.eq(self.mask | differs)
            with m.If(~self.count.all()):
                m.d.sync += self.count.eq(self.count + 1)
            with m.If(~self.mask.any()):
                m.d.sync += [
                    self.first_address.eq(steps[0]),
                    self.first_expected.eq(steps[1]),
                    self.first_found.eq(steps[2]),
                ]
        return m
