"""One-write one-read memories: block RAM, single-port RAM, distributed RAM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.hdl.cells.bram_cells import (
    BramSlice,
    dp16kd,
    ebr,
    max_depth,
    pair_of,
    paired_dp16kd,
    sdp,
    slices_of,
)
from ternac.hdl.cells.registers import delay
from ternac.hdl.cells.tech import Technology

__all__ = ["STORAGES", "BlockRam", "BramSlice", "MemoryBank", "PairedRam", "read_port", "write_port"]

STORAGES = ("block", "distributed", "spram")

_FORMS = {Technology.ECP5: dp16kd, Technology.ICE40: ebr, Technology.GOWIN: sdp}
"""What makes a block RAM cell."""
_SPRAM_DEPTH = 1 << 14
_SPRAM_BITS = 16


def read_port(memory: Memory, *, domain: str = "sync", name: str = "read") -> ReadPort:
    """Request a read port whose signals are named here: Amaranth takes the names from the caller's bytecode,
    which differs from one version of Python to the next.
    """
    signature = ReadPort.Signature(addr_width=ceil_log2(memory.depth), shape=memory.shape)
    return ReadPort(signature, memory=memory, domain=domain, path=(name,))


def write_port(memory: Memory, *, granularity: int | None = None, name: str = "write") -> WritePort:
    """Request a write port whose signals are named here, as in `read_port`."""
    signature = WritePort.Signature(
        addr_width=ceil_log2(memory.depth), shape=memory.shape, granularity=granularity
    )
    return WritePort(signature, memory=memory, domain="sync", path=(name,))


def _ports(width: int, depth: int) -> dict[str, wiring.Member]:
    """One write and one read port."""
    return {
        "wr_en": In(1),
        "wr_addr": In(range(depth)),
        "wr_data": In(width),
        "rd_addr": In(range(depth)),
        "rd_data": Out(width),
    }


class BlockRam(wiring.Component):
    """A memory of ``depth`` words of ``width`` bits, one write and one read port, both in ``sync``.

    ``rd_data`` at cycle t + LATENCY is the word at ``rd_addr`` of cycle t, as of the writes of the
    cycles before t; a read that meets a write of the same address in the same cycle returns anything.
    LATENCY is 2 (array, then output register) in every form.

    :param storage: ``"block"``; ``"distributed"`` (LUT RAM, on iCE40 block RAM); ``"spram"``
        (iCE40 SB_SPRAM256KA, single port, at most 16384 words; what a read returns in a cycle that writes is
        unspecified; takes no ``init``; portable RAM elsewhere).
    :param init: first words; the rest is 0.
    :param memory: name of the memory and ``block``: index of this block in it, both only for the
        names of the cells (``slices``).

    Block RAM is instantiated, because yosys' inference adds logic for reads that meet writes. A DP16KD
    (ECP5, output register used) is 18 bits wide to 1024 words, 9 to 2048, then 4, 2, 1 to 16384, an SDPX9B or
    SDPB (Gowin) likewise; an
    SB_RAM40_4K (iCE40) is 16 bits wide to 256 words, then 8, 4, 2 to 2048.

    Members
    -------
    wr_en : In(1)
        Write a word.
    wr_addr : In(range(depth))
        Its address.
    wr_data : In(width)
        The word.
    rd_addr : In(range(depth))
        The address to read.
    rd_data : Out(width)
        The word there, LATENCY cycles later.
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
        if self._cells and depth > max_depth(tech):
            most = max_depth(tech)
            raise ValueError(f"a block RAM of {tech.value} holds at most {most} words, not {depth}")
        super().__init__(_ports(width, depth))

    @property
    def _cells(self) -> bool:
        if self.tech in (Technology.ECP5, Technology.GOWIN):
            return self.storage == "block"
        return self.tech is Technology.ICE40 and self.storage != "spram"

    @property
    def slices(self) -> tuple[BramSlice, ...]:
        """The block RAM cells, lowest bits first; empty for the portable, LUT RAM and single-port forms."""
        return slices_of(self.tech, self.memory, self.block, self.width, self.depth) if self._cells else ()

    def model(self, writes: Sequence[tuple[bool, int, int]], reads: Sequence[int]) -> list[int]:
        """Return the word of each cycle's read (LATENCY later); one write (en, addr, data) a cycle."""
        words = list(self.init) + [0] * (self.depth - len(self.init))
        out = []
        for (enable, address, value), read in zip(writes, reads, strict=True):
            out.append(words[read])
            if enable:
                words[address] = value
        return out

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        write = self.wr_en, self.wr_addr, self.wr_data
        for cell in self.slices:
            data = _FORMS[self.tech](m, cell, self.init, write, self.rd_addr)
            m.d.comb += self.rd_data[cell.first_bit : cell.first_bit + cell.bits].eq(data)
        if self._cells:
            return m
        if self.tech is Technology.ICE40:
            self._spram(m)
        else:
            self._portable(m)
        return m

    def _portable(self, m: Module) -> None:
        style = {"ram_style": "distributed"} if self.tech in (Technology.ECP5, Technology.GOWIN) else {}
        m.submodules.array = array = Memory(shape=self.width, depth=self.depth, init=self.init, attrs=style)
        write, read = write_port(array), read_port(array)
        m.d.comb += [
            write.en.eq(self.wr_en),
            write.addr.eq(self.wr_addr),
            write.data.eq(self.wr_data),
            read.addr.eq(self.rd_addr),
            read.en.eq(~self.wr_en if self.storage == "spram" else 1),
        ]
        m.d.sync += self.rd_data.eq(read.data)

    def _spram(self, m: Module) -> None:
        address = Signal(14, name="address")
        m.d.comb += address.eq(Mux(self.wr_en, self.wr_addr, self.rd_addr))
        for first in range(0, self.width, _SPRAM_BITS):
            bits = min(_SPRAM_BITS, self.width - first)
            data = Signal(_SPRAM_BITS, name=f"spram_data_{first}")
            m.submodules[f"spram_{self.memory}_{self.block}_{first}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_ADDRESS=address,
                i_WREN=self.wr_en,
                i_CHIPSELECT=Const(1),
                i_DATAIN=Cat(self.wr_data[first : first + bits], Const(0, 16))[:16],
                i_MASKWREN=Const(0xF, 4),
                i_STANDBY=Const(0),
                i_SLEEP=Const(0),
                i_POWEROFF=Const(1),
                o_DATAOUT=data,
            )
            m.d.sync += self.rd_data[first : first + bits].eq(data[:bits])


