"""Map from the memories' words to the block RAMs of a finished ECP5 bitstream.

The table is made once per build, from the names that ``BlockRam`` gives its cells and the numbers that
nextpnr gave them, and kept next to the bitstream as ``memories.json``. With it and the bitstream alone a
program can be baked in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ternac.compile.geometry import Geometry, Mem
from ternac.errors import BuildFailed
from ternac.hdl.cells.bram_cells import PAIR_WORDS
from ternac.hdl.cells.memory import BramSlice
from ternac.hdl.link.frames import PROGRAM_HASH, RAM_DEPTH
from ternac.hdl.netlist.bram_patch import Contents

LINK = "LINK"
"""Name of the link controller's RAM in a memory map; it holds identity and program hash."""

_NAMED = re.compile(r"(?:^|\.)bram_([A-Za-z]+)_(\d+)(p?)_(\d+)$")
_INFERRED = {
    re.compile(r"(?:^|\.)norm\.table(?:\$\d+)?\.0\.0$"): Mem.NORM.name,
    re.compile(r"(?:^|\.)link\.frame\.ram(?:\$\d+)?\.0\.0$"): LINK,
}


@dataclass(frozen=True)
class Cell:
    """Bits ``first_bit`` and up of block ``block`` of memory ``memory`` are in block RAM ``number``,
    ``cell_bits`` wide, from its word ``first_word`` on.
    """

    number: int
    memory: str
    block: int
    first_bit: int
    cell_bits: int
    first_word: int = 0

    def contents(self, words: Sequence[int]) -> Contents:
        """The block RAM's 2048 units of 9 bits for the words of the memory's block."""
        cut = BramSlice(
            "", self.memory, self.block, len(words), self.first_bit, self.cell_bits, self.cell_bits
        )
        units = np.array(cut.units([int(word) for word in words]), np.uint16)
        return np.roll(units, self.first_word * self.cell_bits // 9)

    def words(self, contents: Contents, count: int) -> NDArray[np.int64]:
        """Inverse of ``contents`` for cells of 9 or 18 bits: this cell's bits of the first ``count``
        words.
        """
        units = contents.astype(np.int64)
        if self.cell_bits == 18:
            return (units[::2] | units[1::2] << 9)[:count]
        if self.cell_bits == 9:
            return units[:count]
        raise BuildFailed(f"cannot read a cell of {self.cell_bits} bits", "only 9 and 18 bits are supported")


def locate(netlist: dict[str, Any], numbers: Mapping[str, int], top: str = "top") -> list[Cell]:
    """Cells of the loadable memories of a flat netlist; ``numbers``: cell name -> nextpnr's number.

    Block RAMs that hold anything else are left out. Raises BuildFailed when a memory that synthesis
    inferred was split over several cells.
    """
    cells = []
    for name, number in sorted(numbers.items(), key=lambda item: item[1]):
        parameters = netlist["modules"][top]["cells"][name]["parameters"]
        cell_bits = int(str(parameters["DATA_WIDTH_A"]), 2)
        named = _NAMED.search(name)
        if named:
            block, first_bit = int(named[2]), int(named[4])
            cells.append(Cell(number, named[1].upper(), block, first_bit, cell_bits))
            if named[3]:
                cells.append(Cell(number, named[1].upper(), block + 1, first_bit, cell_bits, PAIR_WORDS))
        for pattern, memory in _INFERRED.items():
            if pattern.search(name):
                cells.append(Cell(number, memory, 0, 0, cell_bits))
    for memory in _INFERRED.values():
        found = [cell for cell in cells if cell.memory == memory]
        if len(found) > 1:
            raise BuildFailed(
                f"memory {memory} is spread over {len(found)} block RAMs", "keep it within 18 Kbit"
            )
    return cells


def refuse_incomplete(cells: Sequence[Cell], geometry: Geometry) -> None:
    """Raise BuildFailed unless all bits of all loadable memories, and of the link's RAM, are in block RAM.

    Rows of an SDRAM wait in LUT RAM, which holds nothing of a program.
    """
    have = {(c.memory, c.block, c.first_bit + bit) for c in cells for bit in range(c.cell_bits)}
    want = {(LINK, 0, bit) for bit in range(8)}
    for mem in geometry.memories:
        if mem == Mem.ROWS and geometry.rows_in_luts:
            continue
        shape = geometry.memory(mem)
        want |= {(mem.name, block, bit) for block in range(shape.blocks) for bit in range(shape.bits)}
    if missing := sorted(want - have):
        memory, block, bit = missing[0]
        raise BuildFailed(
            f"memory {memory}, block {block}, bit {bit} is in no block RAM of the bitstream",
            "its cell must be named as BlockRam names it",
        )


def baked(cells: Sequence[Cell], memories: Mapping[Mem, NDArray[Any]]) -> dict[int, Contents]:
    """Block RAM number -> contents for a program image; memories that the image lacks start as zeros.

    Raises BuildFailed when the image has words for a memory that no block RAM holds.
    """
    known = {cell.memory for cell in cells}
    for memory, words in memories.items():
        if np.any(words) and memory.name not in known:
            raise BuildFailed(
                f"no block RAM holds memory {memory.name}", "the bitstream has another geometry"
            )
    out: dict[int, Contents] = {}
    for cell in cells:
        if cell.memory != LINK:
            blocks = memories.get(Mem[cell.memory])
            one_for_all = blocks is not None and len(blocks) == 1
            words = [] if blocks is None else blocks[0 if one_for_all else cell.block].tolist()
            contents = cell.contents(words)
            before = out.get(cell.number)
            out[cell.number] = contents if before is None else np.bitwise_or(before, contents)
    return out


def with_program_hash(
    cells: Sequence[Cell], contents: Mapping[int, Contents], program_hash: bytes
) -> dict[int, Contents]:
    """The link controller's RAM with another program hash, all else as it is in ``contents``.

    Raises BuildFailed when the bitstream has no such RAM.
    """
    link = [cell for cell in cells if cell.memory == LINK]
    if len(link) != 1 or link[0].number not in contents:
        raise BuildFailed(
            "the bitstream has no link controller RAM in block RAM", "build the bitstream again"
        )
    words = link[0].words(contents[link[0].number], RAM_DEPTH).tolist()
    words[PROGRAM_HASH : PROGRAM_HASH + len(program_hash)] = program_hash
    return {link[0].number: link[0].contents(words)}


def dumps(cells: Sequence[Cell]) -> str:
    """The table as JSON text, one cell a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(cell)) for cell in cells) + "\n]\n"


def loads(text: str) -> list[Cell]:
    """Inverse of ``dumps``; BuildFailed when the text is no such table."""
    try:
        return [Cell(**entry) for entry in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise BuildFailed(f"memories.json is damaged: {error}", "build the bitstream again") from None
