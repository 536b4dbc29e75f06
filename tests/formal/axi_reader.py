"""The AXI reader: a legal burst at a time, and room in the FIFO for every beat that was asked for."""

from __future__ import annotations

from amaranth.hdl import Signal

from ternac.hdl.stream.reader import AxiReader
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

DEPTH, BURST, SPARE = 32, 8, 2
"""Words of the FIFO, beats of the longest burst, words that are never promised."""


def reader(fault: Fault | None, only: set[str] | None) -> Bench:
    """Any requests, any memory that gives a beat only where one is owed."""
    dut = AxiReader(32, depth=DEPTH, burst=BURST, outstanding=2, queue=2)
    b = Bench(dut, fault=fault, only=only)
    request = b.inner("queue.r_data")
    b.given("no_empty_request", ~b.inner("queue.r_rdy") | request[dut.address_bits :].any())
    promised, beat = b.inner("promised"), dut.m_axi_rvalid & b.inner("flight.r_rdy")
    owed = Signal(range(DEPTH + 1), name="owed")
    b.m.d.sync += owed.eq(owed + promised - beat)
    b.given("a_beat_is_owed", ~dut.m_axi_rvalid | (owed != 0))
    level = b.inner("words.inner_level") + b.inner("words.r_rdy")
    arvalid, araddr, arlen = dut.m_axi_arvalid, dut.m_axi_araddr, dut.m_axi_arlen
    place = araddr[2 : 2 + BURST.bit_length() - 1]
    waits = b.past(arvalid & ~dut.m_axi_arready)
    same = (araddr == b.past(araddr)) & (arlen == b.past(arlen))
    b.claim("request_held", ~waits | (arvalid & same))
    b.claim("ends_at_a_burst_s_edge", ~arvalid | (place + arlen < BURST))
    b.claim("never_stalls_the_bus", dut.m_axi_rready)
    b.claim("nothing_lost", ~beat | (b.inner("words.inner_level") < DEPTH - 1))
    b.held("words_held", dut.words)
    codes, state = b.codes(""), b.inner("fsm_state")
    length, left, at = b.inner("length"), b.inner("left"), b.inner("place")[: BURST.bit_length() - 1]
    b.invariant("room", b.inner("free") + level + owed == DEPTH - SPARE)
    b.invariant("sends", arvalid == (state == codes["SEND"]))
    b.invariant("to_do", ((state != codes["SIZE"]) & (state != codes["WAIT"])) | (left != 0))
    fits = (length != 0) & (length <= left) & (at + length <= BURST)
    b.invariant("length", (state != codes["WAIT"]) | fits)
    b.reached("burst", arvalid & (arlen != 0) & dut.m_axi_arready)
    b.reached("word", dut.words.valid & dut.words.ready)
    return b


PROOFS = [
    Proof(
        "axi_reader", f"`AxiReader`, 32 bits, {DEPTH} words, bursts of {BURST}", reader, bound=8, planted=40,
        cover=14, solvers=("yices",),
        faults={
            "request_held": Fault("m_axi_arvalid", 0, lambda b: b.dut.m_axi_arvalid),
            "ends_at_a_burst_s_edge": Fault("to_edge", BURST),
            "never_stalls_the_bus": Fault("m_axi_rready", lambda b: b.inner("words.r_rdy")),
            "nothing_lost": Fault("free", DEPTH - SPARE),
            "words_held": Fault("words.r_rdy", 0, lambda b: b.inner("words.r_rdy")),
        },
    ),
]  # fmt: skip