class MemoryBank(wiring.Component):
    """A memory of any depth: one `BlockRam`, or several one after the other where the device's are shallower.

    Ports and timing of `BlockRam`. The cells of a memory that takes more than one are not in any memory map:
    its contents are loaded, never patched into a bitstream.

    Members
    -------
    wr_en : In(1)
        Write a word.
    wr_addr : In(range(depth))
        Its address.
    wr_data : In(width)
        The word.
    rd_addr : In(range(depth))
        The address to read.
    rd_data : Out(width)
        The word there, LATENCY cycles later.
    """

    LATENCY = BlockRam.LATENCY

    def __init__(
        self, width: int, depth: int, *, tech: Technology = Technology.PORTABLE, storage: str = "block",
        memory: str = "ram", block: int = 0,
    ) -> None:  # fmt: skip
        self.width, self.depth = width, depth
        whole = tech is Technology.PORTABLE or storage != "block"
        bank = depth if whole else max_depth(tech)
        self.banks = [
            BlockRam(width, min(bank, depth - first), tech=tech, storage=storage, memory=memory, block=block)
            for first in range(0, depth, bank)
        ]
        super().__init__(_ports(width, depth))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low = len(self.banks[0].rd_addr)
        chosen = delay(m, self.rd_addr[low:], self.LATENCY, name="chosen", reset_less=True)
        data: Value = self.banks[0].rd_data
        for i, bank in enumerate(self.banks):
            m.submodules[f"bank_{i}"] = bank
            m.d.comb += [
                bank.wr_en.eq(self.wr_en & (self.wr_addr[low:] == i)),
                bank.wr_addr.eq(self.wr_addr),
                bank.wr_data.eq(self.wr_data),
                bank.rd_addr.eq(self.rd_addr),
            ]
            if i:
                data = Mux(chosen == i, bank.rd_data, data)
        m.d.comb += self.rd_data.eq(data)
        return m


class PairedRam(wiring.Component):
    """Two blocks of ``depth`` words of ``width`` bits, read at the same address: on ECP5 the halves of one
    cell.

    ``rd_data[i]`` at cycle t + LATENCY is the word at ``addr`` of cycle t of block ``block + i``. With
    ``wr_en`` the word there of one block is written, ``wr_half`` says of which. ``wr_half`` must be low in
    every cycle that means to read; what a read returns in another is unspecified.

    :param width: 1 to 18.   :param depth: 2 to 512.
    :param memory: name of the memory, ``block``: even index of the first of the two blocks in it.

    Members
    -------
    addr : In(range(depth))
        The address to read or write.
    wr_en : In(1)
        Write a word.
    wr_half : In(1)
        Into the second block; low whenever a read is meant.
    wr_data : In(width)
        The word.
    rd_data : Out(width).array(2)
        The words of both blocks, LATENCY cycles later.
    """

    LATENCY = 2

    def __init__(
        self, width: int, depth: int, *, tech: Technology = Technology.PORTABLE, memory: str = "ram",
        block: int = 0,
    ) -> None:  # fmt: skip
        if not 1 <= width <= 18:
            raise ValueError(f"width must be 1 to 18, not {width}")
        if not 2 <= depth <= 512:
            raise ValueError(f"depth must be 2 to 512, not {depth}")
        if block % 2:
            raise ValueError(f"a pair begins with an even block, not {block}")
        self.width, self.depth, self.tech, self.memory, self.block = width, depth, tech, memory, block
        super().__init__(
            {
                "addr": In(range(depth)),
                "wr_en": In(1),
                "wr_half": In(1),
                "wr_data": In(width),
                "rd_data": Out(width).array(2),
            }
        )

    @property
    def slices(self) -> tuple[BramSlice, ...]:
        """The contents of the cell, an entry for each block; empty for the portable form."""
        if self.tech is not Technology.ECP5:
            return ()
        return pair_of(self.memory, self.block, self.width, self.depth)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        if self.tech is Technology.ECP5:
            where = Cat(self.addr, Const(0, 9))[:9]
            write = self.wr_en, Cat(where, self.wr_half), self.wr_data
            halves = paired_dp16kd(m, self.slices, write, where)
            m.d.comb += [port.eq(half) for port, half in zip(self.rd_data, halves, strict=True)]
            return m
        for half in range(2):
            m.submodules[f"array_{half}"] = array = Memory(shape=self.width, depth=self.depth, init=[])
            write, read = write_port(array), read_port(array)
            m.d.comb += [
                write.en.eq(self.wr_en & (self.wr_half == half)),
                write.addr.eq(self.addr),
                write.data.eq(self.wr_data),
                read.addr.eq(self.addr),
            ]
            m.d.sync += self.rd_data[half].eq(read.data)
        return m
