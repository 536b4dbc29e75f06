"""One-write one-read memories: block RAM, single-port RAM, distributed RAM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.tech import Technology

__all__ = ["BlockRam", "BramSlice"]


@dataclass(frozen=True)
class BramSlice:
    """What one block RAM cell of an ECP5 netlist holds.

    ``instance`` is the cell's name inside its ``BlockRam``; after flattening the netlist's cell is
    ``<path of the BlockRam>.<instance>``. Word ``first_word + i`` of memory ``memory``, block
    ``block``, bits ``first_bit .. first_bit + bits - 1``, is word ``i`` of the cell.
    """

    instance: str
    memory: str
    block: int
    first_word: int
    words: int
    first_bit: int
    bits: int


class BlockRam(wiring.Component):
    """A memory of ``depth`` words of ``width`` bits, one write and one read port, both in ``sync``.

    ``rd_data`` at cycle t + LATENCY is the word at ``rd_addr`` of cycle t, as of the writes of the
    cycles before t; a read and a write of the same address in the same cycle return nothing
    useful. LATENCY is 2 (array, then output register) in every form.

    :param storage: ``"block"``; ``"distributed"`` (LUT RAM on ECP5, block RAM on iCE40); ``"spram"``
        (iCE40 SB_SPRAM256KA, single port: a cycle that writes reads nothing useful; takes no ``init``).
    :param init: first words; the rest is 0.
    :param memory: name of the memory and ``block``: index of this block in it, both only for the
        names of the cells (``slices``).
    """

    LATENCY = 2

    def __init__(self, width: int, depth: int, *, tech: Technology = Technology.PORTABLE,
                 storage: str = "block", init: Iterable[int] = (), memory: str = "ram", block: int = 0) -> None:
        self.width, self.depth, self.tech, self.storage = width, depth, tech, storage
        self.init, self.memory, self.block = tuple(init), memory, block
        super().__init__({
            "wr_en": In(1),
            "wr_addr": In(range(depth)),
            "wr_data": In(width),
            "rd_addr": In(range(depth)),
            "rd_data": Out(width),
        })

    @property
    def slices(self) -> tuple[BramSlice, ...]:
        """The block RAM cells of the ECP5 form, in order of words, then bits; empty for other forms."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        raise NotImplementedError
