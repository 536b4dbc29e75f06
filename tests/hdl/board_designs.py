"""Small designs behind the real board shells, for tests of the build flow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib.memory import Memory

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.tech import Technology


class Blank(Elaboratable):
    """The ports that a shell needs, idle."""

    def __init__(self) -> None:
        self.rx, self.tx, self.loaded, self.busy, self.start = (Signal() for _ in range(5))
        self.flash_cs, self.flash_clk, self.flash_copi, self.flash_cipo = (Signal() for _ in range(4))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.tx.eq(self.rx)
        return m


class Identified(Blank):
    """Blank, with the bitstream ID in a memory."""

    def __init__(self, identity: bytes) -> None:
        super().__init__()
        self.identity = identity

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.submodules.ram = ram = Memory(shape=8, depth=64, init=bytes(7) + self.identity)
        read = ram.read_port()
        m.d.sync += read.addr.eq(read.addr + 1)
        m.d.comb += self.busy.eq(read.data.xor())
        return m


class Multiplying(Blank):
    """Holds one real product."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        a, b, product = Signal(12), Signal(12), Signal(24)
        m.d.sync += [
            a.eq(Cat(self.rx, a)),
            b.eq(Cat(a[-1], b)),
            product.eq(a * b),
            self.busy.eq(product.xor()),
        ]
        return m


class Link(Elaboratable):
    """A 1024 x 8 memory; as ``link.frame`` it is named like the link controller's."""

    def __init__(self, contents: bytes) -> None:
        self.contents = contents
        self.address, self.byte, self.write = Signal(10), Signal(8), Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = Memory(shape=8, depth=1024, init=self.contents)
        write, read = ram.write_port(), ram.read_port()
        m.d.comb += [
            read.addr.eq(self.address),
            self.byte.eq(read.data),
            write.addr.eq(~self.address),
            write.en.eq(self.write),
            write.data.eq(self.byte + 1),
        ]
        return m


SHAPES = {
    ("WEIGHT", 0): (18, 1024),
    ("WEIGHT", 1): (18, 1024),
    ("BANK", 0): (16, 700),
    ("EMBED", 3): (8, 4096),
}
"""Memories of ``Memories``: 18 bits, two blocks; 16 of 18 bits; 4-bit cells, two to a word."""


class Memories(Blank):
    """Block RAMs as the engine names them, with contents, and a link controller's RAM."""

    def __init__(self, contents: Mapping[tuple[str, int], list[int]], link: bytes) -> None:
        super().__init__()
        self.contents, self.link = contents, link

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        shift = Signal(18)
        count = Signal(14)
        m.d.sync += [count.eq(count + 1), shift.eq(Cat(self.rx, shift))]
        sums = []
        for (memory, block), (width, depth) in SHAPES.items():
            ram = BlockRam(
                width,
                depth,
                tech=Technology.ECP5,
                memory=memory,
                block=block,
                init=self.contents[memory, block],
            )
            m.submodules[f"{memory.lower()}_{block}"] = ram
            m.d.comb += [
                ram.wr_en.eq(shift[0]),
                ram.wr_addr.eq(count),
                ram.wr_data.eq(shift),
                ram.rd_addr.eq(count + 1),
            ]
            total = Signal(name=f"sum_{memory}_{block}")
            m.d.sync += total.eq(ram.rd_data.xor())
            sums.append(total)
        m.submodules.link = around = Module()
        around.submodules.frame = link = Link(self.link)
        m.d.comb += [link.address.eq(count[4:]), link.write.eq(shift[1])]
        m.d.sync += self.busy.eq(Cat(*sums, link.byte).xor())
        return m


def random_contents(seed: int) -> dict[tuple[str, int], list[int]]:
    """Random words for every memory of ``Memories``."""
    rng = np.random.default_rng(seed)
    return {key: rng.integers(0, 1 << width, depth).tolist() for key, (width, depth) in SHAPES.items()}
