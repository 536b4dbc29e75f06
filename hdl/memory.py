"""One-write one-read memories: block RAM, single-port RAM, distributed RAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ternac.hdl.tech import Technology

__all__ = ["STORAGES", "BlockRam", "BramSlice"]

STORAGES = ("block", "distributed", "spram")

_SPRAM_DEPTH = 1 << 14
_SPRAM_BITS = 16
_DP16KD_MODES = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_INITVALS, _INITVAL_BITS = 64, 320


@dataclass(frozen=True)
class BramSlice:
    """What one block RAM cell of an ECP5 netlist holds.

    ``instance`` is the cell's name inside its ``BlockRam``; after flattening, the netlist's cell is
    ``<path of the BlockRam>.<instance>``. Bits ``first_bit .. first_bit + bits - 1`` of word i of block
    ``block`` of memory ``memory`` are word i of the cell, whose port is ``cell_bits`` wide (18, 9, 4, 2 or 1).
    """

    instance: str
    memory: str
    block: int
    words: int
    first_bit: int
    bits: int
    cell_bits: int

    def cut(self, words: Iterable[int]) -> list[int]:
        """The cell's words out of the block's words."""
        mask = (1 << self.bits) - 1
        return [word >> self.first_bit & mask for word in words]

    def initvals(self, words: Sequence[int]) -> dict[str, int]:
        """Parameters ``INITVAL_00`` .. ``INITVAL_3F`` (320 bits each) for the *block's* words; the rest is 0.

        A DP16KD holds 2048 units of 9 bits. Two units make 18 bits, padded to 20; 16 of those make one
        parameter. Words of 4 bits or fewer leave the ninth bit of each unit unused.
        """
        units = self.units(words)
        params = {}
        for index in range(_INITVALS):
            value = 0
            for unit in range(32):
                value |= units[index * 32 + unit] << (unit // 2 * 20 + unit % 2 * 9)
            params[f"INITVAL_{index:02X}"] = value
        return params

    def units(self, words: Sequence[int]) -> list[int]:
        """The cell's 2048 units of 9 bits, as a bitstream lists them, for the block's words; the rest is 0."""
        cut = self.cut(words)
        if self.cell_bits == 18:
            units = [word >> shift & 0x1FF for word in cut for shift in (0, 9)]
        elif self.cell_bits == 9:
            units = cut
        else:
            per_unit = 8 // self.cell_bits
            cut += [0] * (-len(cut) % per_unit)
            units = [sum(cut[at + i] << i * self.cell_bits for i in range(per_unit))
                     for at in range(0, len(cut), per_unit)]
        return units + [0] * (2048 - len(units))


class BlockRam(wiring.Component):
    """A memory of ``depth`` words of ``width`` bits, one write and one read port, both in ``sync``.

    ``rd_data`` at cycle t + LATENCY is the word at ``rd_addr`` of cycle t, as of the writes of the
    cycles before t; a read that meets a write of the same address in the same cycle returns anything.
    LATENCY is 2 (array, then output register) in every form.

    :param storage: ``"block"``; ``"distributed"`` (LUT RAM on ECP5, block RAM on iCE40); ``"spram"``
        (iCE40 SB_SPRAM256KA, single port, at most 16384 words; what a read returns in a cycle that writes is
        unspecified; takes no ``init``; portable RAM elsewhere).
    :param init: first words; the rest is 0.
    :param memory: name of the memory and ``block``: index of this block in it, both only for the
        names of the cells (``slices``).

    The ECP5 block form is DP16KD cells with the output register used, as wide as the depth allows: 18 bits
    to 1024 words, 9 to 2048, then 4, 2, 1 to 16384.
    """

    LATENCY = 2

    def __init__(
        self,
        width: int,
        depth: int,
        *,
        tech: Technology = Technology.PORTABLE,
        storage: str = "block",
        init: Iterable[int] = (),
        memory: str = "ram",
        block: int = 0,
    ) -> None:
        self.width, self.depth, self.tech, self.storage = width, depth, tech, storage
        self.init, self.memory, self.block = tuple(init), memory, block
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width}")
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}, not {storage!r}")
        if len(self.init) > depth:
            raise ValueError(f"{len(self.init)} initial words exceed depth {depth}")
        if any(not 0 <= word < 1 << width for word in self.init):
            raise ValueError(f"an initial word does not fit {width} bits")
        if storage == "spram" and self.init:
            raise ValueError("single-port RAM cannot be initialized")
        if storage == "spram" and depth > _SPRAM_DEPTH:
            raise ValueError(f"single-port RAM holds at most {_SPRAM_DEPTH} words, not {depth}")
        if tech is Technology.ECP5 and storage == "block" and depth > _DP16KD_MODES[-1][0]:
            raise ValueError(f"an ECP5 block RAM holds at most {_DP16KD_MODES[-1][0]} words, not {depth}")
        super().__init__({
            "wr_en": In(1),
            "wr_addr": In(range(depth)),
            "wr_data": In(width),
            "rd_addr": In(range(depth)),
            "rd_data": Out(width),
        })

    @property
    def slices(self) -> tuple[BramSlice, ...]:
        """The block RAM cells of the ECP5 form, lowest bits first; empty for other forms."""
        if self.tech is not Technology.ECP5 or self.storage != "block":
            return ()
        cell_bits = next(bits for words, bits in _DP16KD_MODES if self.depth <= words)
        return tuple(
            BramSlice(f"bram_{self.memory}_{self.block}_{first}", self.memory, self.block, self.depth, first,
                      min(cell_bits, self.width - first), cell_bits)
            for first in range(0, self.width, cell_bits)
        )

    def model(self, writes: Sequence[tuple[bool, int, int]], reads: Sequence[int]) -> list[int]:
        """What each cycle's read address returns (LATENCY later); one write (en, addr, data) a cycle."""
        words = list(self.init) + [0] * (self.depth - len(self.init))
        out = []
        for (enable, address, value), read in zip(writes, reads, strict=True):
            out.append(words[read])
            if enable:
                words[address] = value
        return out

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.tech is Technology.ECP5 and self.storage == "block":
            for cell in self.slices:
                m.submodules[cell.instance] = self._dp16kd(cell)
        elif self.tech is Technology.ICE40 and self.storage == "spram":
            self._spram(m)
        else:
            self._portable(m)
        return m

    def _portable(self, m: Module) -> None:
        style = {"ram_style": "distributed"} if self.tech is Technology.ECP5 else {}
        m.submodules.array = array = Memory(shape=self.width, depth=self.depth, init=self.init, attrs=style)
        write, read = array.write_port(), array.read_port()
        m.d.comb += [
            write.en.eq(self.wr_en),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
            read.addr.eq(self.rd_addr),
            read.en.eq(~self.wr_en if self.storage == "spram" else 1),
        ]
        m.d.sync += self.rd_data.eq(read.data)

    def _spram(self, m: Module) -> None:
        address = Signal(14)
        m.d.comb += address.eq(self.rd_addr)
        with m.If(self.wr_en):
            m.d.comb += address.eq(self.wr_addr)
        for first in range(0, self.width, _SPRAM_BITS):
            bits = min(_SPRAM_BITS, self.width - first)
            data = Signal(_SPRAM_BITS, name=f"spram_data_{first}")
            m.submodules[f"spram_{self.memory}_{self.block}_{first}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(), i_ADDRESS=address, i_WREN=self.wr_en, i_CHIPSELECT=Const(1),
                i_DATAIN=self.wr_data[first:first + bits], i_MASKWREN=Const(0xF, 4),
                i_STANDBY=Const(0), i_SLEEP=Const(0), i_POWEROFF=Const(1), o_DATAOUT=data,
            )
            m.d.sync += self.rd_data[first:first + bits].eq(data[:bits])

    def _dp16kd(self, cell: BramSlice) -> Instance:
        """Port A writes, port B reads through its output register."""
        low = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[cell.cell_bits]
        # The two lowest address bits of an 18-bit port are its byte enables.
        below = {18: Const(0b0011, 4), 9: Const(0, 3)}.get(cell.cell_bits, Const(0, low))
        params: dict[str, Any] = {
            "p_DATA_WIDTH_A": cell.cell_bits, "p_DATA_WIDTH_B": cell.cell_bits,
            "p_REGMODE_A": "NOREG", "p_REGMODE_B": "OUTREG",
            "p_RESETMODE": "SYNC", "p_ASYNC_RESET_RELEASE": "SYNC", "p_GSR": "DISABLED",
            "p_CSDECODE_A": "0b000", "p_CSDECODE_B": "0b000",
            "p_WRITEMODE_A": "NORMAL", "p_WRITEMODE_B": "NORMAL",
            "p_CLKAMUX": "CLKA", "p_CLKBMUX": "CLKB",
        }
        for name, value in cell.initvals(self.init).items():
            params[f"p_{name}"] = Const(value, _INITVAL_BITS)
        write, read = Cat(below, self.wr_addr, Const(0, 14))[:14], Cat(below, self.rd_addr, Const(0, 14))[:14]
        data = Cat(self.wr_data[cell.first_bit:cell.first_bit + cell.bits], Const(0, 18))[:18]
        ports: dict[str, Any] = {}
        for bit in range(14):
            ports[f"i_ADA{bit}"], ports[f"i_ADB{bit}"] = write[bit], read[bit]
        for bit in range(18):
            ports[f"i_DIA{bit}"] = data[bit] if bit < cell.bits else Const(0)
            ports[f"i_DIB{bit}"] = Const(0)
            if bit < cell.bits:
                ports[f"o_DOB{bit}"] = self.rd_data[cell.first_bit + bit]
        for port, enable in (("A", self.wr_en), ("B", Const(0))):
            ports |= {
                f"i_CLK{port}": ClockSignal(), f"i_CE{port}": Const(1), f"i_OCE{port}": Const(1),
                f"i_WE{port}": enable, f"i_RST{port}": Const(0),
                **{f"i_CS{port}{bit}": Const(0) for bit in range(3)},
            }
        return Instance("DP16KD", **params, **ports)
