"""Running argmax over rows of logits, on their way into the sampler's memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, ValueLike, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

__all__ = ["Argmax", "element_index"]


def element_index(slot: Signal, column: Signal, columns: int) -> ValueLike:
    """``slot * columns + column`` by shifts and adds; a concatenation for a power of two."""
    if columns & (columns - 1) == 0:
        return Cat(column[: ceil_log2(columns)], slot)
    base = sum((slot << bit for bit in range(columns.bit_length()) if columns >> bit & 1), start=column)
    return base[: bits_for(columns * (1 << len(slot)) - 1)]


class Argmax(wiring.Component):
    """Largest of all elements seen since the row of slot 0, and its index; ties go to the lowest index.

    Keys are unsigned (a signed logit with its sign bit inverted). One row per cycle at best, any gaps.
    ``row_last`` marks the last row: only its first ``tail`` columns count. ``best`` is current
    :attr:`latency` cycles after the row that changes it, ``index`` a cycle later.

    Parameters
    ----------
    columns : keys a row.   slots : rows at most.

    ``latency`` is ceil_log2(columns) + 1 cycles.

    Members
    -------
    row_valid : In(1)
        A row.
    row_slot : In(slot)
        Its slot.
    row_last : In(1)
        It is the last one.
    keys : In(unsigned(16)).array(columns)
        Its keys.
    tail : In(tail)
        The columns of the last row, at least 1.
    best : Out(16)
        The largest key.
    index : Out(element)
        Its element.
    """

    def __init__(self, *, columns: int, slots: int) -> None:
        self.columns = columns
        self.slots = slots
        self.latency = ceil_log2(columns) + 1
        super().__init__(
            {
                "row_valid": In(1),
                "row_slot": In(ceil_log2(slots)),
                "row_last": In(1),
                "keys": In(unsigned(16)).array(columns),
                "tail": In(bits_for(columns)),
                "best": Out(16),
                "index": Out(bits_for(columns * slots - 1)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()

        # Nodes: (key, column, exists). The left one of a pair exists whenever the right one does.
        column_bits = max(1, ceil_log2(self.columns))
        nodes: list[tuple[ValueLike, ValueLike, ValueLike]] = []
        for c in range(self.columns):
            exists = Signal(name=f"exists_{c}")
            m.d.comb += exists.eq(~self.row_last | (self.tail > c))
            nodes.append((self.keys[c], c, exists))
        valid, slot = self.row_valid, self.row_slot
        level = 0
        while len(nodes) > 1:
            following: list[tuple[ValueLike, ValueLike, ValueLike]] = []
            for i in range(0, len(nodes), 2):
                name = f"{level}_{i // 2}"
                key, column = Signal(16, name=f"key_{name}"), Signal(column_bits, name=f"column_{name}")
                exists = Signal(name=f"exists_{name}")
                if i + 1 < len(nodes):
                    right = Signal(name=f"right_{name}")
                    m.d.comb += right.eq(nodes[i + 1][2] & (nodes[i + 1][0] > nodes[i][0]))
                    m.d.sync += [
                        key.eq(Mux(right, nodes[i + 1][0], nodes[i][0])),
                        column.eq(Mux(right, nodes[i + 1][1], nodes[i][1])),
                    ]
                else:
                    m.d.sync += [key.eq(nodes[i][0]), column.eq(nodes[i][1])]
                m.d.sync += exists.eq(nodes[i][2])
                following.append((key, column, exists))
            nodes = following
            valid_next, slot_next = Signal(name=f"valid_{level}"), Signal.like(slot, name=f"slot_{level}")
            m.d.sync += [valid_next.eq(valid), slot_next.eq(slot)]
            valid, slot = valid_next, slot_next
            level += 1

        key, column = nodes[0][0], nodes[0][1]
        best_slot, best_column = Signal.like(slot, name="best_slot"), Signal(column_bits, name="best_column")
        with m.If(valid & ((slot == 0) | (key > self.best))):
            m.d.sync += [self.best.eq(key), best_slot.eq(slot), best_column.eq(column)]
        m.d.sync += self.index.eq(element_index(best_slot, best_column, self.columns))
        return m
