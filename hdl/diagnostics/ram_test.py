"""Tests on-chip memories, an address at a time, in any march order."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.error_log import COUNT_BITS, ErrorLog
from ternac.hdl.diagnostics.march import Errors, MarchElement
from ternac.hdl.diagnostics.patterns import SEED_BITS, PatternSource

__all__ = ["RamArray", "RamShape", "RamTest"]


@dataclass(frozen=True, kw_only=True)
class RamShape:
    """Memory under test: ``banks`` of ``depth`` words (a power of two) of ``bits`` bits, one behind the
    other.
    """

    name: str
    bits: int
    depth: int
    banks: int
    storage: str = "block"

    @property
    def words(self) -> int:
        """Words in all."""
        return self.depth * self.banks

    @property
    def address_bits(self) -> int:
        """Width of an address."""
        return (self.words - 1).bit_length()


class RamArray(wiring.Component):
    """Block RAMs one behind the other, read through a register more than `BlockRam`.

    Members
    -------
    wr_en : In(1)
        Write a word.
    wr_addr : In(address_bits)
        Its address.
    wr_data : In(bits)
        The word.
    rd_addr : In(address_bits)
        The address to read.
    rd_data : Out(bits)
        The word there, LATENCY cycles later.
    """

    LATENCY = BlockRam.LATENCY + 1

    def __init__(self, shape: RamShape, *, tech: Technology = Technology.PORTABLE, block: int = 0) -> None:
        self.shape = shape
        self.banks = [
            BlockRam(
                shape.bits, shape.depth, tech=tech, storage=shape.storage, memory="TEST", block=block + i
            )
            for i in range(shape.banks)
        ]
        super().__init__(
            {
                "wr_en": In(1),
                "wr_addr": In(shape.address_bits),
                "wr_data": In(shape.bits),
                "rd_addr": In(shape.address_bits),
                "rd_data": Out(shape.bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low = (self.shape.depth - 1).bit_length()
        chosen = delay(m, self.rd_addr[low:], BlockRam.LATENCY, name="chosen", reset_less=True)
        for i, bank in enumerate(self.banks):
            m.submodules[f"bank_{i}"] = bank
            m.d.comb += [
                bank.wr_en.eq(self.wr_en & (self.wr_addr[low:] == i)),
                bank.wr_addr.eq(self.wr_addr),
                bank.wr_data.eq(self.wr_data),
                bank.rd_addr.eq(self.rd_addr),
            ]
        m.d.sync += self.rd_data.eq(Array(bank.rd_data for bank in self.banks)[chosen])
        return m


class RamTest(wiring.Component):
    """Runs a `MarchElement` on one of several memories. Patterns are as wide as the widest, and cut for
    others.

    Members
    -------
    start : In(1)
        Pulse while not ``busy``: begin. All other inputs stay as they are until ``busy`` is 0 again.
    memory : In(range(memories))
        Which memory.
    check : In(5)
        1 compares; above it the kind of pattern and whether it is inverted.
    write : In(5)
        1 writes; the same.
    seed : In(32)
        Of both patterns.
    first : In(address_bits)
        First address.
    count : In(32)
        Words, at least 1.
    down : In(1)
        Addresses go down.
    busy : Out(1)
        From the cycle after ``start`` on.
    errors : Out(32)
        Wrong words, as `ErrorLog`'s ``count``; of the last element, as the next four.
    first_address : Out(address_bits)
        As in `ErrorLog`.
    first_expected : Out(bits)
        As in `ErrorLog`.
    first_found : Out(bits)
        As in `ErrorLog`.
    mask : Out(bits)
        As in `ErrorLog`.
    """

    def __init__(self, shapes: list[RamShape], *, tech: Technology = Technology.PORTABLE) -> None:
        self.shapes = shapes
        self.bits = max(shape.bits for shape in shapes)
        self.address_bits = max(shape.address_bits for shape in shapes)
        firsts = [sum(shape.banks for shape in shapes[:i]) for i in range(len(shapes))]
        self.arrays = [
            RamArray(shape, tech=tech, block=first) for shape, first in zip(shapes, firsts, strict=True)
        ]
        super().__init__(
            {
                "start": In(1),
                "memory": In(range(max(2, len(shapes)))),
                "check": In(5),
                "write": In(5),
                "seed": In(SEED_BITS),
                "first": In(self.address_bits),
                "count": In(COUNT_BITS),
                "down": In(1),
                "busy": Out(1),
                "errors": Out(COUNT_BITS),
                "first_address": Out(self.address_bits),
                "first_expected": Out(self.bits),
                "first_found": Out(self.bits),
                "mask": Out(self.bits),
            }
        )

    def model(self, memory: int, contents: MutableSequence[int], element: MarchElement) -> Errors:
        """Run ``element`` on ``contents``, the words of memory number ``memory``."""
        return element.run(contents, self.bits, self.address_bits, width=self.shapes[memory].bits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.expected = expected = PatternSource(self.bits, self.address_bits)
        m.submodules.written = written = PatternSource(self.bits, self.address_bits)
        m.submodules.log = log = ErrorLog(self.bits, self.address_bits)
        begin, following = Signal(name="begin"), Signal(name="following")
        for source, which in ((expected, self.check), (written, self.write)):
            m.d.comb += [
                source.load.eq(begin), source.step.eq(following), source.kind.eq(which[1:4]),
                source.invert.eq(which[4]), source.down.eq(self.down), source.seed.eq(self.seed),
                source.first.eq(self.first),
            ]  # fmt: skip
        m.d.comb += [
            log.clear.eq(begin), self.errors.eq(log.count), self.first_address.eq(log.first_address),
            self.first_expected.eq(log.first_expected), self.first_found.eq(log.first_found),
            self.mask.eq(log.mask),
        ]  # fmt: skip
        wr_en = Signal(name="wr_en")
        found: list[Value] = []
        widths: list[Value] = []
        for i, (shape, array) in enumerate(zip(self.shapes, self.arrays, strict=True)):
            m.submodules[f"array_{i}"] = array
            m.d.comb += [
                array.wr_en.eq(wr_en & (self.memory == i)), array.wr_addr.eq(expected.address),
                array.wr_data.eq(written.word), array.rd_addr.eq(expected.address),
            ]  # fmt: skip
            found.append(array.rd_data)
            widths.append(Const((1 << shape.bits) - 1, self.bits))
        width: Value = Array(widths)[self.memory] if len(widths) > 1 else widths[0]
        m.d.comb += [
            log.address.eq(expected.address),
            log.expected.eq(expected.word & width),
            log.found.eq(Array(found)[self.memory] if len(found) > 1 else found[0]),
        ]
        left = Signal(COUNT_BITS, name="left")
        wait = Signal(range(max(RamArray.LATENCY, 4) + 1), name="wait")
        m.d.comb += self.busy.eq(1)
        with m.If(wait.any()):
            m.d.sync += wait.eq(wait - 1)
        with m.FSM(name="control"):
            with m.State("IDLE"):
                m.d.comb += [self.busy.eq(0), begin.eq(self.start)]
                with m.If(self.start):
                    m.d.sync += [left.eq(self.count), wait.eq(RamArray.LATENCY)]
                    m.next = "READ"
            with m.State("READ"):  # the address stands since the cycle before
                with m.If(wait == 0):
                    m.d.comb += log.valid.eq(self.check[0])
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [wr_en.eq(self.write[0]), following.eq(1)]
                m.d.sync += [left.eq(left - 1), wait.eq(Mux(left == 1, 4, RamArray.LATENCY))]
                with m.If(left == 1):
                    m.next = "END"
                with m.Else():
                    m.next = "READ"
            with m.State("END"):  # until the log has it
                with m.If(wait == 0):
                    m.next = "IDLE"
        return m
