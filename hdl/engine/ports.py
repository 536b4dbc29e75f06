"""The interfaces between the engine's parts: layouts of what they exchange, and the cycles they agree on."""

from __future__ import annotations

import enum

from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ternac.compile.geometry import Geometry
from ternac.compile.isa import LAYOUT, LIST_BITS, Instruction

PASS_FIELDS = (
    "source", "table_en", "table", "mul", "sub", "add", "stat", "to_logits", "to_bank", "to_x",
    "wide1", "wide2", "shift1", "shift2", "lane", "to_side", "pre", "post", "norm_table",
)  # fmt: skip
"""Instruction fields that the column pipelines need until the pass has been written."""
MEMORY_FIELDS = ("to_list", "arg", "to_rows", "mask")
"""Fields that only an engine with rows has."""
ROW_ADDRESS_BITS = 16
"""Width of an address in the rows of a column."""
UPDATE_AHEAD = 8
"""Cycles from the pulse that begins a slot of an update to the result that is taken away."""
MOVE_AHEAD = 2
"""Cycles from the start of a move of rows until the mover sees it."""
BASES = ("b", "c", "d")
"""Operand addresses that they need, too: the bank words of slot 0."""
PACE = 4
"""Cycles per element of a paced pass."""
STREAM_GAP = 19
"""Cycles from the last result of a NORM pass in the side lane to the first that streams back out of it."""
BACK_TO_BACK = 16
"""Slots from which a NORM pass may follow another one at once."""


class RowKind(enum.IntEnum):
    """What a pass that uses rows, or reads the list, does."""

    READ = 0
    """Sums rows."""
    LIST = 1
    """Takes digits from the list."""
    TOKEN = 2
    """Takes the token's digits."""
    UPDATE = 3
    """Takes its results away from rows."""
    MASK = 4
    """Keeps its results where a winner is."""


def first_address_bits(geometry: Geometry) -> int:
    """Return the width of operand A, which addresses a bank, the row corrections or the embedding; with rows
    also the program memory, for LOOP.
    """
    g = geometry
    return ceil_log2(max(g.bank_depth, g.bias_depth, g.embed_depth, g.program_depth if g.rows else 0))


def count_bits(geometry: Geometry) -> int:
    """Return the width of a pass's number of slots."""
    return bits_for(max(geometry.bank_depth, geometry.bias_depth))


def word_bits(geometry: Geometry) -> int:
    """Return the width of the address of an x buffer's word."""
    return max(1, ceil_log2(geometry.x_depth))


def pass_slots(geometry: Geometry) -> int:
    """Return how many passes may be in flight at the same time."""
    return 4 if geometry.contexts > 1 else 2


def row_late(geometry: Geometry, inst: Instruction) -> int:
    """Return the cycles by which a pass retires later than its last result: of an update, for its heads;
    of one that looks for winners, for the last of them.
    """
    if inst.to_rows:
        return inst.words
    return ceil_log2(geometry.columns) + 4 if inst.arg else 0


def context_bits(geometry: Geometry) -> int:
    """Return the width of a context's number."""
    return max(1, ceil_log2(geometry.contexts))


def write_layout() -> data.StructLayout:
    """One loader write: memory, block, word address, word."""
    return data.StructLayout({"en": 1, "mem": 3, "block": 8, "addr": 16, "data": 18})


def dot_layout(geometry: Geometry) -> data.StructLayout:
    """One word of a matrix row, issued to the weight memory, the x buffer and the dot units."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": 1,
            "last": 1,
            "weight": ceil_log2(geometry.weight_depth),
            "word": word_bits(geometry),
        }
    )


def element_layout(geometry: Geometry) -> data.StructLayout:
    """One element per pipeline: column ``turn`` of those that share it, of one slot of pass ``index``.

    ``first`` marks slot 0 at turn 0, ``last`` the last slot at every turn.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "index": ceil_log2(pass_slots(geometry)),
            "first": 1,
            "last": 1,
            "turn": ceil_log2(geometry.share),
            "a": first_address_bits(geometry),
        }
    )


