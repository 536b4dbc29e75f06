"""The bytes that wait between UART and controller: two registers around a FIFO in block RAM."""

from __future__ import annotations

from amaranth.hdl import Value

from ternac.hdl.link.buffer import LINE_BUFFER, LineBuffer
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS", "fifo_word"]

WAKE = 4
"""Cycles at most until a byte in the buffer is offered."""


def fifo_word(b: Bench, path: str, depth: int, index: Value) -> Value:
    """Return the word of a buffered FIFO's memory that is read ``index`` words from now.

    States that its pointers and its level belong together. ``depth``: of its memory.
    """
    consume, produce = b.inner(f"{path}.consume"), b.inner(f"{path}.produce")
    level = b.inner(f"{path}.inner_level")
    ends = consume + level
    b.invariant(f"{path}_pointers", (consume < depth) & (produce < depth) & (level <= depth))
    b.invariant(f"{path}_level", (produce == ends) | (produce + depth == ends))
    at = consume + index
    wraps = at >= depth
    return b.word(f"{path}.storage", at - (wraps * depth))


def line_buffer(fault: Fault | None, only: set[str] | None) -> Bench:
    """Nothing lost, doubled, reordered or changed, at its full depth; and it takes that many bytes."""
    dut = LineBuffer()
    b = Bench(dut, fault=fault, only=only)
    i, o = dut.i, dut.o
    b.held("input_held", i, given=True)
    after, there = b.inner("after.full"), b.inner("ram.r_rdy")
    stored, before = b.inner("ram.inner_level"), b.inner("before.full")
    watch = b.watch(i, o, after + there + stored + before, 11)
    b.claim("held", ~b.past(o.valid & ~o.ready) | (o.valid & (o.payload == b.past(o.payload))))
    asleep = b.past((watch.inside != 0) & ~o.valid)
    for _ in range(WAKE - 1):
        asleep = b.past(asleep & (watch.inside != 0) & ~o.valid)
    b.claim("no_deadlock", ~asleep | o.valid | (watch.inside == 0))
    b.claim("room", i.ready | ~b.past(~i.ready) | (watch.inside >= LINE_BUFFER))

    # Where the watched byte is, from the way out to the way in.
    front = after + there
    word = fifo_word(b, "ram", LINE_BUFFER - 1, (watch.ahead - front)[:10])
    found = Value.cast(watch.item)
    here = watch.marked
    b.invariant("after", ~(here & after & (watch.ahead == 0)) | (o.payload == found))
    b.invariant("offered", ~(here & there & (watch.ahead == after)) | (b.inner("ram.r_data") == found))
    b.invariant("stored", ~(here & (watch.ahead >= front) & (watch.ahead < front + stored)) | (word == found))
    b.invariant("before", ~(here & (watch.ahead == front + stored)) | (b.inner("before.o__payload") == found))
    b.reached("two_bytes_wait", (watch.inside >= 5) & i.valid & i.ready)
    return b


PROOFS = [
    Proof(
        "line_buffer", f"`LineBuffer`, {LINE_BUFFER:,} bytes", line_buffer, induction=WAKE + 2, bound=12,
        cover=16, solvers=("yices",),
        faults={
            "nothing_invented": Fault("after.full", 1),
            "in_order_unchanged": Fault("ram.consume", 0),
            "held": Fault("after.full", 0, lambda b: b.inner("after.full")),
            "no_deadlock": Fault("ram.r_rdy", 0),
            "room": Fault("ram.w_rdy", lambda b: b.inner("ram.inner_level") < 2),
        },
    ),
]  # fmt: skip
