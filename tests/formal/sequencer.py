"""The sequencer: no more passes than places, no done without a start, no claim of room that is not there."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Mux, Signal

from ternac.compile.geometry import PRESETS, Geometry
from ternac.hdl.engine.fetch import FETCH
from ternac.hdl.engine.issue import most_in_lane
from ternac.hdl.engine.ports import pass_slots
from ternac.hdl.engine.sequencer import Sequencer
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

DOT_DELAY = 9
"""Cycles from a row's last word to its first element, as in an engine."""


def sequencer(geometry: Geometry, fault: Fault | None, only: set[str] | None) -> Bench:
    """Any microcode, any number of contexts, any time that passes take."""
    dut = Sequencer(geometry, dot_delay=DOT_DELAY)
    b = Bench(dut, fault=fault, only=only)
    for half in range(2):  # the microcode: any word at any read
        b.cut(f"fetch.program_{half}.rd_data")
    slots, many = pass_slots(geometry), range(geometry.contexts)
    index, current = b.inner("in_flight.index"), b.inner("turns.current")
    accept, leave, complete = b.inner("in_flight.accept"), b.inner("turns.leave"), b.inner("fetch.complete")
    step, on_way = b.inner("fetch.step"), b.inner("in_flight.on_way")
    begun = dut.running.bit_select(current, 1)

    # The neighbours: who starts rests, a place is given back that is taken, room comes back that was claimed.
    b.given("a_start_is_of_one_that_rests", ~dut.start | ~Array(dut.running)[dut.start_context])
    b.given("a_context_that_is_there", dut.start_context < geometry.contexts)
    taken = [Signal(name=f"taken_{k}") for k in range(slots)]
    for k in range(slots):
        with b.m.If(accept & (index == k)):
            b.m.d.sync += taken[k].eq(1)
        with b.m.Elif(dut.retire & (dut.retire_index == k)):
            b.m.d.sync += taken[k].eq(0)
    b.given("retires_what_is_there", ~dut.retire | Array(taken)[dut.retire_index])

    if geometry.lane_depth:  # so many passes of a context are on their way to the x buffer, at most
        most = most_in_lane(geometry, dot_delay=DOT_DELAY)
        enters, retired = b.inner("in_flight.to_x") & accept, dut.lane_retire
        for k in many:
            inside = Signal(4, name=f"inside_{k}")
            enter, leaves = enters & (current == k), retired & (dut.lane_context == k)
            b.m.d.sync += inside.eq(inside + enter - leaves)
            b.given(f"the_lane_retires_what_entered_{k}", ~leaves | (inside > b.past(enter)))
            b.given(f"the_lane_has_room_for_{k}", ~enter | (inside < most))
            counted = b.inner(f"in_flight.in_lane_{k}") + b.past(enter)
            b.invariant(f"inside_{k}", (inside == counted) & (inside <= most))
        b.given("of_a_context_that_is_there", dut.lane_context < geometry.contexts)

    running = [Signal(name=f"running_{k}") for k in many]
    for k in many:
        with b.m.If(dut.start & (dut.start_context == k)):
            b.m.d.sync += running[k].eq(1)
        with b.m.Elif(leave & (current == k)):
            b.m.d.sync += running[k].eq(0)
    due = [Signal(name=f"due_{k}") for k in many]  # a done is to come
    for k in many:
        with b.m.If(dut.done & (dut.done_context == k)):
            b.m.d.sync += due[k].eq(0)
        with b.m.If(dut.start & (dut.start_context == k)):
            b.m.d.sync += due[k].eq(1)

    b.claim("never_more_passes_than_places", ~accept | ~Array(taken)[index])
    b.claim("a_pass_is_of_one_that_runs", ~accept | Array(running)[current])
    b.claim("no_done_without_start", ~dut.done | Array(due)[dut.done_context])
    b.claim("nothing_left_at_its_end", ~leave | ~b.inner("in_flight.pending"))
    b.claim("queue_of_one", ~(b.inner("elements.queue") & b.inner("elements.queued")))
    left = b.inner("elements.active") | b.inner("elements.queued")
    b.claim("elements_of_one_pass", ~(b.inner("elements.bank") & left))
    gap = Signal(range(FETCH + 1), init=FETCH, name="since_accept")
    with b.m.If(accept | leave):
        b.m.d.sync += gap.eq(0)
    with b.m.Elif(gap < FETCH):
        b.m.d.sync += gap.eq(gap + 1)
    b.claim("passes_are_a_fetch_apart", ~accept | (gap == FETCH))
    if geometry.lane_depth:
        free = Signal(range(geometry.lane_depth + 1), init=geometry.lane_depth, name="free")
        comes = b.free(name="comes")  # a slot of the side lane is free again
        b.m.d.sync += free.eq(free - Mux(dut.claim, dut.claim_slots, 0) + comes)
        b.given("room_comes_back_once", ~comes | (free < geometry.lane_depth))
        b.given("room", dut.room == free)
        b.claim("no_claim_beyond_the_room", ~dut.claim | (dut.claim_slots <= free))

    for k in range(slots):
        b.invariant(f"on_way_{k}", on_way[k] == taken[k])
    for k in many:
        b.invariant(f"runs_{k}", dut.running[k] == running[k])
        b.invariant(f"due_{k}", due[k] == (running[k] | dut.done & (dut.done_context == k)))
    b.invariant("done_rests", ~dut.done | ~Array(running)[dut.done_context])
    b.invariant("place_is_free", ~((step != 0) | complete) | ~Array(taken)[index])
    b.invariant("fetches_for_one_that_runs", ~((step != 0) | complete) | begun)
    b.invariant("turn", b.inner("turns.fetching") == current)
    b.invariant("gap_counts", gap <= FETCH)
    b.invariant("fetch_takes_time", (gap >= FETCH) | ~complete & (step <= gap) | (gap == 0) & (step == 0))
    b.reached("all_places_taken", Cat(taken).all())
    b.reached("done", dut.done)
    return b


FAULTS = {
    "never_more_passes_than_places": Fault("in_flight.occupied", 0),
    "a_pass_is_of_one_that_runs": Fault("turns.running", -1),
    "no_done_without_start": Fault("done", lambda b: b.dut.start),
    "nothing_left_at_its_end": Fault("quiet", 1),
    "queue_of_one": Fault("elements.room", 1),
    "elements_of_one_pass": Fault("elements.idle", 1),
    "passes_are_a_fetch_apart": Fault("fetch.complete", lambda b: b.inner("fetch.step") > 3),
    "no_claim_beyond_the_room": Fault("arbiter.free", 1),
}
PROOFS = [
    Proof(
        f"sequencer_{name}", f"`Sequencer` of `{geometry}`, any microcode",
        partial(sequencer, PRESETS[geometry]), induction=5, bound=12, planted=56, cover=56,
        faults=FAULTS, solvers=("yices",),
    )
    for name, geometry in (("tiny", "tiny"), ("ecp5", "ecp5-25f"))
]  # fmt: skip
