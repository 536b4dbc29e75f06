"""Block RAM cells: which bits of a memory each holds, its initial contents, its ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

from ternac.hdl.cells.tech import Technology

__all__ = [
    "PAIR_WORDS", "BramSlice", "dp16kd", "ebr", "max_depth", "pair_of", "paired_dp16kd", "sdp", "slices_of",
]  # fmt: skip

#: Enable, address and data of a write port.
Write = tuple[Value, Value, Value]

#: Words and width of one cell, narrowest depth first.
_MODES = {
    Technology.ECP5: ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    Technology.GOWIN: ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    Technology.ICE40: ((256, 16), (512, 8), (1024, 4), (2048, 2)),
}


PAIR_WORDS = 512
"""Words of either block in a cell that two blocks share."""


@dataclass(frozen=True)
class BramSlice:
    """The contents of one block RAM cell of a netlist.

    ``instance`` is the cell's name inside its ``BlockRam``; after flattening, the netlist's cell is
    ``<path of the BlockRam>.<instance>``. Bits ``first_bit .. first_bit + bits - 1`` of word i of block
    ``block`` of memory ``memory`` are word ``first_word + i`` of the cell, whose port is ``cell_bits`` wide.
    """

    instance: str
    memory: str
    block: int
    words: int
    first_bit: int
    bits: int
    cell_bits: int
    tech: Technology = Technology.ECP5
    first_word: int = 0
    """Word of the cell that is word 0 of the block."""

    def cut(self, words: Iterable[int]) -> list[int]:
        """The cell's words out of the block's words."""
        mask = (1 << self.bits) - 1
        return [word >> self.first_bit & mask for word in words]

    def units(self, words: Sequence[int]) -> list[int]:
        """Contents as the bitstream lists them, for the block's words; missing words are 0.

        ECP5: 2048 units of 9 bits; an 18-bit word is two units, words of 4 bits and fewer fill 8 bits of
        a unit. iCE40: 256 rows of 16 bits; word ``a`` of a w-bit port is in row ``a % 256``, bit
        i of it at ``i * (16 // w) + a // 256``.
        """
        cut = self.cut(words)
        if self.tech is Technology.ICE40:
            rows = [0] * 256
            for address, word in enumerate(cut):
                for i in range(self.bits):
                    rows[address % 256] |= (word >> i & 1) << (i * (16 // self.cell_bits) + address // 256)
            return rows
        if self.cell_bits == 18:
            units = [word >> shift & 0x1FF for word in cut for shift in (0, 9)]
        elif self.cell_bits == 9:
            units = cut
        else:
            per_unit = 8 // self.cell_bits
            cut += [0] * (-len(cut) % per_unit)
            units = [
                sum(cut[at + i] << i * self.cell_bits for i in range(per_unit))
                for at in range(0, len(cut), per_unit)
            ]
        return units + [0] * (2048 - len(units))

    def initvals(self, words: Sequence[int]) -> dict[str, int]:
        """The cell's contents as parameters, for the block's words.

        ECP5: ``INITVAL_00`` .. ``INITVAL_3F`` of 320 bits, each 16 pairs of units, a pair padded to 20 bits.
        iCE40: ``INIT_0`` .. ``INIT_F`` of 256 bits, each 16 rows.  Gowin: ``INIT_RAM_00`` ..
        ``INIT_RAM_3F``, words one after the other in 288 bits each, in 256 if narrower than a byte.
        """
        if self.tech is Technology.GOWIN:
            row = 288 if self.cell_bits >= 9 else 256
            packed = sum(word << i * self.cell_bits for i, word in enumerate(self.cut(words)))
            return {f"INIT_RAM_{i:02X}": packed >> i * row & (1 << row) - 1 for i in range(64)}
        units = self.units(words)
        if self.tech is Technology.ICE40:
            return {f"INIT_{i:X}": sum(units[i * 16 + j] << j * 16 for j in range(16)) for i in range(16)}
        return {
            f"INITVAL_{i:02X}": sum(units[i * 32 + u] << (u // 2 * 20 + u % 2 * 9) for u in range(32))
            for i in range(64)
        }


def max_depth(tech: Technology) -> int:
    """Most words of one block RAM cell."""
    return _MODES[tech][-1][0]


def slices_of(tech: Technology, memory: str, block: int, width: int, depth: int) -> tuple[BramSlice, ...]:
    """Cells of a memory block, lowest bits first, each as wide as the depth allows."""
    cell_bits = next(bits for words, bits in _MODES[tech] if depth <= words)
    return tuple(
        BramSlice(
            f"bram_{memory}_{block}_{first}",
            memory,
            block,
            depth,
            first,
            min(cell_bits, width - first),
            cell_bits,
            tech,
        )
        for first in range(0, width, cell_bits)
    )


def dp16kd(m: Module, cell: BramSlice, init: Sequence[int], write: Write, address: Value) -> Signal:
    """Add an ECP5 cell to ``m``; returns its ``bits`` of read data. Port A writes, port B reads."""
    enable, wr_addr, wr_data = write
    # The two lowest address bits of an 18-bit port are its byte enables.
    low = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[cell.cell_bits]
    below = Const(0b0011 if low == 4 else 0, low)
    data = Signal(cell.bits, name=f"{cell.instance}_data")
    wiring: dict[str, Any] = {
        "p_DATA_WIDTH_A": cell.cell_bits,
        "p_DATA_WIDTH_B": cell.cell_bits,
        "p_REGMODE_A": "NOREG",
        "p_REGMODE_B": "OUTREG",
        "p_RESETMODE": "SYNC",
        "p_ASYNC_RESET_RELEASE": "SYNC",
        "p_GSR": "DISABLED",
        "p_CSDECODE_A": "0b000",
        "p_CSDECODE_B": "0b000",
        "p_WRITEMODE_A": "NORMAL",
        "p_WRITEMODE_B": "NORMAL",
        "p_CLKAMUX": "CLKA",
        "p_CLKBMUX": "CLKB",
    }
    for name, value in cell.initvals(init).items():
        wiring[f"p_{name}"] = Const(value, 320)
    for port, write_enable, where in (("A", enable, wr_addr), ("B", Const(0), address)):
        place = Cat(below, where, Const(0, 14))
        wiring |= {f"i_AD{port}{bit}": place[bit] for bit in range(14)}
        wiring |= {f"i_CS{port}{bit}": Const(0) for bit in range(3)}
        wiring |= {
            f"i_CLK{port}": ClockSignal(),
            f"i_CE{port}": Const(1),
            f"i_OCE{port}": Const(1),
            f"i_WE{port}": write_enable,
            f"i_RST{port}": Const(0),
        }
    for bit in range(18):
        wiring[f"i_DIA{bit}"] = wr_data[cell.first_bit + bit] if bit < cell.bits else Const(0)
        wiring[f"i_DIB{bit}"] = Const(0)
    wiring |= {f"o_DOB{bit}": data[bit] for bit in range(cell.bits)}
    m.submodules[cell.instance] = Instance("DP16KD", **wiring)
    return data


def pair_of(memory: str, block: int, width: int, depth: int) -> tuple[BramSlice, BramSlice]:
    """The two blocks, ``block`` and the next, that share an ECP5 cell: from word 0 and from word
    `PAIR_WORDS`.
    """
    name = f"bram_{memory}_{block}p_0"
    first, second = (
        BramSlice(name, memory, block + i, depth, 0, width, 18, first_word=PAIR_WORDS * i) for i in range(2)
    )
    return first, second


def paired_dp16kd(
    m: Module, pair: Sequence[BramSlice], write: Write, address: Value
) -> tuple[Signal, Signal]:
    """Add a cell whose port A, at the address in ``write`` (10 bits), writes or reads, and whose port B reads
    ``address`` (9 bits) of the upper half; returns what they read.
    """
    enable, wr_addr, wr_data = write
    cell = pair[0]
    wiring: dict[str, Any] = {
        "p_DATA_WIDTH_A": 18,
        "p_DATA_WIDTH_B": 18,
        "p_REGMODE_A": "OUTREG",
        "p_REGMODE_B": "OUTREG",
        "p_RESETMODE": "SYNC",
        "p_ASYNC_RESET_RELEASE": "SYNC",
        "p_GSR": "DISABLED",
        "p_CSDECODE_A": "0b000",
        "p_CSDECODE_B": "0b000",
        "p_WRITEMODE_A": "NORMAL",
        "p_WRITEMODE_B": "NORMAL",
        "p_CLKAMUX": "CLKA",
        "p_CLKBMUX": "CLKB",
    }
    for name, value in cell.initvals(()).items():
        wiring[f"p_{name}"] = Const(value, 320)
    found = []
    for port, where, write_enable in (("A", wr_addr, enable), ("B", Cat(address, Const(1, 1)), Const(0))):
        place = Cat(Const(0b0011, 4), where)
        wiring |= {f"i_AD{port}{bit}": place[bit] for bit in range(14)}
        wiring |= {f"i_CS{port}{bit}": Const(0) for bit in range(3)}
        wiring |= {
            f"i_CLK{port}": ClockSignal(),
            f"i_CE{port}": Const(1),
            f"i_OCE{port}": Const(1),
            f"i_WE{port}": write_enable,
            f"i_RST{port}": Const(0),
        }
        data = Signal(cell.bits, name=f"{cell.instance}_data_{port.lower()}")
        for bit in range(18):
            wiring[f"i_DI{port}{bit}"] = wr_data[bit] if port == "A" and bit < cell.bits else Const(0)
        wiring |= {f"o_DO{port}{bit}": data[bit] for bit in range(cell.bits)}
        found.append(data)
    m.submodules[cell.instance] = Instance("DP16KD", **wiring)
    return found[0], found[1]


def ebr(m: Module, cell: BramSlice, init: Sequence[int], write: Write, address: Value) -> Signal:
    """Add an iCE40 cell to ``m``; returns its ``bits`` of read data, registered in logic."""
    enable, wr_addr, wr_data = write
    spread = 16 // cell.cell_bits
    # In the narrow modes bit i has this pin of its group, whichever bit of the group the address chooses.
    pin = {16: 0, 8: 0, 4: 1, 2: 3}[cell.cell_bits]
    into: list[Value] = [Const(0, 1)] * 16
    for i in range(cell.bits):
        into[i * spread + pin] = wr_data[cell.first_bit + i]
    out = Signal(16, name=f"{cell.instance}_row")
    data = Signal(cell.bits, name=f"{cell.instance}_data")
    m.submodules[cell.instance] = Instance(
        "SB_RAM40_4K",
        p_READ_MODE=spread.bit_length() - 1,
        p_WRITE_MODE=spread.bit_length() - 1,
        **{f"p_{name}": Const(value, 256) for name, value in cell.initvals(init).items()},
        i_RCLK=ClockSignal(),
        i_RCLKE=Const(1),
        i_RE=Const(1),
        i_RADDR=Cat(address, Const(0, 11))[:11],
        i_WCLK=ClockSignal(),
        i_WCLKE=enable,
        i_WE=Const(1),
        i_WADDR=Cat(wr_addr, Const(0, 11))[:11],
        i_WDATA=Cat(*into),
        i_MASK=Const(0, 16),
        o_RDATA=out,
    )
    m.d.sync += data.eq(Cat(*(out[i * spread + pin] for i in range(cell.bits))))
    return data


def sdp(m: Module, cell: BramSlice, init: Sequence[int], write: Write, address: Value) -> Signal:
    """Add a Gowin cell to ``m``; returns its ``bits`` of read data, registered in logic.

    Its own output register is not used: not every device of the family has one that works.
    """
    enable, wr_addr, wr_data = write
    nine = cell.cell_bits >= 9
    lanes = 36 if nine else 32
    low = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[cell.cell_bits]
    # The two lowest address bits of an 18-bit port are its byte enables.
    below = Const(0b0011 if low == 4 else 0, low)
    out = Signal(lanes, name=f"{cell.instance}_row")
    data = Signal(cell.bits, name=f"{cell.instance}_data")
    m.submodules[cell.instance] = Instance(
        "SDPX9B" if nine else "SDPB",
        p_READ_MODE=Const(0, 1),
        p_BIT_WIDTH_0=cell.cell_bits,
        p_BIT_WIDTH_1=cell.cell_bits,
        p_BLK_SEL_0=Const(0, 3),
        p_BLK_SEL_1=Const(0, 3),
        p_RESET_MODE="SYNC",
        **{f"p_{name}": Const(value, 288 if nine else 256) for name, value in cell.initvals(init).items()},
        i_CLKA=ClockSignal(),
        i_CEA=enable,
        i_RESETA=Const(0),
        i_BLKSELA=Const(0, 3),
        i_ADA=Cat(below, wr_addr, Const(0, 14))[:14],
        i_DI=Cat(wr_data[cell.first_bit : cell.first_bit + cell.bits], Const(0, lanes))[:lanes],
        i_CLKB=ClockSignal(),
        i_CEB=Const(1),
        i_RESETB=Const(0),
        i_OCE=Const(1),
        i_BLKSELB=Const(0, 3),
        i_ADB=Cat(Const(0, low), address, Const(0, 14))[:14],
        o_DO=out,
    )
    m.d.sync += data.eq(out[: cell.bits])
    return data
