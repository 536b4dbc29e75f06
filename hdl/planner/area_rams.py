"""Block RAM of an engine, counted from its geometry: exactly what synthesis instantiates or infers.

Memories that the components cut into cells themselves are counted by the components' own rule
(`hdl/cells/bram_cells.py`); the few that yosys infers, by the widths of the vendor's block RAM.
"""

from __future__ import annotations

from ternac.compile.geometry import Geometry, Mem
from ternac.errors import DoesNotFit
from ternac.hdl.cells.bram_cells import BramSlice, max_depth, slices_of
from ternac.hdl.cells.tech import Technology
from ternac.hdl.link.frames import RAM_DEPTH

__all__ = ["block_rams", "sampler_in_block_ram", "single_port_rams"]

_C_BITS = 9
"""Bits of operand C, all that is read of the second copy of a bank."""
_LUT_RAM_COST = 4
_BLOCK_RAM_COST = 128
"""What yosys weighs a DPR16X4 and a DP16KD with when it chooses the form of a memory."""


def _cells(tech: Technology, width: int, depth: int, used: int | None = None) -> int:
    """Count the cells of ``depth`` words of ``width`` bits, split as in `MemoryBank`, of which the lowest ``used``
    bits are read."""
    most = max_depth(tech)
    banks = [min(most, depth - first) for first in range(0, depth, most)]
    wanted = width if used is None else used
    slices: list[BramSlice] = [s for bank in banks for s in slices_of(tech, "ram", 0, width, bank)]
    return sum(1 for cell in slices if cell.first_bit < wanted)


def sampler_in_block_ram(geometry: Geometry, tech: Technology) -> bool:
    """Whether yosys puts the sampler's logits in block RAM: on ECP5 only where that costs no more."""
    if tech is Technology.ICE40:
        return True
    bits, slots = 16 * geometry.columns, geometry.logit_slots
    lut_rams = -(-bits // 4) * -(-slots // 16)
    return _LUT_RAM_COST * lut_rams >= _BLOCK_RAM_COST * -(-bits // 36) * -(-slots // 512)


def block_rams(geometry: Geometry, tech: Technology) -> dict[str, int]:
    """Block RAM cells by memory, board and link included.

    Raises DoesNotFit where a memory is of a form or depth that the device has no cells for.
    """
    g, ice = geometry, tech is Technology.ICE40
    _check(g, tech)
    weights, embed = g.memory(Mem.WEIGHT), g.memory(Mem.EMBED)
    found = {
        "program": 2 * _cells(tech, 16, g.program_depth // 2),
        "bias": g.pipelines * _cells(tech, g.bias_bits, g.bias_depth * g.share),
        "bank": g.pipelines * _cells(tech, 16, g.bank_depth * g.share),
        "bank_c": g.pipelines * _cells(tech, 16, g.bank_depth * g.share, used=_C_BITS),
        "table": g.pipelines * _cells(tech, 16, g.tables * 256),
        "norm": -(-g.norm_tables * 256 // (512 if ice else 2048)),
        "exponential": 1,
        "link": RAM_DEPTH // 512 if ice else 1,
        "line": 0 if ice else 2,  # UartEngine's buffers, where the board's window is more than one
    }
    if g.weight_ram == "paired":
        found["weight"] = g.weight_blocks // 2
    elif g.weight_ram == "block":
        found["weight"] = weights.blocks * _cells(tech, weights.bits, weights.depth)
    if g.weight_ram != "spram":
        found["embed"] = embed.blocks * _cells(tech, embed.bits, embed.depth)
    if ice:
        found["x"] = g.chain * -(-8 * g.chains // 16)
        found["logits"] = -(-16 * g.columns // 16) * -(-g.logit_slots // 256)
    elif sampler_in_block_ram(g, tech):
        found["logits"] = -(-16 * g.columns // 36) * -(-g.logit_slots // 512)
    return found


def single_port_rams(geometry: Geometry) -> int:
    """iCE40 single-port RAM cells."""
    if geometry.weight_ram != "spram":
        return 0
    return sum(shape.blocks * -(-shape.bits // 16) for shape in map(geometry.memory, (Mem.WEIGHT, Mem.EMBED)))


def _check(g: Geometry, tech: Technology) -> None:
    if g.weight_ram == "spram" and tech is not Technology.ICE40:
        raise DoesNotFit(f"{g.name}: weights in single-port RAM, which {tech.value} does not have")
    if g.weight_ram == "paired" and tech is not Technology.ECP5:
        raise DoesNotFit(f"{g.name}: paired weight blocks, which {tech.value} has no form for")
    most = max_depth(tech)
    wide = most if g.weight_ram != "spram" else 1 << 14
    for what, depth, limit in (
        ("weight_depth", g.weight_depth, wide),
        ("embed_depth", g.embed_depth, wide),
        ("bank_depth * share", g.bank_depth * g.share, most),
        ("tables * 256", g.tables * 256, most),
        ("program_depth / 2", g.program_depth // 2, most),
    ):
        if depth > limit:
            raise DoesNotFit(f"{g.name}: {what} is {depth}, a memory of {tech.value} holds {limit} words")
