"""The engine's large memories with their loader ports: the ternary weights and the embedding."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.decode import TritDecoder
from ternac.hdl.cells.memory import MemoryBank, PairedRam
from ternac.hdl.cells.registers import delay, duplicate_register
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.ports import first_address_bits, write_layout

__all__ = ["EmbeddingMemory", "WeightMemory"]

PAIRS_A_REGISTER = 8
"""Block RAMs of one stage of the weight memory that share an address register."""
EMBED_BLOCKS_A_REGISTER = 3
"""Likewise for the embedding."""


def _storage(geometry: Geometry) -> str:
    return "spram" if geometry.weight_ram == "spram" else "block"


class WeightMemory(wiring.Component):
    """The trits of a weight word, those of stage j ``LATENCY + j`` cycles after its address.

    Where chains are folded or trits decoded they pass one more register (`Geometry.weight_register`).

    Members
    -------
    address : In(weight)
        The word.
    trits : Out(2 * columns * chains).array(chain)
        Of every stage: bit 2t is trit t's nonzero, bit 2t + 1 its negative.
    wr : In(write_layout)
        The loader's write.
    """

    AREA_PART = "array"
    LATENCY = 1 + MemoryBank.LATENCY

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        super().__init__(
            {
                "address": In(ceil_log2(g.weight_depth)),
                "trits": Out(2 * g.columns * g.chains).array(g.chain),
                "wr": In(write_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        g = self.geometry
        address: Value = self.address
        for j in range(g.chain):
            blocks = range(j * g.weight_blocks_per_stage, (j + 1) * g.weight_blocks_per_stage)
            word = (
                self._pairs(m, blocks, address)
                if g.weight_ram == "paired"
                else self._blocks(m, blocks, address)
            )
            if g.weight_code == "five":
                word = self._decoded(m, j, word)
            m.d.comb += self.trits[j].eq(
                delay(m, word, g.weight_register, name=f"trits_{j}", reset_less=True)
            )
            address = delay(m, address, name=f"address_{j + 1}", reset_less=True)
        return m

    def _blocks(self, m: Module, blocks: range, address: Value) -> Value:
        """Read ``blocks`` at ``address``, which passes a register."""
        shape = self.geometry.memory(Mem.WEIGHT)
        where = delay(m, address, name="where", reset_less=True)
        word: list[Value] = []
        for block in blocks:
            ram = MemoryBank(
                shape.bits, shape.depth, tech=self.tech, storage=_storage(self.geometry),
                memory=Mem.WEIGHT.name, block=block,
            )  # fmt: skip
            m.submodules[f"weight_{block}"] = ram
            m.d.comb += [
                ram.wr_en.eq(self.wr.en & (self.wr.mem == Mem.WEIGHT) & (self.wr.block == block)),
                ram.wr_addr.eq(self.wr.addr),
                ram.wr_data.eq(self.wr.data),
                ram.rd_addr.eq(where),
            ]
            word.append(ram.rd_data)
        return Cat(*word)

    def _pairs(self, m: Module, blocks: range, address: Value) -> Value:
        """Read ``blocks``, two in a block RAM, at ``address``, which passes a register.

        Neighbours share the words on their way in, and the address of a read or a write.
        """
        g = self.geometry
        pairs, word = blocks[::2], list[Value]()
        places = max(1, len(pairs) // PAIRS_A_REGISTER)
        copies = duplicate_register(m, self.wr, places, self.tech, f"weight_write_{blocks[0]}")
        for place, copy in enumerate(copies):
            near = data.View(write_layout(), copy)
            where = delay(m, Mux(near.en, near.addr[: len(address)], address), name="where", reset_less=True)
            half = delay(m, near.en & near.block[0], name="half", reset_less=True)
            written = delay(m, near.data, name="written", reset_less=True)
            enable = near.en & (near.mem == Mem.WEIGHT)
            for block in pairs[place * len(pairs) // places : (place + 1) * len(pairs) // places]:
                pair = PairedRam(
                    g.weight_block_bits, g.weight_depth, tech=self.tech, memory=Mem.WEIGHT.name, block=block
                )
                m.submodules[f"weight_{block}"] = pair
                chosen = enable & (near.block[1:] == block // 2)
                m.d.comb += [
                    pair.wr_en.eq(delay(m, chosen, name=f"chosen_{block}", reset_less=True)),
                    pair.wr_half.eq(half),
                    pair.wr_data.eq(written),
                    pair.addr.eq(where),
                ]
                word += [pair.rd_data[0], pair.rd_data[1]]
        return Cat(*word)

    def _decoded(self, m: Module, stage: int, word: Value) -> Value:
        """The trits of a stage's word of bytes, five to a byte."""
        trits: list[Value] = []
        for i in range(self.geometry.stage_bits // 8):
            decoder = TritDecoder(Encoding.FIVE, tech=self.tech)
            m.submodules[f"decode_{stage}_{i}"] = decoder
            m.d.comb += decoder.code.eq(word[8 * i : 8 * i + 8])
            trits += [bit for pair in zip(decoder.nz, decoder.neg, strict=True) for bit in pair]
        return Cat(*trits)


class EmbeddingMemory(wiring.Component):
    """The embedding byte of every column, ``LATENCY`` cycles after its address.

    Members
    -------
    address : In(a)
        The word.
    bytes : Out(ArrayLayout(8, columns))
        The byte of every column.
    wr : In(write_layout)
        The loader's write.
    """

    AREA_PART = "memories"
    LATENCY = 1 + MemoryBank.LATENCY

    def __init__(self, geometry: Geometry, *, tech: Technology = Technology.PORTABLE) -> None:
        g = self.geometry = geometry
        self.tech = tech
        super().__init__(
            {
                "address": In(first_address_bits(g)),
                "bytes": Out(data.ArrayLayout(8, g.columns)),
                "wr": In(write_layout()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self.geometry.memory(Mem.EMBED)
        places = -(-shape.blocks // EMBED_BLOCKS_A_REGISTER)
        addresses = duplicate_register(m, self.address, places, self.tech, "embed_address")
        writes = duplicate_register(m, self.wr, places, self.tech, "embed_write")
        words: list[Value] = []
        for block in range(shape.blocks):
            place = block * places // shape.blocks
            write = data.View(write_layout(), writes[place])
            chosen = self.wr.en & (self.wr.mem == Mem.EMBED) & (self.wr.block == block)
            ram = MemoryBank(
                shape.bits, shape.depth, tech=self.tech, storage=_storage(self.geometry),
                memory=Mem.EMBED.name, block=block,
            )  # fmt: skip
            m.submodules[f"embed_{block}"] = ram
            m.d.comb += [
                ram.wr_en.eq(delay(m, chosen, name=f"chosen_{block}", reset_less=True)),
                ram.wr_addr.eq(write.addr),
                ram.wr_data.eq(write.data),
                ram.rd_addr.eq(addresses[place]),
            ]
            words.append(ram.rd_data)
        m.d.comb += self.bytes.eq(Cat(*words))
        return m