def instruction_layout(geometry: Geometry) -> data.StructLayout:
    """The fields of an instruction that are needed until its pass begins."""
    g = geometry
    widths = {
        "count": count_bits(g),
        "words": LAYOUT["words"][2] if g.rows else bits_for(g.x_depth),
        "weight": ROW_ADDRESS_BITS if g.rows else ceil_log2(g.weight_depth),
        "a": first_address_bits(g),
        "x_src": 2 * LIST_BITS if g.rows else word_bits(g),
    }
    kept = (*PASS_FIELDS, *MEMORY_FIELDS, *BASES, "x_dst", "tail")
    return data.StructLayout(
        {name: widths.get(name, width) for name, (_, _, width) in LAYOUT.items() if name not in kept}
    )


def pass_layout(geometry: Geometry) -> data.StructLayout:
    """The fields of an instruction that are kept while its elements are in the pipelines, and its context."""
    names = (*PASS_FIELDS, *(MEMORY_FIELDS if geometry.rows else ()))
    fields: dict[str, Shape] = {name: unsigned(LAYOUT[name][2]) for name in names}
    fields |= dict.fromkeys(BASES, unsigned(ceil_log2(geometry.bank_depth)))
    fields |= {
        "x_dst": unsigned(max(word_bits(geometry), LIST_BITS if geometry.rows else 0)),
        "tail": unsigned(bits_for(geometry.columns)),
        "context": unsigned(context_bits(geometry)),
    }
    return data.StructLayout(fields)


def row_settings_layout(geometry: Geometry) -> data.StructLayout:
    """The settings of a pass that uses rows or reads the list, and its index and context.

    ``lists`` are the first words of both digits, ``base`` the word of row 0, ``group`` the slots of a group.
    """
    return data.StructLayout(
        {
            "kind": RowKind,
            "index": ceil_log2(pass_slots(geometry)),
            "context": context_bits(geometry),
            "heads": LAYOUT["words"][2],
            "lists": 2 * LIST_BITS,
            "bits": 4,
            "two": 1,
            "shared": 1,
            "stride": LAYOUT["norm_table"][2],
            "base": ROW_ADDRESS_BITS,
            "keep": 4,
            "group": ceil_log2(geometry.bank_depth),
            "token": 16,
        }
    )


def move_layout(geometry: Geometry) -> data.StructLayout:
    """The settings of a move of rows: ``sector`` of row 0, ``buffer``: first word in the row RAM; ``out``: to
    the SDRAM; ``bursts`` and ``step`` are log2 of what a row takes there and here.
    """
    return data.StructLayout(
        {
            "out": 1,
            "context": context_bits(geometry),
            "heads": LAYOUT["words"][2],
            "lists": 2 * LIST_BITS,
            "bits": 4,
            "two": 1,
            "bursts": 2,
            "step": LAYOUT["norm_table"][2],
            "sector": 16,
            "buffer": ceil_log2(geometry.rows),
        }
    )


def move_signature(geometry: Geometry) -> wiring.Signature:
    """What the engine gives and takes where rows live in an SDRAM, as `hdl.sdram.rows.RowMover` says."""
    return wiring.Signature(
        {
            "move": Out(1),
            "settings": Out(move_layout(geometry)),
            "retire": In(1),
            "rest": Out(1),
            "wr_en": Out(1),
            "wr_block": Out(8),
            "wr_addr": Out(16),
            "wr_data": Out(16),
            "rd_en": Out(1),
            "rd_block": Out(8),
            "rd_addr": Out(16),
            "rd_valid": In(1),
            "rd_data": In(16),
            "busy": In(1),
            "ready": In(1),
        }
    )


def lane_layout(geometry: Geometry) -> data.StructLayout:
    """The settings of a result's pass for x buffer and side lane; ``first`` and ``last`` of the pass."""
    fields = pass_layout(geometry)
    names = ("lane", "pre", "post", "norm_table", "tail", "x_dst", "context")
    return data.StructLayout({"first": 1, "last": 1} | {name: fields[name].shape for name in names})
