"""Tests an SDRAM at the full rate of its pins: a pattern is written word after word, then read as one
stream.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.compile.sdram import BURST, SdramChip
from ternac.hdl.diagnostics.error_log import COUNT_BITS, ErrorLog
from ternac.hdl.diagnostics.march import Errors, MarchElement
from ternac.hdl.diagnostics.patterns import SEED_BITS, PatternSource
from ternac.hdl.sdram.controller import SdramController, SdramPins

__all__ = ["WORD_BITS", "SdramTest"]

WORD_BITS = 16


class SdramTest(wiring.Component):
    """Runs a `MarchElement` that either writes or checks, upwards, in whole bursts.

    The controller is the engine's (`ternac.hdl.sdram.controller`), so that commands, refreshes and latency
    are those of the engine's bitstream.

    Parameters: ``chip`` and ``clock_hz`` for `SdramController`.

    Members
    -------
    reset : In(1)
        Initialise the chip anew, as at power-up; not while ``busy``.
    ready : Out(1)
        The chip has been initialised; an element that is started before waits for it.
    start : In(1)
        Pulse while not ``busy``: begin. All other inputs stay as they are until ``busy`` is 0 again.
    check : In(5)
        1 compares; above it the kind of pattern and whether it is inverted.
    write : In(5)
        1 writes, and then nothing is compared; the same.
    seed : In(32)
        Of the pattern.
    first : In(word_bits)
        First word, a multiple of `BURST`.
    count : In(32)
        Words, a multiple of `BURST`, at least one.
    busy : Out(1)
        From the cycle after ``start`` on.
    errors : Out(32)
        Wrong words, as `ErrorLog`'s ``count``; of the last element, as the next four.
    first_address : Out(word_bits)
        As in `ErrorLog`.
    first_expected : Out(16)
        As in `ErrorLog`.
    first_found : Out(16)
        As in `ErrorLog`.
    mask : Out(16)
        As in `ErrorLog`.
    pins : Out(SdramPins)
        The chip.
    """

    def __init__(self, chip: SdramChip, clock_hz: int) -> None:
        self.chip = chip
        self.controller = SdramController(chip, clock_hz)
        super().__init__(
            {
                "reset": In(1),
                "ready": Out(1),
                "start": In(1),
                "check": In(5),
                "write": In(5),
                "seed": In(SEED_BITS),
                "first": In(chip.word_bits),
                "count": In(COUNT_BITS),
                "busy": Out(1),
                "errors": Out(COUNT_BITS),
                "first_address": Out(chip.word_bits),
                "first_expected": Out(WORD_BITS),
                "first_found": Out(WORD_BITS),
                "mask": Out(WORD_BITS),
                "pins": Out(SdramPins),
            }
        )

    def model(self, contents: MutableSequence[int], element: MarchElement) -> Errors:
        """Run ``element`` on the chip's words."""
        return element.run(contents, WORD_BITS, self.chip.word_bits)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        chip = self.controller
        m.submodules.controller = ResetInserter(self.reset)(chip)
        m.submodules.source = source = PatternSource(WORD_BITS, self.chip.word_bits)
        m.submodules.log = log = ErrorLog(WORD_BITS, self.chip.word_bits)
        connect(m, chip.pins, flipped(self.pins))
        writes, following = self.write[0], Signal(name="following")
        which = Mux(writes, self.write, self.check)
        begin = Signal(name="begin")
        m.d.comb += [
            source.load.eq(begin), source.step.eq(following), source.kind.eq(which[1:4]),
            source.invert.eq(which[4]), source.seed.eq(self.seed), source.first.eq(self.first),
            log.clear.eq(begin), log.address.eq(source.address), log.expected.eq(source.word),
            log.found.eq(chip.data), self.errors.eq(log.count), self.first_address.eq(log.first_address),
            self.first_expected.eq(log.first_expected), self.first_found.eq(log.first_found),
            self.mask.eq(log.mask), self.ready.eq(chip.ready), chip.burst.eq(self.first >> 3),
            chip.write.payload.address.eq(source.address), chip.write.payload.word.eq(source.word),
        ]  # fmt: skip
        left, bursts = Signal(COUNT_BITS, name="left"), Signal(COUNT_BITS - 3, name="bursts")
        settle = Signal(range(5), name="settle")
        m.d.comb += self.busy.eq(1)
        with m.If(chip.asked):
            m.d.sync += bursts.eq(bursts - 1)
        with m.FSM(name="control"):
            with m.State("IDLE"):
                m.d.comb += [self.busy.eq(0), begin.eq(self.start)]
                with m.If(self.start):
                    m.d.sync += [left.eq(self.count), settle.eq(4)]
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                with m.If(chip.ready):
                    with m.If(writes):
                        m.next = "WRITE"
                    with m.Else():
                        m.d.comb += chip.restart.eq(1)
                        m.d.sync += bursts.eq(self.count >> 3)
                        m.next = "FLUSH"
            with m.State("WRITE"):
                m.d.comb += [chip.write.valid.eq(1), following.eq(chip.write.ready)]
                with m.If(chip.write.ready):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "END"
            with m.State("FLUSH"):  # words before it are old ones
                with m.If(chip.flush):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += [
                    chip.room.eq(bursts.any()), log.valid.eq(chip.valid & self.check[0]),
                    following.eq(chip.valid),
                ]  # fmt: skip
                with m.If(chip.valid):
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 1):
                        m.next = "END"
            with m.State("END"):  # until the log has it
                m.d.sync += settle.eq(settle - 1)
                with m.If(settle == 0):
                    m.next = "IDLE"
        return m


assert BURST == 1 << 3
