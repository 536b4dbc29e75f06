"""The register in a stream, in both of its forms."""

from __future__ import annotations

from functools import partial

from ternac.hdl.cells.registers import StreamRegister
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]


def register(cut: bool, fault: Fault | None, only: set[str] | None) -> Bench:
    """Nothing lost, doubled, reordered or changed; with room or a taker something always moves."""
    dut = StreamRegister(8, cut=cut)
    b = Bench(dut, fault=fault, only=only)
    i, o, full = dut.i, dut.o, b.inner("full")
    b.held("input_held", i, given=True)
    watch = b.watch(i, o, full, 2)
    b.claim("held", ~b.past(o.valid & ~o.ready) | (o.valid & (o.payload == b.past(o.payload))))
    b.claim("no_deadlock", o.valid | i.ready)
    if cut:
        b.claim("cut", i.ready == ~b.inner("full"))
    else:
        b.claim("one_a_cycle", ~o.ready | i.ready)
    b.invariant("watched_kept", ~watch.marked | (o.payload == watch.item))
    b.reached("full_and_waiting", o.valid & ~o.ready & i.valid)
    return b


FAULTS = {
    "nothing_invented": Fault("full", 1, lambda b: b.dut.o.ready),
    "in_order_unchanged": Fault("o__payload", lambda b: b.dut.i.payload, lambda b: b.dut.i.valid),
    "held": Fault("full", 0, lambda b: b.inner("full")),
    "no_deadlock": Fault("i__ready", lambda b: b.dut.o.ready),
}

PROOFS = [
    Proof(
        "register", "`StreamRegister`", partial(register, False), quick=True, bound=5, cover=5,
        faults=FAULTS | {"one_a_cycle": Fault("i__ready", lambda b: ~b.inner("full"))},
    ),
    Proof(
        "register_cut", "`StreamRegister`, cut", partial(register, True), quick=True, bound=5,
        cover=5, faults=FAULTS | {"cut": Fault("i__ready", lambda b: ~b.inner("full") | b.dut.o.ready)},
    ),
]  # fmt: skip
