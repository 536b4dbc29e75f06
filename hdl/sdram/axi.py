"""An SDRAM of 16 bits as an AXI4 read slave, and a port for the words that a host loads into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ternac.compile.sdram import BURST, SdramChip
from ternac.hdl.sdram.controller import SdramController, SdramPins, read_pipe, write_word
from ternac.hdl.stream.axi import OKAY, PORT_BITS, read_port

__all__ = ["SdramReadPort"]

_WORD_BITS = 16
_REQUESTS = 4
"""Bursts of the bus that wait, and as many whose words are on their way."""
_LENGTH_BITS = 14
"""Words of the longest burst, its first and last ones rounded to bursts of the chip, of the widest port."""
_REOPEN = 2
"""Cycles from a burst's last word on the pins to the command that opens another row."""
_WAITING = 32
"""Words to write that wait while a row is opened or refreshed."""


class SdramReadPort(wiring.Component):
    """Answers AXI4 bursts in order from an SDRAM, a beat for every ``data_bits / 16`` words that it sends.

    A burst that begins where the chip's bursts of eight words before it have ended is read on without a
    pause; another place costs the cycles of `jump_cycles`. Beats leave as the words come, so the other side
    must take each at once, as `AxiReader` and `ReadArbiter` do: RREADY is not looked at.

    :param data_bits: width of the port, of 32 to 512.
    :param chip: its timing.   :param clock_hz: of ``sync``.

    Members
    -------
    s_axi_* : read_port, flipped
        AXI4 read slave; the byte address of a word is twice its number.
    write : In(stream.Signature(write_word))
        Words to write. They wait until nothing is read.
    written : Out(1)
        No word waits to be written.
    idle : Out(1)
        No request waits, and no beat is on its way.
    ready : Out(1)
        The chip has been initialised; nothing is answered before.
    pins : Out(SdramPins)
        The chip.
    """

    def __init__(self, data_bits: int, chip: SdramChip, clock_hz: int) -> None:
        if data_bits not in PORT_BITS:
            raise ValueError(f"data_bits must be one of {PORT_BITS}, not {data_bits}")
        self.data_bits, self.address_bits = data_bits, chip.word_bits + 1
        self.ratio = data_bits // _WORD_BITS
        self.controller = SdramController(chip, clock_hz)
        port = read_port("s_axi", address_bits=self.address_bits, data_bits=data_bits)
        super().__init__(
            {
                **{name: member.flip() for name, member in port.items()},
                "write": In(stream.Signature(write_word(chip))),
                "written": Out(1),
                "idle": Out(1),
                "ready": Out(1),
                "pins": Out(SdramPins),
            }
        )

    @property
    def jump_cycles(self) -> int:
        """Cycles without a word where a burst begins elsewhere, if no refresh comes in between."""
        t = self.controller.cycles
        return read_pipe(t.cas) + t.rcd + _REOPEN

    def model(self, words: Mapping[int, int], requests: Sequence[tuple[int, int]]) -> list[tuple[int, bool]]:
        """Return (data, last) of the beats of requests (byte address, beats); a word never written is 0."""
        found = []
        for address, beats in requests:
            for beat in range(beats):
                first = address // 2 + beat * self.ratio
                data = sum(words.get(first + i, 0) << _WORD_BITS * i for i in range(self.ratio))
                found.append((data, beat == beats - 1))
        return found

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.controller = chip = self.controller
        wiring.connect(m, chip.pins, wiring.flipped(self.pins))
        m.submodules.writes = writes = SyncFIFOBuffered(
            width=len(self.write.payload.as_value()), depth=_WAITING
        )
        m.d.comb += [
            self.ready.eq(chip.ready),
            writes.w_data.eq(self.write.payload), writes.w_en.eq(self.write.valid),
            self.write.ready.eq(writes.w_rdy),
            chip.write.payload.eq(writes.r_data), chip.write.valid.eq(writes.r_rdy),
            writes.r_en.eq(chip.write.ready),
            self.written.eq(writes.level == 0),
        ]  # fmt: skip
        m.submodules.coming = coming = SyncFIFO(width=3 + _LENGTH_BITS, depth=_REQUESTS)
        self._ask(m, coming)
        self._answer(m, coming)
        return m

    def _ask(self, m: Module, coming: SyncFIFO) -> None:
        """Requests, one after the other, as bursts of the chip, asked for as fast as it takes them."""
        chip = self.controller
        bits = len(chip.burst)
        m.submodules.requests = requests = SyncFIFO(width=bits + 3 + 8, depth=_REQUESTS)
        at, left = Signal(bits, name="at"), Signal(_LENGTH_BITS - 3, name="left")
        begun, jump, take = Signal(name="begun"), Signal(name="jump"), Signal(name="take")
        length, first = requests.r_data[:8], requests.r_data[8:11]
        burst = requests.r_data[11:]
        words = Signal(_LENGTH_BITS, name="words")  # from the first burst's begin to the request's end
        shift = self.ratio.bit_length() - 1
        m.d.comb += [
            requests.w_data.eq(Cat(self.s_axi_arlen, self.s_axi_araddr[1:])),
            requests.w_en.eq(self.s_axi_arvalid),
            self.s_axi_arready.eq(requests.w_rdy),
            words.eq(Cat(Const(0, shift), length + 1) + first),
            take.eq(requests.r_rdy & coming.w_rdy & (left == 0)),
            requests.r_en.eq(take),
            self.idle.eq(~requests.r_rdy & (left == 0) & ~coming.r_rdy & ~self.s_axi_rvalid),
            coming.w_en.eq(take), coming.w_data.eq(Cat(first, words)),
            chip.burst.eq(at), chip.restart.eq(jump),
            chip.room.eq((left != 0) & ~jump),
        ]  # fmt: skip
        m.d.sync += jump.eq(0)
        with m.If(take):
            m.d.sync += [
                left.eq((words + (BURST - 1)) >> 3), at.eq(burst), begun.eq(1),
                jump.eq(~begun | (burst != at)),
            ]  # fmt: skip
        with m.Elif(chip.asked):
            m.d.sync += [left.eq(left - 1), at.eq(at + 1)]

    def _answer(self, m: Module, coming: SyncFIFO) -> None:
        """Words as they come, those before and behind the request's dropped, as beats."""
        chip = self.controller
        first, words = coming.r_data[:3], coming.r_data[3:]
        index, following = Signal(_LENGTH_BITS, name="index"), Signal(_LENGTH_BITS, name="following")
        below = Signal(self.data_bits - _WORD_BITS, name="below")
        whole, end = Signal(name="whole"), Signal(name="end")
        shift = self.ratio.bit_length() - 1
        m.d.comb += [
            following.eq(index + 1),
            whole.eq(following[:shift] == 0),
            end.eq((following[:3] == 0) & (following >= words)),
            coming.r_en.eq(chip.valid & end),
            self.s_axi_rresp.eq(OKAY),
        ]
        m.d.sync += [
            self.s_axi_rvalid.eq(chip.valid & whole & (index >= first) & (index < words)),
            self.s_axi_rdata.eq(Cat(below, chip.data)),
            self.s_axi_rlast.eq(following == words),
        ]
        with m.If(chip.valid):
            m.d.sync += [index.eq(following), below.eq(Cat(below, chip.data)[_WORD_BITS:])]
            with m.If(end):
                m.d.sync += index.eq(0)
